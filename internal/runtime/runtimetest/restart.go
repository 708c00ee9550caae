package runtimetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
)

func testRestart(t *testing.T, s *suite) {
	t.Run("daemon killed", func(t *testing.T) { daemonKilled(t, s.host(t)) })
	t.Run("ended meanwhile", func(t *testing.T) { endedMeanwhile(t, s.host(t)) })
	t.Run("relay", func(t *testing.T) { relayed(t, s.host(t)) })
	t.Run("hold and let go", func(t *testing.T) { heldLater(t, s.host(t)) })
	t.Run("shim killed", func(t *testing.T) { shimKilled(t, s.host(t)) })
	t.Run("execs", func(t *testing.T) { execsRegained(t, s.host(t)) })
	t.Run("nothing there", func(t *testing.T) {
		h := s.host(t)
		if _, err := h.r.Load(ctxOf(t), "nope", t.TempDir()); !errdefs.IsNotFound(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("clean", func(t *testing.T) {
		h := s.host(t)
		c := h.container("sleep", "1000")
		task, err := h.r.Start(ctxOf(t), c)
		must(t, err)
		must(t, h.r.Clean(ctxOf(t), c.ID, c.Dir, c.Spec.Linux.CgroupsPath))
		h.gone(t, c)
		if _, err := task.Wait(ctxOf(t)); err != nil {
			t.Error(err)
		}
		must(t, h.r.Clean(ctxOf(t), c.ID, c.Dir, c.Spec.Linux.CgroupsPath))
	})
	t.Run("a long exec-root", func(t *testing.T) {
		h := s.host(t)
		c := h.container("sleep", "1000")
		c.Dir = filepath.Join(t.TempDir(), strings.Repeat("long", 30), c.ID)
		must(t, os.MkdirAll(c.Dir, 0o700))
		h.start(t, c)
		task, err := h.r.Load(ctxOf(t), c.ID, c.Dir)
		must(t, err)
		must(t, task.Signal(ctxOf(t), syscall.SIGKILL))
		_, err = task.Wait(ctxOf(t))
		must(t, err)
	})
}

// execsRegained: who adopts a container finds its execs with what was left for him,
// and is told of their end.
func execsRegained(t *testing.T, h *host) {
	c := h.container("sleep", "1000")
	first := h.start(t, c)
	_, err := first.Exec(ctxOf(t), &specs.Process{Args: []string{"sh", "-c", "read x; exit 7"}, Cwd: "/", Env: []string{"PATH=/bin"}},
		runtime.ExecOptions{ID: "x1", OpenStdin: true, Record: []byte("mine")})
	must(t, err)
	task, err := h.r.Load(ctxOf(t), c.ID, c.Dir)
	must(t, err)
	execs, err := task.Execs(ctxOf(t))
	must(t, err)
	if len(execs) != 1 || execs[0].ID != "x1" || string(execs[0].Record) != "mine" || execs[0].Process.Pid() == 0 {
		t.Fatalf("found %+v", execs)
	}
	must(t, execs[0].Process.Signal(ctxOf(t), syscall.SIGKILL))
	exit, err := execs[0].Process.Wait(ctxOf(t))
	must(t, err)
	if exit.Code != 137 {
		t.Errorf("exit %+v", exit)
	}
	if execs, err = task.Execs(ctxOf(t)); err != nil || len(execs) != 0 {
		t.Errorf("then %+v, %v", execs, err)
	}
}

func (h *host) load(t *testing.T, id string) runtime.Task {
	t.Helper()
	task, err := h.r.Load(ctxOf(t), id, filepath.Join(h.root, "containers", id))
	must(t, err)
	t.Cleanup(func() {
		if err := task.Delete(context.Background()); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	return task
}

func only(pids map[string]int) (id string, pid int) {
	for id, pid = range pids {
	}
	return id, pid
}

func daemonKilled(t *testing.T, h *host) {
	kill, pids := h.runDaemon(t, orderedContainer{
		Args:      []string{"sh", "-c", "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); usleep 2000; done; read x; echo got $x; exit 6"},
		OpenStdin: true, Held: []string{"tcp", "udp"},
	})
	id, pid := only(pids)
	log := filepath.Join(h.root, id+".log")
	eventually(t, func() bool { b, _ := os.ReadFile(log); return len(b) > 500 })
	kill()
	before, err := os.ReadFile(log)
	must(t, err)
	eventually(t, func() bool { // the container goes on meanwhile
		b, _ := os.ReadFile(log)
		return len(b) > len(before) || bytes.Contains(b, []byte(`"299\n"`))
	})
	task := h.load(t, id)
	if task.Pid() != pid || task.StartedAt().IsZero() || time.Since(task.StartedAt()) > time.Minute {
		t.Errorf("pid %d, want %d, started at %v", task.Pid(), pid, task.StartedAt())
	}
	held, err := task.Held(ctxOf(t))
	must(t, err)
	if len(held) != 2 || held["tcp"] == nil || held["udp"] == nil {
		t.Fatalf("held %v", held)
	}
	l, err := net.FileListener(held["tcp"])
	must(t, err)
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	other, err := l.Accept()
	must(t, err)
	other.Close()
	l.Close()
	for _, f := range held {
		f.Close()
	}
	o := execRun(t, task, Spec("/", "echo", "still").Process, runtime.ExecOptions{})
	if o.stdout != "still\n" {
		t.Errorf("exec after the restart: %+v", o)
	}
	a := &attached{done: make(chan error, 1)}
	st := a.streams()
	st.Stdin = strings.NewReader("it\n")
	must(t, task.Attach(ctxOf(t), st))
	a.wait(t)
	if !strings.HasSuffix(a.stdout.String(), "got it\n") {
		t.Errorf("attached after the restart: %q", a.stdout.String())
	}
	if e, err := task.Wait(ctxOf(t)); err != nil || e.Code != 6 {
		t.Errorf("got %+v, %v", e, err)
	}
	checkNumbers(t, log, 300)
}

// checkNumbers: no line is missing.
func checkNumbers(t *testing.T, log string, n int) {
	t.Helper()
	f, err := os.Open(log)
	must(t, err)
	defer f.Close()
	lines := bufio.NewScanner(f)
	for i := range n {
		var e struct{ Log string }
		if !lines.Scan() {
			t.Fatalf("log ends before line %d", i)
		}
		must(t, json.Unmarshal(lines.Bytes(), &e))
		if e.Log != fmt.Sprintln(i) {
			t.Fatalf("line %d of the log is %q", i, e.Log)
		}
	}
}

func endedMeanwhile(t *testing.T, h *host) {
	kill, pids := h.runDaemon(t, orderedContainer{Args: []string{"sh", "-c", "read x; echo bye; exit 5"}, OpenStdin: true})
	id, pid := only(pids)
	kill()
	must(t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(t, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	// The shim ends when nobody needs it: the exit status is on disk.
	eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(h.root, "containers", id, "shim.exit"))
		return err == nil
	})
	task := h.load(t, id)
	if e, err := task.Wait(ctxOf(t)); err != nil || e.Code != 137 || e.Signal != syscall.SIGKILL || e.At.IsZero() {
		t.Errorf("got %+v, %v", e, err)
	}
	if task.Pid() != 0 {
		t.Errorf("pid %d", task.Pid())
	}
	must(t, task.Delete(ctxOf(t)))
	if _, err := h.r.Load(ctxOf(t), id, filepath.Join(h.root, "containers", id)); !errdefs.IsNotFound(err) {
		t.Errorf("load after delete: %v", err)
	}
}

func relayed(t *testing.T, h *host) {
	l, err := net.Listen("tcp", echoAddr)
	must(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	u, err := net.ListenPacket("udp", echoAddr)
	must(t, err)
	defer u.Close()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(b[:n], from)
		}
	}()
	kill, pids := h.runDaemon(t, orderedContainer{Args: []string{"sleep", "1000"}, Held: []string{"relay-tcp", "relay-udp"}})
	kill() // nobody but the shim relays
	id, _ := only(pids)
	defer h.load(t, id)
	for range 3 {
		c, err := net.Dial("tcp", relayAddr)
		must(t, err)
		var want, got digest
		must(t, want.of(noise(3<<20)))
		go func() {
			io.Copy(c, noise(3<<20))
			c.(*net.TCPConn).CloseWrite()
		}()
		must(t, got.of(c))
		c.Close()
		if got != want {
			t.Errorf("relayed %d bytes", got.n)
		}
	}
	c, err := net.Dial("udp", relayAddr)
	must(t, err)
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	for _, word := range []string{"one", "two"} {
		_, err = c.Write([]byte(word))
		must(t, err)
		b := make([]byte, 10)
		n, err := c.Read(b)
		must(t, err)
		if string(b[:n]) != word {
			t.Errorf("got %q", b[:n])
		}
	}
}

// heldLater: what a running container is given to hold, it holds; what it lets go is
// free at once.
func heldLater(t *testing.T, h *host) {
	c := h.container("sleep", "1000")
	task := h.start(t, c)
	more, err := hold("tcp")
	must(t, err)
	must(t, task.Hold(ctxOf(t), []runtime.Held{more}))
	addr := boundTo(t, more.File)
	must(t, more.File.Close())
	held, err := task.Held(ctxOf(t))
	must(t, err)
	if f := held["tcp"]; f == nil {
		t.Fatalf("held: %v", held)
	} else {
		must(t, f.Close())
	}
	if _, err := net.Listen("tcp", addr); err == nil {
		t.Error("the port is free although the shim holds it")
	}
	must(t, task.LetGo(ctxOf(t), []string{"tcp", "never heard of"}))
	l, err := net.Listen("tcp", addr)
	must(t, err)
	must(t, l.Close())
	if held, err = task.Held(ctxOf(t)); err != nil || len(held) != 0 {
		t.Errorf("held: %v, %v", held, err)
	}
}

func boundTo(t *testing.T, f *os.File) string {
	t.Helper()
	l, err := net.FileListener(f)
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func shimKilled(t *testing.T, h *host) {
	c := h.container("sleep", "1000")
	task := h.start(t, c)
	pid := task.Pid()
	shim := parentOf(t, pid)
	must(t, syscall.Kill(shim, syscall.SIGKILL))
	e, err := task.Wait(ctxOf(t))
	must(t, err)
	if e.Code != 255 {
		t.Errorf("got %+v", e)
	}
	eventually(t, func() bool { return !alive(pid) })
	must(t, task.Delete(ctxOf(t)))
	h.gone(t, c)
}

// parentOf is the parent's id of a process.
func parentOf(t *testing.T, pid int) (ppid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	var state string
	_, err = fmt.Sscan(string(b[strings.LastIndexByte(string(b), ')')+1:]), &state, &ppid)
	must(t, err)
	return ppid
}

// alive tells whether a process exists and is no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(b), ") Z ")
}
