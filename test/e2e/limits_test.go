//go:build root

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRealtimeProcessorTime: a container with a share may have real-time processes, one
// without may not; what cannot be had is refused and explained.
//
//muelle:ring
func TestRealtimeProcessorTime(t *testing.T) {
	c := ours(world.daemon)
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"); err != nil {
		r := c.try(t, "run", "--rm", "--cpu-rt-runtime", "1000", "busybox", "true")
		if r.code != 125 || !strings.Contains(r.err, "Your kernel does not support CPU real-time scheduler: ") {
			t.Errorf("%+v", r)
		}
		return
	}
	if r := c.try(t, "run", "--rm", "--cpu-rt-runtime", "10000", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, "start muelled with --cpu-rt-runtime") {
		t.Errorf("without a share of the daemon's: %+v", r)
	}
	c = ours(own(t, "--cpu-rt-runtime", "50000"))
	// realtime makes a container's process a real-time one; its group must have a share.
	realtime := func(name string) error {
		pid, err := strconv.Atoi(c.must(t, "inspect", "-f", "{{.State.Pid}}", name))
		if err != nil {
			t.Fatal(err)
		}
		const fifo = 1
		return unix.SchedSetAttr(pid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: fifo, Priority: 1}, 0)
	}
	with, without := c.unique(t, "with"), c.unique(t, "without")
	c.must(t, "run", "-d", "--name", with, "--cpu-rt-runtime", "10000", "--cpu-rt-period", "500000", "busybox", "sleep", "1000")
	c.remove(t, with)
	c.must(t, "run", "-d", "--name", without, "busybox", "sleep", "1000")
	c.remove(t, without)
	if got := groupFile(t, c, with, "cpu", "cpu.rt_runtime_us", "") + " " + groupFile(t, c, with, "cpu", "cpu.rt_period_us", ""); got != "10000 500000" {
		t.Errorf("its share is %s", got)
	}
	if err := realtime(with); err != nil {
		t.Error(err)
	}
	if err := realtime(without); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a real-time process in a container without a share: %v", err)
	}
	c.must(t, "update", "--cpu-rt-runtime", "20000", without)
	if err := realtime(without); err != nil {
		t.Errorf("after the update: %v", err)
	}
	for _, args := range [][]string{{"run", "--rm", "--cpu-rt-runtime", "90000", "busybox", "true"}, {"update", "--cpu-rt-runtime", "90000", without}} {
		if r := c.try(t, args...); r.code == 0 || !strings.Contains(r.err, "ask for less") {
			t.Errorf("more than there is: %+v", r)
		}
	}
}

// TestBlockWeights are the scheduler bfq's; a disk without it is refused by name.
//
//muelle:ring
func TestBlockWeights(t *testing.T) {
	c := ours(world.daemon)
	dev, number := disk(t)
	name := c.unique(t, "c")
	r := c.try(t, "run", "-d", "--name", name, "--blkio-weight", "300", "busybox", "sleep", "1000")
	c.remove(t, name)
	if strings.Contains(r.err, "Weight discarded") {
		return // this kernel weighs nothing, and says so
	}
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	dir := groupDir(t, c, name, "blkio")
	weight := func() string {
		t.Helper()
		for _, file := range []string{"blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight"} {
			if data, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				return file + " " + strings.TrimPrefix(strings.Fields(string(data))[len(strings.Fields(string(data)))-1], "default ")
			}
		}
		t.Fatalf("%s has no weight", dir)
		return ""
	}
	// io.weight has another scale: 1 to 10000 for 10 to 1000.
	if got := weight(); got != "blkio.bfq.weight 300" && got != "blkio.weight 300" && got != "io.bfq.weight 300" && got != "io.weight 2930" {
		t.Errorf("%s", got)
	}
	c.must(t, "update", "--blkio-weight", "500", name)
	if got := weight(); !strings.HasSuffix(got, " 500") && got != "io.weight 4950" {
		t.Errorf("after the update: %s", got)
	}
	scheduler, err := os.ReadFile("/sys/dev/block/" + number + "/queue/scheduler")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(scheduler), "[bfq]") {
		return
	}
	r = c.try(t, "run", "--rm", "--blkio-weight-device", dev+":200", "busybox", "true")
	if !strings.Contains(r.err, "scheduler bfq") && !strings.Contains(r.err, "Weight-device discarded") {
		t.Errorf("%+v", r)
	}
}

// TestLimitsInside are seen by the container itself.
//
//muelle:ring
func TestLimitsInside(t *testing.T) {
	c := ours(world.daemon)
	dev, _ := disk(t)
	for _, tt := range []struct{ name, args, script, want string }{
		{"pids", "--pids-limit 3", "sleep 5 & sleep 5 & sleep 5 & echo all", "can't fork"},
		{"oom score", "--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500"},
		{"memory node", "--cpuset-mems 0", "grep Mems_allowed_list /proc/self/status", "0"},
		{"memory node that is missing", "--cpuset-mems 7", "true", "Requested memory nodes are not available"},
		{"reads a second", "--device-read-iops " + dev + ":10", "true", ""},
		{"no rate", "--device-read-bps " + dev + ":x", "true", "invalid rate"},
		{"no disk", "--device-read-bps /dev/null:1mb", "true", "not a block device"},
		{"kernel memory", "--kernel-memory 10m", "true", "no longer has that limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"run", "--rm"}, strings.Fields(tt.args)...)
			if r := c.try(t, append(args, "busybox", "sh", "-c", tt.script)...); !strings.Contains(r.out+r.err, tt.want) {
				t.Errorf("%+v, want %q", r, tt.want)
			}
		})
	}
	if unified() {
		return
	}
	// Version 1 only: a group without the killer waits at its limit.
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "-m", "16m", "--memory-swap", "16m", "--memory-swappiness", "10", "--oom-kill-disable", "busybox", "sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done")
	c.remove(t, name)
	if got := groupFile(t, c, name, "memory", "memory.swappiness", ""); got != "10" {
		t.Errorf("swappiness %s", got)
	}
	awaitLine(t, c, name, "memory.oom_control", "under_oom 1")
	if got := c.must(t, "inspect", "-f", "{{.State.Status}}", name); got != "running" {
		t.Errorf("%s", got)
	}
}

func awaitLine(t *testing.T, c client, name, file, line string) {
	t.Helper()
	if err := eventually(20*1e9, func() error {
		if text := groupFile(t, c, name, "memory", file, ""); !strings.Contains(text, line) {
			return os.ErrNotExist
		}
		return nil
	}); err != nil {
		t.Errorf("%s does not say %q: %s", file, line, groupFile(t, c, name, "memory", file, ""))
	}
}
