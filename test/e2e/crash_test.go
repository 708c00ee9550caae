//go:build root

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDaemonMayDie kills the daemon with -9 under a running, logging, published
// container: traffic, log and exit status go on, a lookup made meanwhile is answered
// when the daemon is back.
//
//muelle:ring
func TestDaemonMayDie(t *testing.T) {
	d := own(t)
	c := ours(d)
	c.must(t, "network", "create", "net")
	t.Cleanup(func() { c.must(t, "network", "rm", "net") })
	shared := t.TempDir()
	c.must(t, append([]string{"run", "-d", "--name", "web", "--network", "net", "-p", "18090:80"}, httpd...)...)
	c.remove(t, "web")
	c.must(t, "run", "-d", "--name", "counter", "busybox", "sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); usleep 5000; done")
	c.remove(t, "counter")
	c.must(t, "run", "-d", "--name", "ends", "-v", shared+":/s", "busybox", "sh", "-c", "while ! [ -e /s/end ]; do usleep 20000; done; echo ending; exit 9")
	c.remove(t, "ends")
	c.must(t, "run", "-d", "--name", "asks", "--network", "net", "-v", shared+":/s", "busybox", "sh", "-c",
		"while ! [ -e /s/ask ]; do usleep 20000; done; touch /s/asking; wget -qO- http://web >/s/answer; echo $? >/s/asked; sleep 1000")
	c.remove(t, "asks")
	if err := eventually(20*time.Second, func() error { _, err := get("http://127.0.0.1:18090"); return err }); err != nil {
		t.Fatal(err)
	}
	before := c.must(t, "inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web")

	d.kill(t)
	for range 10 {
		if body, err := get("http://127.0.0.1:18090"); err != nil || body != "hello" {
			t.Errorf("the published port while the daemon is dead: %q, %v", body, err)
		}
	}
	if err := outside(func() error { _, err := get("http://" + hostAddr + ":18090"); return err }); err != nil {
		t.Errorf("from outside while the daemon is dead: %v", err)
	}
	touch(t, shared, "end")
	touch(t, shared, "ask")
	if err := eventually(20*time.Second, func() error { _, err := os.Stat(filepath.Join(shared, "asking")); return err }); err != nil {
		t.Fatal(err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}

	if got := c.must(t, "wait", "ends"); got != "9" {
		t.Errorf("exit status of a container that ended meanwhile: %s", got)
	}
	if got := c.must(t, "logs", "ends"); got != "ending" {
		t.Errorf("its log: %q", got)
	}
	if after := c.must(t, "inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web"); after != before {
		t.Errorf("the container changed: %s, before %s", after, before)
	}
	if err := eventually(15*time.Second, func() error {
		status, err := os.ReadFile(filepath.Join(shared, "asked"))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(status)) != "0" {
			t.Errorf("a lookup made while the daemon was away failed: %s", status)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if body, err := get("http://127.0.0.1:18090"); err != nil || body != "hello" {
		t.Errorf("the published port after the restart: %q, %v", body, err)
	}
	if got := c.must(t, "exec", "web", "echo", "exec works"); got != "exec works" {
		t.Errorf("%q", got)
	}
	c.must(t, "kill", "counter")
	c.must(t, "wait", "counter")
	n := 0
	for line := range strings.Lines(c.must(t, "logs", "counter")) {
		if strings.TrimSpace(line) != "line "+strconv.Itoa(n) {
			t.Fatalf("line %d of the log is %q", n, line)
		}
		n++
	}
	if n < 10 {
		t.Errorf("%d lines in the log", n)
	}
	// A name and a port are free again after removal, also of an adopted container.
	c.must(t, "rm", "-f", "web")
	c.must(t, append([]string{"run", "-d", "--name", "web", "--network", "net", "-p", "18090:80"}, httpd...)...)
}

func touch(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRestartPoliciesSurvive: what has to run runs again after the daemon's death,
// what a user stopped stays stopped.
//
//muelle:ring
func TestRestartPoliciesSurvive(t *testing.T) {
	d := own(t)
	c := ours(d)
	c.must(t, "run", "-d", "--name", "stopped", "--restart", "unless-stopped", "busybox", "sleep", "1000")
	c.must(t, "stop", "-t", "0", "stopped")
	c.must(t, "run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000")
	c.must(t, "run", "-d", "--name", "never", "busybox", "sleep", "1000")
	c.remove(t, "stopped", "always", "never")
	pids := strings.Fields(c.must(t, "inspect", "-f", "{{.State.Pid}}", "always", "never"))
	d.kill(t)
	for _, pid := range pids {
		end(t, pid) // while nobody watches
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if err := eventually(30*time.Second, func() error {
		got := c.must(t, "ps", "--format", "{{.Names}}")
		if got != "always" {
			return fmt.Errorf("running: %q", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// end kills the first process of a container behind the daemon's back.
func end(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
