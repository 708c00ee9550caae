//go:build root && vm

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"muelle/api"
)

// TestUnifiedView: what the engine tells of a container is what cgroup v2 has.
//
//muelle:ring
func TestUnifiedView(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "c")
	// 20 MB in the page cache, which is not counted as used, and 8 MB in a tmpfs, which is.
	c.must(t, "run", "-d", "--name", name, "-m", "96m", "--memory-swap", "96m", "busybox", "sh", "-c",
		"dd if=/dev/zero of=/file bs=1M count=20; cat /file >/dev/null; dd if=/dev/zero of=/dev/shm/f bs=1M count=8; echo ready; exec sleep 1000")
	c.remove(t, name)
	if err := eventually(30*time.Second, func() error {
		if r := c.try(t, "logs", name); !strings.Contains(r.out, "ready") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var stats struct{ MemUsage string }
	if err := json.Unmarshal([]byte(c.must(t, "stats", "--no-stream", "--format", "json", name)), &stats); err != nil {
		t.Fatal(err)
	}
	used, _, _ := strings.Cut(stats.MemUsage, "MiB")
	if mib, err := strconv.ParseFloat(used, 64); err != nil || mib < 8 || mib > 16 {
		t.Errorf("used memory %q, want the tmpfs's 8 MiB and little more", stats.MemUsage)
	}
	var kernel []api.Kernel
	if err := json.Unmarshal([]byte(c.must(t, "inspect", "--kernel", "--format", "json", name)), &kernel); err != nil || len(kernel) != 1 {
		t.Fatalf("%v", err)
	}
	if g := kernel[0].Cgroups; len(g) != 1 || g[0].Version != 2 {
		t.Fatalf("groups %+v", g)
	}
	dir, files := groupDir(t, c, name, ""), map[string]string{}
	for _, f := range kernel[0].Cgroups[0].Files {
		files[f.Name] = f.Value
	}
	for _, file := range []string{"memory.max", "memory.swap.max", "cpu.max", "pids.max", "cgroup.controllers"} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(data)) != files[file] || files[file] == "" {
			t.Errorf("%s: told %q, it is %q %v", file, files[file], data, err)
		}
	}
}

// TestUnifiedOutOfMemory: one of a container's processes is killed for lack of memory,
// and why reads it in memory.events.
//
//muelle:ring
func TestUnifiedOutOfMemory(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero; exec sleep 1000")
	c.remove(t, name)
	killed := func() error {
		if got := groupFile(t, c, name, "", "", "memory.events"); !strings.Contains(got, "oom_kill 1") {
			return fmt.Errorf("memory.events %q", got)
		}
		return nil
	}
	if err := eventually(30*time.Second, killed); err != nil {
		t.Fatal(err)
	}
	if got := c.must(t, "inspect", "-f", "{{.State.Status}}", name); got != "running" {
		t.Errorf("its first process was killed: %s", got)
	}
	c.must(t, "kill", name)
	c.must(t, "wait", name)
	r := c.try(t, "why", name)
	if !strings.Contains(r.out, "oom_kill") || !strings.Contains(r.out, "16m") {
		t.Errorf("why: %+v", r)
	}
}

// TestWritableCgroups: a container may divide its own group, and no more.
//
//muelle:ring
func TestWritableCgroups(t *testing.T) {
	c := ours(world.daemon)
	const script = "cd /sys/fs/cgroup && mkdir own 2>&1 && echo $$ >own/cgroup.procs && cat /proc/self/cgroup"
	for _, tt := range []struct{ options, want string }{
		{"", "mkdir: can't create directory 'own': Read-only file system"},
		{"--security-opt writable-cgroups", "0::/own"},
		{"--security-opt writable-cgroups=false --privileged", "mkdir: can't create directory 'own': Read-only file system"},
	} {
		r := c.try(t, append(append([]string{"run", "--rm"}, strings.Fields(tt.options)...), "busybox", "sh", "-c", script)...)
		if got := strings.TrimSpace(r.out); got != tt.want {
			t.Errorf("%q: got %q, want %q (%+v)", tt.options, got, tt.want, r)
		}
	}
	// nsdelegate, which the host's mount has, keeps the limits out of its reach.
	if r := c.try(t, "run", "--rm", "-m", "32m", "--security-opt", "writable-cgroups", "busybox", "sh", "-c", "echo max >/sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/memory.max"); strings.TrimSpace(r.out) != "33554432" {
		t.Errorf("its own limit: %+v", r)
	}
}
