package runtimetest

import (
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
)

func testResources(t *testing.T, s *suite) {
	h := s.host(t)
	limits := func(change func(*specs.LinuxResources)) func(*runtime.Container) {
		return func(c *runtime.Container) { change(c.Spec.Linux.Resources) }
	}
	t.Run("memory", func(t *testing.T) {
		o := h.sh(t, "dd if=/dev/zero of=/dev/null bs=100M count=1; echo survived", limits(func(r *specs.LinuxResources) {
			r.Memory = &specs.LinuxMemory{Limit: ptr(int64(16 << 20)), Swap: ptr(int64(16 << 20)), Reservation: ptr(int64(8 << 20))}
		}))
		// The shell or its child was killed; the kernel counts either.
		if !o.exit.OOMKilled || strings.Contains(o.stderr, "1+0 records out") {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("no memory kill without need", func(t *testing.T) {
		o := h.sh(t, "exit 137", limits(func(r *specs.LinuxResources) { r.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20))} }))
		if o.exit.OOMKilled || o.exit.Code != 137 {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("values", func(t *testing.T) {
		c := h.container("sleep", "1000")
		r := c.Spec.Linux.Resources
		r.Memory = &specs.LinuxMemory{Limit: ptr(int64(64 << 20)), Reservation: ptr(int64(32 << 20))}
		r.CPU = &specs.LinuxCPU{Shares: ptr(uint64(512)), Quota: ptr(int64(50000)), Period: ptr(uint64(100000)), Cpus: "0"}
		r.Pids = &specs.LinuxPids{Limit: ptr(int64(77))}
		task := h.start(t, c)
		st, err := task.Stats(ctxOf(t))
		must(t, err)
		if st.MemoryLimit != 64<<20 || st.PidsLimit != 77 || st.PidsCurrent != 1 || st.MemoryUsage == 0 || st.CPUTotal == 0 || st.Read.IsZero() || st.CgroupVersion == 0 {
			t.Errorf("got %+v", st)
		}
		must(t, task.Update(ctxOf(t), &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: ptr(int64(48 << 20))}, Pids: &specs.LinuxPids{Limit: ptr(int64(55))},
		}))
		if st, err = task.Stats(ctxOf(t)); err != nil || st.MemoryLimit != 48<<20 || st.PidsLimit != 55 {
			t.Errorf("after update %+v, %v", st, err)
		}
		o := execRun(t, task, execOf(c, "sh", "-c", "nproc; cat /dev/null"), runtime.ExecOptions{})
		if o.stdout != "1\n" {
			t.Errorf("one processor was given: %+v", o)
		}
		pids, err := task.Pids(ctxOf(t))
		must(t, err)
		if len(pids) != 1 || pids[0] != task.Pid() {
			t.Errorf("pids %v", pids)
		}
	})
	s.run(t, "pids", func(t *testing.T) {
		c := h.container("sh", "-c", "sleep 1000 & sleep 1000 & echo full; wait")
		c.Spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: ptr(int64(3))}
		a := attach(c)
		task := h.start(t, c)
		eventually(t, func() bool { return a.stdout.String() == "full\n" })
		_, err := task.Exec(ctxOf(t), execOf(c, "true"), runtime.ExecOptions{ID: newID()})
		var se *runtime.StartError
		if !errors.As(err, &se) || se.Code != 126 || se.Error() != "start process: resource temporarily unavailable: the container's pids limit 3 is reached" {
			t.Errorf("exec into a full container: %v", err)
		}
		must(t, task.Update(ctxOf(t), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: ptr(int64(4))}}))
		o := execRun(t, task, execOf(c, "sh", "-c", "echo here; true & wait; echo there"), runtime.ExecOptions{})
		if o.exit.Code != 2 || o.stdout != "here\n" || !strings.Contains(o.stderr, "can't fork: Resource temporarily unavailable") {
			t.Errorf("a program that cannot fork: %+v", o)
		}
	})
	t.Run("pids, one only", func(t *testing.T) {
		one := limits(func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: ptr(int64(1))} })
		if o := h.sh(t, "echo here; true & wait; echo there", one); o.exit.Code != 2 || o.stdout != "here\n" {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("devices are refused", func(t *testing.T) {
		o := h.sh(t, "mknod /tmp/disk b 8 0 && head -c1 /tmp/disk; mknod /tmp/mem c 1 1 && head -c1 /tmp/mem; mknod /tmp/zero c 1 5 && head -c1 /tmp/zero | wc -c")
		if o.stdout != "1\n" || strings.Count(o.stderr, "Operation not permitted") != 2 {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("everything is accounted", func(t *testing.T) {
		c := h.container("sleep", "1000")
		h.start(t, c)
		o := h.sh(t, "cut -d: -f3 /proc/self/cgroup | sort -u", func(c2 *runtime.Container) { c = c2 })
		if o.stdout != c.Spec.Linux.CgroupsPath+"\n" {
			t.Errorf("got %q, want %q", o.stdout, c.Spec.Linux.CgroupsPath)
		}
	})
}
