package runtimetest

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"muelle/internal/runtime"
)

// testPrepared is about starts in two parts.
func testPrepared(t *testing.T, s *suite) {
	prepare := func(t *testing.T, h *host, c *runtime.Container) {
		t.Helper()
		p, err := h.r.Prepare(c.ID, c.Dir, c.Spec.Linux.CgroupsPath, 100)
		must(t, err)
		c.Prepared = p
	}
	s.run(t, "a prepared container starts in its shim", func(t *testing.T) {
		if s.env.Foreign {
			t.Log("another runtime starts from nothing prepared: it uses it up, see below")
			return
		}
		h := s.host(t)
		c := h.container("sh", "-c", "echo ready; read end")
		c.OpenStdin, c.StdinOnce = true, true
		hold, end := io.Pipe()
		prepare(t, h, c)
		await(t, "no shim comes up", func() bool { return len(shims(c.ID)) == 1 })
		before := shims(c.ID)
		a := attach(c)
		c.Attach[0].Stdin = hold
		task := h.start(t, c)
		if after := shims(c.ID); !slices.Equal(after, before) {
			t.Errorf("shims %v before the start, %v after it", before, after)
		}
		must(t, end.Close())
		_, err := task.Wait(ctxOf(t))
		must(t, err)
		a.wait(t)
		must(t, task.Delete(ctxOf(t)))
		if a.stdout.String() != "ready\n" {
			t.Errorf("got %q", a.stdout.String())
		}
		h.gone(t, c)
	})
	s.run(t, "room for the sockets of many ports", func(t *testing.T) {
		h := s.host(t)
		c := h.container("true")
		p, err := h.r.Prepare(c.ID, c.Dir, c.Spec.Linux.CgroupsPath, 1000)
		must(t, err)
		await(t, "no shim comes up", func() bool { return len(shims(c.ID)) == 1 })
		status, err := os.ReadFile("/proc/" + shims(c.ID)[0] + "/status")
		must(t, err)
		// FDSize is the size of the table (proc_pid_status(5)).
		_, rest, _ := strings.Cut(string(status), "FDSize:")
		size, _, _ := strings.Cut(rest, "\n")
		if n, err := strconv.Atoi(strings.TrimSpace(size)); err != nil || n < 1000 {
			t.Errorf("the shim's table has room for %q descriptors: %v", size, err)
		}
		must(t, p.Discard())
	})
	s.run(t, "held ahead of the start", func(t *testing.T) {
		if s.env.Foreign {
			t.Log("another runtime starts from nothing prepared")
			return
		}
		heldAhead(t, s.host(t), prepare)
	})
	s.run(t, "discarded", func(t *testing.T) {
		h := s.host(t)
		c := h.container("true")
		prepare(t, h, c)
		must(t, c.Prepared.Discard())
		h.gone(t, c)
		if left := shims(c.ID); len(left) > 0 {
			t.Errorf("shims %v are left", left)
		}
	})
	s.run(t, "used up by a start that fails", func(t *testing.T) {
		h := s.host(t)
		for name, change := range map[string]func(*runtime.Container){
			"no such program":   func(c *runtime.Container) { c.Spec.Process.Args = []string{"nope"} },
			"another container": func(c *runtime.Container) { c.ID += "x" },
			"no document":       func(c *runtime.Container) { c.Spec = nil },
		} {
			c := h.container("true")
			prepare(t, h, c)
			id, spec := c.ID, c.Spec
			change(c)
			if _, err := h.r.Start(ctxOf(t), c); err == nil {
				t.Errorf("%s: no error", name)
			}
			c.Spec = spec
			h.gone(t, c)
			if left := shims(id); len(left) > 0 {
				t.Errorf("%s: shims %v are left", name, left)
			}
		}
	})
	s.run(t, "the daemon dies before the start", func(t *testing.T) {
		h := s.host(t)
		c := h.container("true")
		prepare(t, h, c)
		h.down()
		h.r, h.down = s.env.New(t, h.root)
		await(t, "the shim waits for ever", func() bool { return len(shims(c.ID)) == 0 })
		if _, err := h.r.Load(ctxOf(t), c.ID, c.Dir); err == nil {
			t.Error("loaded a container that never began")
		}
		must(t, h.r.Clean(ctxOf(t), c.ID, c.Dir, c.Spec.Linux.CgroupsPath))
		h.gone(t, c)
	})
}

// heldAhead: a shim keeps what it was given before the start; who asks a relay by then is
// served after it, and not before.
func heldAhead(t *testing.T, h *host, prepare func(*testing.T, *host, *runtime.Container)) {
	c := h.container("sleep", "1000")
	prepare(t, h, c)
	relay, err := hold("relay-tcp")
	must(t, err)
	plain, err := hold("tcp")
	must(t, err)
	must(t, c.Prepared.Hold(ctxOf(t), []runtime.Held{relay, plain}))
	addr := boundTo(t, plain.File)
	must(t, errors.Join(relay.File.Close(), plain.File.Close()))
	if _, err := net.Listen("tcp", addr); err == nil {
		t.Error("a port is free although the shim holds it")
	}
	asks, err := net.Dial("tcp", relayAddr)
	must(t, err)
	defer asks.Close()
	_, err = asks.Write([]byte("early"))
	must(t, err)
	later, err := hold("udp")
	must(t, err)
	must(t, c.Prepared.Hold(ctxOf(t), []runtime.Held{later}))
	must(t, later.File.Close())
	// That request may have come first of what was ready; at the next the shim has looked
	// at all of it.
	must(t, c.Prepared.Hold(ctxOf(t), nil))
	echo, err := net.Listen("tcp", echoAddr) // only now there is somebody
	must(t, err)
	defer echo.Close()
	must(t, echo.(*net.TCPListener).SetDeadline(time.Now().Add(10*time.Second)))
	relay.There, plain.There = true, true
	c.Held = []runtime.Held{relay, plain}
	task := h.start(t, c)
	conn, err := echo.Accept()
	must(t, err)
	defer conn.Close()
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "early" {
		t.Errorf("the container got %q: %v", got, err)
	}
	held, err := task.Held(ctxOf(t))
	must(t, err)
	for _, name := range []string{"relay-tcp", "tcp", "udp"} {
		if held[name] == nil {
			t.Errorf("%s is not held: %v", name, held)
		} else {
			must(t, held[name].Close())
		}
	}
	must(t, task.Delete(ctxOf(t)))
}

func await(t *testing.T, failure string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(failure)
		}
	}
}

// shims lists the processes beside a container.
func shims(id string) (pids []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if b, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(b), "muelle-shim\x00"+id+"\x00") {
			pids = append(pids, filepath.Base(filepath.Dir(p)))
		}
	}
	return pids
}
