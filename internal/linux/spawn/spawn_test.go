package spawn_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
)

func wait(t *testing.T, c *spawn.Child) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.Pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	unix.Close(c.PidFD)
	return ws
}

func shell(t *testing.T) string {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func TestStreamsAndStatus(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for range 50 {
		p := &spawn.Program{}
		p.Move(int(null.Fd()), int(out.Fd()), int(out.Fd()))
		p.ResetSignals()
		p.CloseOnExec(3)
		p.Exec(-1, shell(t), []string{"sh", "-c", "echo $A; ls /proc/self/fd | wc -l; exit 7"}, []string{"A=x", "PATH=/bin:/usr/bin"})
		c, err := spawn.Start(p, spawn.Options{Cgroup: -1})
		if err != nil {
			t.Fatal(err)
		}
		if ws := wait(t, c); ws.ExitStatus() != 7 {
			t.Fatalf("status %#x, want exit 7", ws)
		}
	}
	got, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 50*len("x\n4\n") || string(got[:4]) != "x\n4\n" {
		t.Errorf("output %q…", got[:4])
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name  string
		build func(p *spawn.Program)
		want  spawn.Error
	}{
		{"missing program", func(p *spawn.Program) {
			p.Exec(-1, "/nonexistent/x", []string{"x"}, nil)
		}, spawn.Error{What: "exec", Errno: syscall.ENOENT, Exec: true}},
		{"failing step", func(p *spawn.Program) {
			p.Do("close descriptor", unix.SYS_CLOSE, spawn.Int(-1))
			p.Exec(-1, "/bin/true", []string{"x"}, nil)
		}, spawn.Error{What: "close descriptor", Errno: syscall.EBADF}},
		{"killed on the way", func(p *spawn.Program) {
			p.Do("unblock", unix.SYS_RT_SIGPROCMASK, spawn.Int(unix.SIG_SETMASK), spawn.Pointer(p, new([64]byte)), spawn.Int(0), spawn.Int(8))
			p.Do("ask for the thread", unix.SYS_GETTID).Out(1)
			p.Do("die", unix.SYS_TKILL, spawn.In(1), spawn.Int(int(unix.SIGKILL)))
			p.Exec(-1, "/bin/true", []string{"x"}, nil)
		}, spawn.Error{What: "die", Errno: syscall.EPERM}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := &spawn.Program{}
			tt.build(p)
			_, err := spawn.Start(p, spawn.Options{Cgroup: -1})
			var e *spawn.Error
			if !errors.As(err, &e) || *e != tt.want {
				t.Errorf("got %#v, want %#v", err, tt.want)
			}
		})
	}
}

func TestJumps(t *testing.T) {
	p := &spawn.Program{}
	fail := func() { p.Do("must not run", unix.SYS_CLOSE, spawn.Int(-1)) }
	p.Do("succeed", unix.SYS_GETPID).Then(1)
	fail()
	p.Do("fail", unix.SYS_CLOSE, spawn.Int(-1)).Tolerate(2, syscall.ENOENT, syscall.EBADF)
	fail()
	fail()
	p.Do("fail anyhow", unix.SYS_CLOSE, spawn.Int(-1)).Optional()
	p.Exec(-1, shell(t), []string{"sh", "-c", "exit 3"}, nil)
	c, err := spawn.Start(p, spawn.Options{Cgroup: -1})
	if err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, c); ws.ExitStatus() != 3 {
		t.Errorf("status %#x", ws)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p := &spawn.Program{}
		p.Exec(-1, "/bin/true", []string{"true"}, nil)
		c, err := spawn.Start(p, spawn.Options{Cgroup: -1})
		if err != nil {
			b.Fatal(err)
		}
		var ws unix.WaitStatus
		if _, err := unix.Wait4(c.Pid, &ws, 0, nil); err != nil {
			b.Fatal(err)
		}
		unix.Close(c.PidFD)
	}
}
