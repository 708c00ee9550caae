package process_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"muelle/internal/container/process"
)

func TestParse(t *testing.T) {
	tests := map[string][]string{
		"":                 {"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"},
		"-ef":              {"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"},
		"aux":              {"USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"},
		"-o pid,comm=NAME": {"PID", "NAME"},
	}
	for in, want := range tests {
		cols, err := process.Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		titles := process.Titles(cols)
		if d := cmp.Diff(want, titles); d != "" {
			t.Errorf("%q: %s", in, d)
		}
	}
	if _, err := process.Parse("--forest"); !errdefs.IsNotImplemented(err) {
		t.Errorf("got %v", err)
	}
}

func TestRows(t *testing.T) {
	cols, err := process.Parse("-o pid,ppid")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := process.Rows(cols, []int{os.Getpid(), 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{strconv.Itoa(os.Getpid()), strconv.Itoa(os.Getppid())}}
	if d := cmp.Diff(want, rows); d != "" {
		t.Error(d)
	}
}
