package runtimetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"muelle/internal/runtime"
)

// digest counts and hashes what is written.
type digest struct {
	n   int64
	sum [32]byte
}

func (d *digest) of(r io.Reader) error {
	h := sha256.New()
	n, err := io.Copy(h, r)
	d.n = n
	copy(d.sum[:], h.Sum(nil))
	return err
}

// noise gives n reproducible bytes.
func noise(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), n)
}

func testStreams(t *testing.T, s *suite) {
	h := s.host(t)
	t.Run("100 MB through cat", func(t *testing.T) {
		const size = 100 << 20
		var want, got digest
		must(t, want.of(noise(size)))
		c := h.container("cat")
		c.OpenStdin, c.StdinOnce = true, true
		c.Log.Type = "none"
		r, w := io.Pipe()
		done := make(chan error, 1)
		c.Attach = []*runtime.Streams{{Stdin: noise(size), Stdout: w, Done: func(err error) { w.Close(); done <- err }}}
		task := h.start(t, c)
		must(t, got.of(r))
		must(t, <-done)
		if got != want {
			t.Errorf("got %d bytes %x, want %d bytes %x", got.n, got.sum[:4], want.n, want.sum[:4])
		}
		if e, err := task.Wait(ctxOf(t)); err != nil || e.Code != 0 {
			t.Errorf("got %+v, %v", e, err)
		}
	})
	t.Run("slow reader loses nothing", func(t *testing.T) {
		const lines = 200_000
		c := h.container("seq", "1", "200000")
		slowR, slowW := io.Pipe()
		done := make(chan error, 2)
		quick := &buffer{}
		c.Attach = []*runtime.Streams{
			{Stdout: slowW, Done: func(err error) { slowW.Close(); done <- err }},
			{Stdout: quick, Done: func(err error) { done <- err }},
		}
		task := h.start(t, c)
		one := make([]byte, 1)
		_, err := io.ReadFull(slowR, one)
		must(t, err)
		rest, err := io.ReadAll(slowR)
		must(t, err)
		must(t, <-done)
		must(t, <-done)
		slow := string(one) + string(rest)
		if n := strings.Count(slow, "\n"); n != lines || slow != quick.String() {
			t.Errorf("slow reader has %d lines, %d bytes, quick one %d bytes", n, len(slow), len(quick.String()))
		}
		_, err = task.Wait(ctxOf(t))
		must(t, err)
		log, err := os.ReadFile(c.Log.Path)
		must(t, err)
		if n := bytes.Count(log, []byte("\n")); n != lines {
			t.Errorf("log has %d lines", n)
		}
	})
	t.Run("a stuck reader delays neither exit nor log", func(t *testing.T) {
		c := h.container("sh", "-c", "head -c 60000 /dev/zero; echo end >&2")
		r, w := io.Pipe()
		done := make(chan error, 1)
		c.Attach = []*runtime.Streams{{Stdout: w, Done: func(err error) { w.Close(); done <- err }}}
		task := h.start(t, c)
		_, err := task.Wait(ctxOf(t))
		must(t, err)
		must(t, task.Delete(ctxOf(t)))
		all, err := io.ReadAll(r)
		must(t, err)
		must(t, <-done)
		if len(all) != 60000 {
			t.Errorf("reader has %d bytes", len(all))
		}
	})
	t.Run("input is half-closed", func(t *testing.T) {
		c := h.container("sh", "-c", "cat; echo after")
		c.OpenStdin, c.StdinOnce = true, true
		a := &attached{done: make(chan error, 1)}
		st := a.streams()
		st.Stdin = strings.NewReader("in\n")
		c.Attach = []*runtime.Streams{st}
		task := h.start(t, c)
		a.wait(t)
		if got := a.stdout.String(); got != "in\nafter\n" {
			t.Errorf("got %q", got)
		}
		_, err := task.Wait(ctxOf(t))
		must(t, err)
	})
	t.Run("input stays open without StdinOnce", func(t *testing.T) {
		c := h.container("sh", "-c", "read a; read b; echo $a$b")
		c.OpenStdin = true
		a := &attached{done: make(chan error, 1)}
		st := a.streams()
		st.Stdin = strings.NewReader("1\n")
		c.Attach = []*runtime.Streams{st}
		task := h.start(t, c)
		must(t, task.Attach(ctxOf(t), &runtime.Streams{Stdin: strings.NewReader("2\n")}))
		a.wait(t)
		// Two writers at once: either line may come first.
		if got := a.stdout.String(); got != "12\n" && got != "21\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("no input", func(t *testing.T) {
		if o := h.sh(t, "cat; readlink /proc/self/fd/0"); o.stdout != "/dev/null\n" {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("detach is not noticed", func(t *testing.T) {
		c := h.container("sh", "-c", "read a; echo got $a")
		c.OpenStdin = true
		task := h.start(t, c)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		r, _ := io.Pipe()
		must(t, task.Attach(ctx, &runtime.Streams{Stdin: r, Stdout: io.Discard, Done: func(err error) { done <- err }}))
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("detached with %v", err)
		}
		a := &attached{done: make(chan error, 1)}
		st := a.streams()
		st.Stdin = strings.NewReader("x\n")
		must(t, task.Attach(ctxOf(t), st))
		a.wait(t)
		if got := a.stdout.String(); got != "got x\n" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("failing reader is told", func(t *testing.T) {
		c := h.container("sh", "-c", "echo a; sleep 1000")
		done := make(chan error, 1)
		boom := errors.New("boom")
		c.Attach = []*runtime.Streams{{Stdout: failing{boom}, Done: func(err error) { done <- err }}}
		h.start(t, c)
		if err := <-done; !errors.Is(err, boom) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		c := h.container("sh", "-c", "tty; stty size; readlink /proc/self/fd/0; echo err >&2; test -c /dev/console && echo console; stat -c %t,%T /dev/console /dev/pts/0; read x; stty size; echo [$x]")
		c.Spec.Process.Terminal, c.OpenStdin = true, true
		c.ConsoleWidth, c.ConsoleHeight = 100, 30
		a := &attached{done: make(chan error, 1)}
		st := a.streams()
		r, w := io.Pipe()
		st.Stdin = r
		c.Attach = []*runtime.Streams{st}
		task := h.start(t, c)
		eventually(t, func() bool { return strings.Count(a.stdout.String(), "88,0") == 2 })
		must(t, task.Resize(ctxOf(t), 132, 43))
		_, err := w.Write([]byte("typed\n"))
		must(t, err)
		a.wait(t)
		w.Close()
		want := "/dev/pts/0\r\n30 100\r\n/dev/pts/0\r\nerr\r\nconsole\r\n88,0\r\n88,0\r\ntyped\r\n43 132\r\n[typed]\r\n"
		if got := a.stdout.String(); got != want {
			t.Errorf("got %q\nwant %q", got, want)
		}
	})
	t.Run("100 MB through a terminal", func(t *testing.T) {
		c := h.container("sh", "-c", "stty raw; head -c 20000000 /dev/zero; echo end")
		c.Spec.Process.Terminal = true
		c.Log.Type = "none"
		r, w := io.Pipe()
		c.Attach = []*runtime.Streams{{Stdout: w, Done: func(error) { w.Close() }}}
		h.start(t, c)
		n, err := io.Copy(io.Discard, r)
		must(t, err)
		if n != 20000004 {
			t.Errorf("got %d bytes", n)
		}
	})
	t.Run("a leftover process does not hold the end", func(t *testing.T) {
		c := h.container("sh", "-c", "sleep 1000 & echo a")
		if o := h.run(t, c); o.stdout != "a\n" {
			t.Errorf("got %+v", o)
		}
	})
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// eventually waits for something that nobody tells of.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
