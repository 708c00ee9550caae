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

// TestReboot: after the machine was restarted, policies decide what runs again, and
// nothing of the boot before does, whatever was left of it.
func TestReboot(t *testing.T) {
	for _, tt := range []struct {
		name string
		// end is what the reboot takes away.
		end func(t *testing.T, d *daemon, pids []int)
	}{
		{"everything gone", func(t *testing.T, d *daemon, pids []int) {
			killAll(t, d, pids)
			clearExecRoot(t, d)
			otherBoot(t)
		}},
		{"exec-root on disk", func(t *testing.T, d *daemon, pids []int) {
			killAll(t, d, pids)
			otherBoot(t)
		}},
		{"processes still there", func(t *testing.T, d *daemon, _ []int) { clearExecRoot(t, d) }},
	} {
		t.Run(tt.name, func(t *testing.T) { reboot(t, tt.end) })
	}
}

func reboot(t *testing.T, end func(t *testing.T, d *daemon, pids []int)) {
	d := own(t)
	c := ours(d)
	names := []string{"always", "unless", "failing", "stopped", "stopped-always", "never"}
	for i, policy := range []string{"always", "unless-stopped", "on-failure:3", "unless-stopped", "always", "no"} {
		c.must(t, "run", "-d", "--name", names[i], "--restart", policy, "busybox", "sleep", "1000")
	}
	c.remove(t, names...)
	c.must(t, "stop", "-t", "0", "stopped", "stopped-always")
	c.must(t, "run", "-d", "--rm", "--name", "volatile", "busybox", "sleep", "1000")
	var pids []int
	for pid := range strings.FieldsSeq(c.must(t, "inspect", "-f", "{{.State.Pid}}", "always", "unless", "failing", "never", "volatile")) {
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, n)
	}

	d.kill(t)
	end(t, d, pids)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}

	// As Docker, always starts also what a user had stopped.
	want := "always running\nfailing running\nnever exited\nstopped exited\nstopped-always running\nunless running"
	if err := eventually(20*time.Second, func() error {
		var lines []string
		for _, name := range []string{"always", "failing", "never", "stopped", "stopped-always", "unless"} {
			lines = append(lines, name+" "+c.must(t, "inspect", "-f", "{{.State.Status}}", name))
		}
		if got := strings.Join(lines, "\n"); got != want {
			return fmt.Errorf("after the reboot:\n%s\nwant:\n%s", got, want)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if got := c.must(t, "inspect", "-f", "{{.State.ExitCode}}", "never"); got != "255" {
		t.Errorf("exit status of what ended with the machine: %s", got)
	}
	if r := c.try(t, "inspect", "volatile"); r.code == 0 {
		t.Error("a container that goes with its end is still there")
	}
	for _, pid := range pids {
		if err := eventually(30*time.Second, func() error {
			if err := syscall.Kill(pid, 0); err == nil {
				return fmt.Errorf("process %d of the boot before still runs", pid)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
}

// killAll ends the processes of containers and their shims, as the machine's end does.
func killAll(t *testing.T, d *daemon, pids []int) {
	t.Helper()
	states, err := filepath.Glob(filepath.Join(d.dir, "run", "containers", "*"))
	if err != nil {
		t.Fatal(err)
	}
	shims := map[int]bool{}
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		shim, err := strconv.Atoi(fields[1])
		if err != nil || shim <= 1 {
			t.Fatalf("parent of process %d: %q", pid, stat)
		}
		shims[shim] = true
	}
	if len(shims) != len(states) {
		t.Errorf("%d shims for %d containers", len(shims), len(states))
	}
	for shim := range shims {
		syscall.Kill(shim, syscall.SIGKILL)
	}
	for _, pid := range pids {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func clearExecRoot(t *testing.T, d *daemon) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(d.dir, "run")); err != nil {
		t.Fatal(err)
	}
}

// otherBoot lets this mount namespace see another boot's id until the test ends.
func otherBoot(t *testing.T) {
	t.Helper()
	const bootID = "/proc/sys/kernel/random/boot_id"
	other := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(other, []byte("00000000-0000-4000-8000-000000000001\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(other, bootID, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(bootID, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
