package process_test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"muelle/internal/container/process"
)

func TestListByTheHostsPs(t *testing.T) {
	if _, err := exec.LookPath("ps"); err != nil {
		t.Fatal("this test needs ps (Debian: procps)")
	}
	self := os.Getpid()
	for _, tc := range []struct{ options, titles string }{
		{"-ef", "UID PID PPID C STIME TTY TIME CMD"},
		{"aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"},
		{"-o pid,args", "PID COMMAND"},
		{"-eo pid,nlwp,cmd", "PID NLWP CMD"},
	} {
		t.Run(tc.options, func(t *testing.T) {
			titles, rows, err := process.List(t.Context(), tc.options, []int{self})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(titles, " ") != tc.titles {
				t.Errorf("titles %q", titles)
			}
			if len(rows) != 1 || !slices.Contains(rows[0], strconv.Itoa(self)) || len(rows[0]) != len(titles) {
				t.Errorf("rows %q", rows)
			}
		})
	}
	for options, want := range map[string]string{
		"-o comm":          "Couldn't find PID field in ps output",
		"-o ppid=PID,comm": `specifying "ppid=PID" is not allowed`,
		"--nonsense":       "ps: error: unknown gnu long option",
	} {
		if _, _, err := process.List(t.Context(), options, []int{self}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", options, err, want)
		}
	}
}

func TestListWithoutPs(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	titles, rows, err := process.List(context.Background(), "-ef", []int{os.Getpid()})
	if err != nil || strings.Join(titles, " ") != "UID PID PPID C STIME TTY TIME CMD" || len(rows) != 1 {
		t.Errorf("%q %q %v", titles, rows, err)
	}
}
