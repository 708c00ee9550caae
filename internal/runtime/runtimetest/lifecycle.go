package runtimetest

import (
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
)

func testLifecycle(t *testing.T, s *suite) {
	h := s.host(t)
	s.run(t, "output and status", func(t *testing.T) {
		c := h.container("sh", "-c", "echo out; echo err >&2; exit 7")
		o := h.run(t, c)
		if o.exit.Code != 7 || o.stdout != "out\n" || o.stderr != "err\n" || o.exit.Signal != 0 {
			t.Errorf("got %+v", o)
		}
		log, err := os.ReadFile(c.Log.Path)
		must(t, err)
		for _, want := range []string{`"log":"out\n"`, `"log":"err\n"`} {
			if !strings.Contains(string(log), want) {
				t.Errorf("log %q lacks %s", log, want)
			}
		}
		h.gone(t, c)
	})
	s.run(t, "signal", func(t *testing.T) {
		c := h.container("sleep", "1000")
		task := h.start(t, c)
		if task.Pid() <= 1 || task.StartedAt().IsZero() || task.ID() != c.ID {
			t.Errorf("pid %d, started %v, id %s", task.Pid(), task.StartedAt(), task.ID())
		}
		must(t, task.Signal(ctxOf(t), syscall.SIGKILL))
		e, err := task.Wait(ctxOf(t))
		must(t, err)
		if e.Code != 137 || e.Signal != syscall.SIGKILL || e.OOMKilled {
			t.Errorf("got %+v", e)
		}
		if err := task.Signal(ctxOf(t), syscall.SIGTERM); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("signal after the end: %v", err)
		}
		if task.Pid() != 0 {
			t.Errorf("pid %d after the end", task.Pid())
		}
		must(t, task.Delete(ctxOf(t)))
		must(t, task.Delete(ctxOf(t)))
		h.gone(t, c)
	})
	s.run(t, "delete kills", func(t *testing.T) {
		c := h.container("sh", "-c", "trap '' TERM INT; while true; do sleep 1; done")
		task := h.start(t, c)
		must(t, task.Delete(ctxOf(t)))
		h.gone(t, c)
		if e, err := task.Wait(ctxOf(t)); err != nil || e.Code != 137 {
			t.Errorf("got %+v, %v", e, err)
		}
	})
	s.run(t, "wait is cancelled", func(t *testing.T) {
		task := h.start(t, h.container("sleep", "1000"))
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := task.Wait(ctx); err != context.Canceled {
			t.Errorf("got %v", err)
		}
	})
	s.run(t, "many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 30 {
			c := h.container("sh", "-c", "echo $$")
			wg.Go(func() {
				if o := h.run(t, c); o.stdout != "1\n" || o.exit.Code != 0 {
					t.Errorf("got %+v", o)
				}
				h.gone(t, c)
			})
		}
		wg.Wait()
	})
	s.run(t, "pause", func(t *testing.T) {
		task := h.start(t, h.container("sleep", "1000"))
		must(t, task.Pause(ctxOf(t)))
		must(t, task.Resume(ctxOf(t)))
		must(t, task.Pause(ctxOf(t)))
		must(t, task.Delete(ctxOf(t)))
	})
	s.run(t, "init reaps and forwards", func(t *testing.T) {
		o := h.sh(t, "(sleep 0.1 &) ; sleep 0.3; ps -o pid,stat,args; kill -USR1 $$; exit 9", func(c *runtime.Container) { c.Init = true })
		if o.exit.Code != 128+int(syscall.SIGUSR1) || strings.Contains(o.stdout, " Z ") {
			t.Errorf("got %+v", o)
		}
		if o = h.sh(t, "ulimit -n; ulimit -Hn; env | grep -c MUELLE", func(c *runtime.Container) {
			c.Init = true
			c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}}
		}); o.stdout != "100\n200\n0\n" {
			t.Errorf("limits of files below an init: %+v", o)
		}
		if o = h.sh(t, "cat /proc/1/comm", func(c *runtime.Container) { c.Init = true }); o.stdout != "docker-init\n" {
			t.Errorf("the init is called %q", o.stdout)
		}
		c := h.container("sh", "-c", "trap 'exit 3' TERM; echo ready; while true; do sleep 0.05; done")
		c.Init = true
		a := attach(c)
		task := h.start(t, c)
		eventually(t, func() bool { return a.stdout.String() == "ready\n" })
		must(t, task.Signal(ctxOf(t), syscall.SIGTERM))
		if e, err := task.Wait(ctxOf(t)); err != nil || e.Code != 3 {
			t.Errorf("got %+v, %v", e, err)
		}
	})
	s.run(t, "init forwards from its first instant on", func(t *testing.T) {
		for range 20 {
			c := h.container("sleep", "1000")
			c.Init = true
			task := h.start(t, c)
			must(t, task.Signal(ctxOf(t), syscall.SIGTERM))
			if e, err := task.Wait(ctxOf(t)); err != nil || e.Code != 143 {
				t.Fatalf("got %+v, %v", e, err)
			}
			must(t, task.Delete(ctxOf(t)))
		}
	})
}
