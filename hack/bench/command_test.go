package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hanging is an engine whose command starts another, says its pid, and does not end.
func hanging(t *testing.T) (*engine, string) {
	t.Helper()
	pid := filepath.Join(t.TempDir(), "pid")
	return &engine{name: "Peer", path: "/bin/sh", prefix: []string{"-c", `sleep 1000 & echo $! >"$0"; wait`}}, pid
}

func TestDeadlineEndsTheWholeGroup(t *testing.T) {
	e, pid := hanging(t)
	err := e.cli(pid).within(300 * time.Millisecond).do()
	var late *deadlineError
	if !errors.As(err, &late) {
		t.Fatalf("got %v, want a deadline", err)
	}
	if want := "`peer " + pid[:min(len(pid), 75)]; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the error %q does not name the command: %s", err, want)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, n)
}

// gone waits until a process has ended; whose parent has, is reaped by another.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process %d of the command is there yet", pid)
}

func TestFailureQuotesTheCommand(t *testing.T) {
	e := &engine{name: "Peer", path: "/bin/sh", prefix: []string{"-c", "echo no such thing >&2; exit 3"}}
	if _, err := e.cli("rm", "x").output(); err == nil || err.Error() != "`peer rm x`: exit status 3: no such thing" {
		t.Errorf("got %v", err)
	}
}

// A peer that hangs costs its cells, and after the second row is not asked again; the
// rows of the others are whole.
func TestPeerThatHangsIsLeftOut(t *testing.T) {
	e, pid := hanging(t)
	good := &engine{name: "Muelle", path: "/bin/true"}
	table := table{engines: []*engine{good, e}, path: filepath.Join(t.TempDir(), "results.json")}
	asked := 0
	for _, name := range []string{"first", "second", "third"} {
		err := table.row(name, "", "ms", 3, func(e *engine) (float64, error) {
			if e.name == "Peer" {
				asked++
			}
			return e.cli(pid).within(200 * time.Millisecond).timed()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if asked != strikes {
		t.Errorf("the peer was asked %d times, want %d", asked, strikes)
	}
	all, err := readResults([]string{table.path})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"did not end within 200ms and was killed", "did not end within 200ms and was killed", "left out after 2 commands that did not end"} {
		row := all[0].Rows[i]
		if row.Cells["Muelle"].Value <= 0 {
			t.Errorf("%s: Muelle has no value", row.Name)
		}
		if got := row.Cells["Peer"].Note; !strings.Contains(got, want) {
			t.Errorf("%s: the note is %q, want %q", row.Name, got, want)
		}
	}
}

// What Muelle cannot do is no footnote.
func TestMuellesFailureEndsTheRun(t *testing.T) {
	table := table{engines: []*engine{{name: "Muelle", path: "/bin/false"}}}
	if err := table.row("row", "", "ms", 1, func(e *engine) (float64, error) { return e.cli().timed() }); err == nil {
		t.Error("no error")
	}
}

func TestSharedStopsAtTheFirstFailure(t *testing.T) {
	done := make([]bool, 50)
	if err := shared(len(done), 1, func(i int) error {
		done[i] = true
		if i == 2 {
			return errors.New("two")
		}
		return nil
	}); err == nil || err.Error() != "two" {
		t.Errorf("got %v", err)
	}
	if !done[0] || !done[1] || !done[2] || done[3] {
		t.Errorf("done: %v", done[:5])
	}
	n := make([]int, 50)
	if err := shared(len(n), 4, func(i int) error { n[i]++; return nil }); err != nil {
		t.Fatal(err)
	}
	for i, times := range n {
		if times != 1 {
			t.Errorf("%d was done %d times", i, times)
		}
	}
}

func TestDaemonThatStaysIsKilled(t *testing.T) {
	e := &engine{name: "Peer", proc: exec.Command("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do read x; done")}
	in, err := e.proc.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := e.proc.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.proc.Start(); err != nil {
		t.Fatal(err)
	}
	pid := e.proc.Process.Pid
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	var late *deadlineError
	if err := e.endWithin(200 * time.Millisecond); !errors.As(err, &late) {
		t.Errorf("got %v, want a deadline", err)
	}
	gone(t, pid)
	if err := e.end(); err != nil {
		t.Errorf("an engine without a daemon: %v", err)
	}
}
