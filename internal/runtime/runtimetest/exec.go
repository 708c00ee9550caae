package runtimetest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
)

// execOf derives a process from the container's own.
func execOf(c *runtime.Container, args ...string) *specs.Process {
	p := *c.Spec.Process
	p.Args, p.Terminal = args, false
	return &p
}

func execRun(t testing.TB, task runtime.Task, p *specs.Process, o runtime.ExecOptions) outcome {
	t.Helper()
	a := &attached{done: make(chan error, 1)}
	in := o.Streams
	o.Streams = a.streams()
	if in != nil {
		o.Streams.Stdin = in.Stdin
	}
	o.ID = newID()
	proc, err := task.Exec(ctxOf(t), p, o)
	if err != nil {
		t.Fatalf("exec: %v", err)
	}
	exit, err := proc.Wait(ctxOf(t))
	must(t, err)
	a.wait(t)
	return outcome{exit, a.stdout.String(), a.stderr.String()}
}

func testExec(t *testing.T, s *suite) {
	h := s.host(t)
	c := h.container("sleep", "1000")
	task := h.start(t, c)
	s.run(t, "output and status", func(t *testing.T) {
		o := execRun(t, task, execOf(c, "sh", "-c", "echo out; echo err >&2; exit 9"), runtime.ExecOptions{})
		if o.exit.Code != 9 || o.stdout != "out\n" || o.stderr != "err\n" {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "is in the container", func(t *testing.T) {
		o := execRun(t, task, execOf(c, "sh", "-c", "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; hostname; cut -d: -f3 /proc/self/cgroup | sort -u"), runtime.ExecOptions{})
		var want strings.Builder
		for _, n := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup"} {
			l, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", task.Pid(), n))
			must(t, err)
			fmt.Fprintln(&want, l)
		}
		fmt.Fprintf(&want, "box\n%s\n", c.Spec.Linux.CgroupsPath)
		if o.stdout != want.String() {
			t.Errorf("got %q, want %q", o.stdout, want.String())
		}
	})
	s.run(t, "limit of files", func(t *testing.T) {
		p := execOf(c, "sh", "-c", "ulimit -n; ulimit -Hn")
		if o := execRun(t, task, p, runtime.ExecOptions{}); o.stdout != "1024\n"+hardFiles(t)+"\n" {
			t.Errorf("got %+v", o)
		}
		p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
		if o := execRun(t, task, p, runtime.ExecOptions{}); o.stdout != "100\n200\n" {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "identity", func(t *testing.T) {
		p := execOf(c, "sh", "-c", "id -u; id -G; pwd; grep -E '^(CapEff|CapBnd|CapInh|Seccomp):' /proc/self/status | cut -f2; ls /proc/self/fd | wc -l")
		p.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{7}}
		p.Capabilities = &specs.LinuxCapabilities{Bounding: defaultCaps}
		p.Cwd = "/home/u"
		o := execRun(t, task, p, runtime.ExecOptions{})
		if want := "1000\n1000 7\n/home/u\n0000000000000000\n0000000000000000\n00000000a80425fb\n2\n4\n"; o.stdout != want {
			t.Errorf("got %q, want %q", o.stdout, want)
		}
	})
	s.run(t, "privileged", func(t *testing.T) {
		o := execRun(t, task, execOf(c, "sh", "-c", "grep -E '^(CapEff|Seccomp):' /proc/self/status | cut -f2"), runtime.ExecOptions{Privileged: true})
		if strings.HasPrefix(o.stdout, "00000000a8") || !strings.HasSuffix(o.stdout, "\n0\n") {
			t.Errorf("got %q", o.stdout)
		}
	})
	s.run(t, "input", func(t *testing.T) {
		var want digest
		must(t, want.of(noise(5<<20)))
		o := execRun(t, task, execOf(c, "cat"), runtime.ExecOptions{OpenStdin: true, Streams: &runtime.Streams{Stdin: noise(5 << 20)}})
		var got digest
		must(t, got.of(strings.NewReader(o.stdout)))
		if got != want {
			t.Errorf("got %d bytes", got.n)
		}
	})
	s.run(t, "terminal", func(t *testing.T) {
		p := execOf(c, "sh", "-c", "tty; stty size; read x; echo [$x]")
		p.Terminal = true
		a := &attached{done: make(chan error, 1)}
		st := a.streams()
		r, w := io.Pipe()
		defer w.Close()
		st.Stdin = r
		proc, err := task.Exec(ctxOf(t), p, runtime.ExecOptions{ID: newID(), OpenStdin: true, Width: 90, Height: 20, Streams: st})
		must(t, err)
		eventually(t, func() bool { return strings.Contains(a.stdout.String(), "90") })
		must(t, proc.Resize(ctxOf(t), 91, 21))
		_, err = w.Write([]byte("x\n"))
		must(t, err)
		a.wait(t)
		if got, want := a.stdout.String(), "/dev/pts/0\r\n20 90\r\nx\r\n[x]\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	s.run(t, "signal", func(t *testing.T) {
		proc, err := task.Exec(ctxOf(t), execOf(c, "sleep", "1000"), runtime.ExecOptions{ID: newID()})
		must(t, err)
		if proc.Pid() <= 1 {
			t.Errorf("pid %d", proc.Pid())
		}
		must(t, proc.Signal(ctxOf(t), syscall.SIGTERM))
		e, err := proc.Wait(ctxOf(t))
		must(t, err)
		if e.Code != 143 || e.Signal != syscall.SIGTERM {
			t.Errorf("got %+v", e)
		}
		if err := proc.Signal(ctxOf(t), syscall.SIGTERM); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("signal after the end: %v", err)
		}
	})
	s.run(t, "a child in the background", func(t *testing.T) {
		o := execRun(t, task, execOf(c, "sh", "-c", "sleep 1000 & echo a; exit 3"), runtime.ExecOptions{})
		if o.stdout != "a\n" || o.exit.Code != 3 {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				if o := execRun(t, task, execOf(c, "echo", fmt.Sprint(i)), runtime.ExecOptions{}); o.stdout != fmt.Sprintln(i) {
					t.Errorf("got %+v", o)
				}
			})
		}
		wg.Wait()
	})
	for _, tt := range []struct {
		name string
		args []string
		cwd  string
		code int
		text string
	}{
		{"not in PATH", []string{"nope"}, "/", 127, `exec: "nope": executable file not found in $PATH`},
		{"not executable", []string{"/etc/passwd"}, "/", 126, `exec: "/etc/passwd": permission denied`},
		{"missing working directory", []string{"true"}, "/nope", 127, `chdir to cwd ("/nope"): no such file or directory`},
	} {
		s.run(t, tt.name, func(t *testing.T) {
			p := execOf(c, tt.args...)
			p.Cwd = tt.cwd
			_, err := task.Exec(ctxOf(t), p, runtime.ExecOptions{ID: newID(), Streams: &runtime.Streams{Stdout: io.Discard}})
			var se *runtime.StartError
			if !errors.As(err, &se) || se.Code != tt.code || se.Error() != tt.text && !s.env.Foreign {
				t.Errorf("got %v", err)
			}
		})
	}
	s.run(t, "ends with the container", func(t *testing.T) {
		c := h.container("sleep", "1000")
		task := h.start(t, c)
		proc, err := task.Exec(ctxOf(t), execOf(c, "sleep", "1000"), runtime.ExecOptions{ID: newID()})
		must(t, err)
		must(t, task.Signal(ctxOf(t), syscall.SIGKILL))
		if e, err := proc.Wait(ctxOf(t)); err != nil || e.Code != 137 {
			t.Errorf("got %+v, %v", e, err)
		}
		_, err = task.Wait(ctxOf(t))
		must(t, err)
		if _, err := task.Exec(ctxOf(t), execOf(c, "true"), runtime.ExecOptions{ID: newID()}); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("exec after the end: %v", err)
		}
	})
}
