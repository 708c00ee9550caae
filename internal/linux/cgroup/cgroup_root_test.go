//go:build root

package cgroup_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/spawn"
)

func ptr[T any](v T) *T { return &v }

func open(t *testing.T, name string) *cgroup.Group {
	t.Helper()
	parent := fmt.Sprintf("/muelle-cgtest%d", os.Getpid())
	g, err := cgroup.Open(parent + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Kill(10 * time.Second); err != nil {
			t.Error(err)
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		if p, err := cgroup.Open(parent); err == nil {
			p.RemoveEmpty(0)
		}
		if g.Exists() {
			t.Error("the group is left")
		}
	})
	return g
}

// sleeper starts a process in the group.
func sleeper(t *testing.T, g *cgroup.Group) int {
	t.Helper()
	e, err := g.Entry()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	p := &spawn.Program{}
	zero := spawn.Pointer(p, &[1]byte{'0'})
	for _, f := range e.Tasks {
		p.Do("enter", unix.SYS_WRITE, spawn.Int(f.Fd()), zero, spawn.Int(1))
	}
	p.ResetSignals()
	p.CloseOnExec(3)
	p.Exec(-1, sleep, []string{"sleep", "1000"}, nil)
	into := -1
	if e.Into != nil {
		into = int(e.Into.Fd())
	}
	c, err := spawn.Start(p, spawn.Options{Cgroup: into})
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(c.PidFD)
	go unix.Wait4(c.Pid, nil, 0, nil)
	return c.Pid
}

func TestGroup(t *testing.T) {
	g := open(t, "a")
	if err := g.Create(&specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: ptr(int64(32 << 20))},
		CPU:     &specs.LinuxCPU{Shares: ptr(uint64(100)), Quota: ptr(int64(20000)), Period: ptr(uint64(100000))},
		Pids:    &specs.LinuxPids{Limit: ptr(int64(9))},
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}, {Allow: true, Type: "c", Major: ptr(int64(10)), Minor: ptr(int64(229)), Access: "rwm"}},
	}); err != nil {
		t.Fatal(err)
	}
	pid := sleeper(t, g)
	pids, err := g.Pids()
	if err != nil || len(pids) != 1 || pids[0] != pid {
		t.Errorf("pids %v, %v, want %d", pids, err, pid)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasSuffix(strings.TrimSpace(line), ":"+g.Path()) {
			t.Errorf("the process is in %q", line)
		}
	}
	st, err := g.Stats()
	if err != nil || st.MemoryStats.Usage.Limit != 32<<20 || st.PidsStats.Limit != 9 {
		t.Errorf("stats %+v, %v", st, err)
	}
	if err := g.Freeze(); err != nil {
		t.Error(err)
	}
	if err := g.RemoveQuick(); err == nil {
		t.Error("a group with a process was removed")
	}
	if err := g.Kill(10 * time.Second); err != nil {
		t.Error(err)
	}
	if n, err := g.OOMKills(); err != nil || n != 0 {
		t.Errorf("kills %d, %v", n, err)
	}
}

func TestRefusedLimitsLeaveNothing(t *testing.T) {
	g := open(t, "b")
	for name, r := range map[string]*specs.LinuxResources{
		"memory below use": {Memory: &specs.LinuxMemory{Limit: ptr(int64(-5))}},
		"no such cpu":      {CPU: &specs.LinuxCPU{Cpus: "4000"}},
		"device type":      {Devices: []specs.LinuxDeviceCgroup{{Type: "x", Access: "rwm"}}},
		"network class":    {Network: &specs.LinuxNetwork{ClassID: ptr(uint32(1))}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := g.Create(r); err == nil {
				t.Error("no error")
			}
			if g.Exists() {
				t.Error("directories are left")
			}
		})
	}
}

func TestRemoveNested(t *testing.T) {
	g := open(t, "c")
	if err := g.Create(nil); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(g.Dir("memory"), "x", "y"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := g.Remove(); err != nil || g.Exists() {
		t.Errorf("%v, exists: %v", err, g.Exists())
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

func TestHost(t *testing.T) {
	all, err := cgroup.Hierarchies()
	if err != nil || len(all) == 0 {
		t.Fatalf("hierarchies %v, %v", all, err)
	}
	if _, err := cgroup.Open("/"); err == nil {
		t.Error("the root group was opened")
	}
	if v := cgroup.Version(); (v == 2) != (cgroup.HostMode() == cgroup.Unified) {
		t.Errorf("version %d, mode %s", v, cgroup.HostMode())
	}
}
