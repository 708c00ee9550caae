package spawn_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
)

func waiting(t *testing.T) *spawn.Program {
	t.Helper()
	p, err := spawn.Waiting()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A child waits where its list says, and nothing of what follows has happened then.
func TestPause(t *testing.T) {
	dir := t.TempDir()
	p := waiting(t)
	made := filepath.Join(dir, "made")
	p.Do("become session leader", unix.SYS_SETSID)
	p.Pause("wait")
	p.Do("make directory", unix.SYS_MKDIRAT, spawn.Int(unix.AT_FDCWD), p.String(made), spawn.Int(0o700))
	p.Pause("wait again")
	p.CloseOnExec(3)
	p.Exec(-1, shell(t), []string{"sh", "-c", "exit 5"}, nil)
	c, err := spawn.Begin(p, spawn.Options{Cgroup: -1})
	if err != nil {
		t.Fatal(err)
	}
	if sid, err := unix.Getsid(c.Pid); err != nil || sid != c.Pid {
		t.Errorf("session %d, %v: want the child's own, %d", sid, err, c.Pid)
	}
	if _, err := os.Stat(made); err == nil {
		t.Error("the child did not wait")
	}
	if err := c.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(made); err != nil {
		t.Error(err)
	}
	if err := c.Resume(); err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, &c.Child); ws.ExitStatus() != 5 {
		t.Errorf("status %#x, want exit 5", ws)
	}
}

// A killed child takes with it what had not happened, and leaves no zombie.
func TestPauseKilled(t *testing.T) {
	p := waiting(t)
	p.Pause("wait")
	p.Exec(-1, shell(t), []string{"sh", "-c", "exit 5"}, nil)
	c, err := spawn.Begin(p, spawn.Options{Cgroup: -1})
	if err != nil {
		t.Fatal(err)
	}
	pid := c.Pid
	c.Kill()
	if err := unix.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v, want %v", pid, err, syscall.ESRCH)
	}
}

func TestPauseErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		pauses int
		build  func(p *spawn.Program)
		want   spawn.Error
	}{
		"before the pause": {0, func(p *spawn.Program) {
			p.Do("close descriptor", unix.SYS_CLOSE, spawn.Int(-1))
			p.Pause("wait")
			p.Exec(-1, "/bin/true", []string{"true"}, nil)
		}, spawn.Error{What: "close descriptor", Errno: syscall.EBADF}},
		"after it": {1, func(p *spawn.Program) {
			p.Pause("wait")
			p.Do("close descriptor", unix.SYS_CLOSE, spawn.Int(-1))
			p.Exec(-1, "/bin/true", []string{"true"}, nil)
		}, spawn.Error{What: "close descriptor", Errno: syscall.EBADF}},
		"missing program": {1, func(p *spawn.Program) {
			p.Pause("wait")
			p.Exec(-1, "/nonexistent/x", []string{"x"}, nil)
		}, spawn.Error{What: "exec", Errno: syscall.ENOENT, Exec: true}},
		"a path with a NUL": {0, func(p *spawn.Program) {
			p.Pause("wait")
			p.Exec(-1, "/bin/\x00", []string{"x"}, nil)
		}, spawn.Error{What: "prepare child", Errno: syscall.EINVAL}},
	} {
		t.Run(name, func(t *testing.T) {
			before := openFiles(t)
			p := waiting(t)
			tt.build(p)
			c, err := spawn.Begin(p, spawn.Options{Cgroup: -1})
			for range tt.pauses {
				if err != nil {
					t.Fatal(err)
				}
				err = c.Resume()
			}
			var e *spawn.Error
			if !errors.As(err, &e) || *e != tt.want {
				t.Errorf("got %#v, want %#v", err, tt.want)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d descriptors, %d before", after, before)
			}
		})
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range list {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && !strings.HasSuffix(to, "/fd") {
			n++
		}
	}
	return n
}
