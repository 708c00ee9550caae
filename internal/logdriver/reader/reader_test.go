package reader_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/jsonfile"
	"muelle/internal/logdriver/reader"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// write appends lines n, n+1 … with times a second apart.
func write(t *testing.T, cfg logdriver.Config, from, to int) {
	t.Helper()
	w, err := jsonfile.NewWriter(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := from; i < to; i++ {
		s := logdriver.Stdout
		if i%5 == 4 {
			s = logdriver.Stderr
		}
		if err := w.Write(s, fmt.Appendf(nil, "%d\n", i), start.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
}

func collect(t *testing.T, seq iter.Seq2[logdriver.Entry, error]) []int {
	t.Helper()
	got := []int{}
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		var n int
		fmt.Sscan(string(e.Line), &n)
		got = append(got, n)
	}
	return got
}

func span(from, to int) []int {
	s := []int{}
	for i := from; i < to; i++ {
		s = append(s, i)
	}
	return s
}

func rotating(t *testing.T) logdriver.Config {
	return logdriver.Config{Type: "json-file", Path: filepath.Join(t.TempDir(), "log"), MaxSize: 400, MaxFile: 20, Compress: true}
}

func TestReadOptions(t *testing.T) {
	cfg := rotating(t)
	write(t, cfg, 0, 40)
	for _, compressed := range []bool{false, true} {
		if compressed {
			if err := reader.Compress(cfg); err != nil {
				t.Fatal(err)
			}
		}
		for _, tt := range []struct {
			name string
			in   logdriver.ReadOptions
			want []int
		}{
			{"all", logdriver.ReadOptions{Tail: -1, Stdout: true, Stderr: true}, span(0, 40)},
			{"no tail", logdriver.ReadOptions{Tail: 0, Stdout: true, Stderr: true}, span(0, 0)},
			{"tail in the current file", logdriver.ReadOptions{Tail: 2, Stdout: true, Stderr: true}, span(38, 40)},
			{"tail across files", logdriver.ReadOptions{Tail: 17, Stdout: true, Stderr: true}, span(23, 40)},
			{"tail beyond all", logdriver.ReadOptions{Tail: 1000, Stdout: true, Stderr: true}, span(0, 40)},
			{"since and until", logdriver.ReadOptions{Tail: -1, Stdout: true, Stderr: true, Since: start.Add(7 * time.Second), Until: start.Add(9 * time.Second)}, span(7, 10)},
			{"stderr", logdriver.ReadOptions{Tail: 10, Stderr: true}, []int{34, 39}},
		} {
			t.Run(fmt.Sprintf("%s compressed=%v", tt.name, compressed), func(t *testing.T) {
				if diff := cmp.Diff(tt.want, collect(t, reader.Read(cfg, tt.in))); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestEveryTailLength(t *testing.T) {
	cfg := rotating(t)
	write(t, cfg, 0, 30)
	for n := range 32 {
		got := collect(t, reader.Read(cfg, logdriver.ReadOptions{Tail: n, Stdout: true, Stderr: true}))
		if diff := cmp.Diff(span(max(0, 30-n), 30), got); diff != "" {
			t.Errorf("tail %d: %s", n, diff)
		}
	}
}

func TestTornEntryIsPassedOver(t *testing.T) {
	cfg := rotating(t)
	cfg.MaxSize = 0
	write(t, cfg, 0, 2)
	f, err := os.OpenFile(cfg.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"log":"torn`+"\n")
	f.Close()
	write(t, cfg, 2, 3)
	if diff := cmp.Diff(span(0, 3), collect(t, reader.Read(cfg, logdriver.ReadOptions{Tail: -1, Stdout: true, Stderr: true}))); diff != "" {
		t.Error(diff)
	}
}

func TestFollowAcrossRotations(t *testing.T) {
	cfg := rotating(t)
	write(t, cfg, 0, 3)
	ended := make(chan struct{})
	got := make(chan []int)
	seen := make(chan int, 1000)
	go func() {
		all := []int{}
		for e, err := range reader.Follow(context.WithoutCancel(t.Context()), cfg, logdriver.ReadOptions{Tail: 2, Stdout: true, Stderr: true}, ended) {
			if err != nil {
				t.Error(err)
				break
			}
			var n int
			fmt.Sscan(string(e.Line), &n)
			all = append(all, n)
			seen <- n
		}
		got <- all
	}()
	<-seen // the follower has begun
	for i := 3; i < 60; i += 3 {
		write(t, cfg, i, i+3)
	}
	close(ended)
	if diff := cmp.Diff(span(1, 60), <-got); diff != "" {
		t.Error(diff)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	cfg := rotating(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	write(t, cfg, 0, 1)
	n := 0
	for range reader.Follow(ctx, cfg, logdriver.ReadOptions{Tail: -1, Stdout: true, Stderr: true}, nil) {
		n++
		cancel()
	}
	if n != 1 {
		t.Errorf("%d entries", n)
	}
}

func TestFollowBeforeTheFirstLine(t *testing.T) {
	cfg := rotating(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan int)
	go func() {
		n := 0
		for range reader.Follow(ctx, cfg, logdriver.ReadOptions{Tail: -1, Stdout: true, Stderr: true}, nil) {
			if n++; n == 5 {
				break
			}
		}
		got <- n
	}()
	write(t, cfg, 0, 5)
	if n := <-got; n != 5 {
		t.Errorf("%d entries", n)
	}
}

func TestNoneCannotBeRead(t *testing.T) {
	for _, err := range reader.Read(logdriver.Config{Type: "none"}, logdriver.ReadOptions{}) {
		if err == nil || err.Error() != "configured logging driver does not support reading" {
			t.Errorf("error %v", err)
		}
	}
}
