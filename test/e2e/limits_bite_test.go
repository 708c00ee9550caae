//go:build root

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// counter reads how much of something a container has had.
type counter func(name string) uint64

// shares lets two containers go on until one has had so much more, and tells how much
// both have had meanwhile: amounts are compared, not times.
func shares(t *testing.T, had counter, light, heavy string, enough uint64) (of, ofHeavy uint64) {
	t.Helper()
	for _, name := range []string{light, heavy} { // both are at work
		begun := had(name)
		if err := eventually(time.Minute, func() error {
			if had(name) == begun {
				return errors.New(name + " does nothing")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	l, h := had(light), had(heavy)
	if err := eventually(2*time.Minute, func() error {
		of, ofHeavy = had(light)-l, had(heavy)-h
		if ofHeavy < enough {
			return fmt.Errorf("%s has had %d", heavy, ofHeavy)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return of, ofHeavy
}

// processorTime is a counter of microseconds.
func processorTime(t *testing.T, c client) counter {
	return func(name string) uint64 {
		t.Helper()
		n := uint64(0)
		if unified() {
			for line := range strings.Lines(groupFile(t, c, name, "cpu", "", "cpu.stat")) {
				if f := strings.Fields(line); f[0] == "usage_usec" {
					n, _ = strconv.ParseUint(f[1], 10, 64)
				}
			}
			return n
		}
		n, err := strconv.ParseUint(groupFile(t, c, name, "cpuacct", "cpuacct.usage", ""), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n / 1000
	}
}

// written is a counter of bytes on a disk.
func written(t *testing.T, c client, number string) counter {
	return func(name string) uint64 {
		t.Helper()
		for line := range strings.Lines(groupFile(t, c, name, "blkio", "blkio.throttle.io_service_bytes", "io.stat")) {
			f := strings.Fields(line)
			if f[0] != number {
				continue
			}
			for i, word := range f[1:] {
				value, ok := strings.CutPrefix(word, "wbytes=")
				if word == "Write" {
					value, ok = f[i+2], true
				}
				if ok {
					n, err := strconv.ParseUint(value, 10, 64)
					if err != nil {
						t.Fatal(err)
					}
					return n
				}
			}
		}
		return 0
	}
}

// TestSharesBite: two containers on one processor have of it what their shares say,
// also when those change.
//
//muelle:ring
func TestSharesBite(t *testing.T) {
	c := ours(world.daemon)
	a, b := c.unique(t, "a"), c.unique(t, "b")
	for name, share := range map[string]string{a: "100", b: "1000"} {
		c.must(t, "run", "-d", "--name", name, "--cpuset-cpus", "0", "-c", share, "busybox", "sh", "-c", "while :; do :; done")
		c.remove(t, name)
	}
	for _, heavy := range []string{b, a} {
		light := a
		if heavy == a {
			light = b
			c.must(t, "update", "-c", "1000", a)
			c.must(t, "update", "-c", "100", b)
		}
		if l, h := shares(t, processorTime(t, c), light, heavy, 500000); l*3 > h {
			t.Errorf("shares 100 and 1000 had %d and %d microseconds", l, h)
		}
	}
}

// TestUpdateBites: what update says of a running container holds from then on.
//
//muelle:ring
func TestUpdateBites(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "--ulimit", "fsize=2097152", "--shm-size", "1m", "busybox", "sleep", "1000")
		c.remove(t, name)
		const forks = "p=; for i in 1 2 3 4; do sleep 9 & p=\"$p $!\"; done; echo all; kill $p; wait"
		const memory = "dd if=/dev/zero of=/dev/null bs=40M count=1 2>&1 && echo all"
		const throttled = "f=/sys/fs/cgroup/cpu.stat; [ -e $f ] || f=/sys/fs/cgroup/cpu/cpu.stat; while grep -q 'nr_throttled 0' $f; do :; done; echo all"
		for _, step := range []struct{ update, script, want, not string }{
			{"", memory, "all", ""},
			{"-m 24m --memory-swap 24m", memory, "", "all"},
			{"-m 96m --memory-swap 96m", memory, "all", ""},
			{"", forks, "all", ""},
			{"--pids-limit 4", forks, "can't fork", "all"},
			{"--pids-limit 50", forks, "all", "can't fork"},
			{"--cpuset-cpus 1", "grep Cpus_allowed_list /proc/self/status /proc/1/status | cut -f2 | uniq", "1", "0-1"},
			{"--cpuset-cpus 0-1", "grep Cpus_allowed_list /proc/self/status /proc/1/status | cut -f2 | uniq", "0-1", ""},
			{"--cpus 0.05", throttled, "all", ""},
			{"--cpus 2", "dd if=/dev/zero of=/f bs=1M count=3 2>&1; stat -c 'size %s' /f", "size 2097152", ""},
			{"", "dd if=/dev/zero of=/dev/shm/f bs=1M count=2 2>&1", "No space left on device", ""},
		} {
			if step.update != "" {
				c.must(t, append(append([]string{"update"}, strings.Fields(step.update)...), name)...)
			}
			r := c.try(t, "exec", name, "sh", "-c", step.script)
			if got := r.out + r.err; !strings.Contains(got, step.want) || step.not != "" && strings.Contains(got, step.not) {
				t.Errorf("after %q: %s: %+v, want %q", step.update, step.script, r, step.want)
			}
		}
	})
}

// TestThrottleBites: of two containers that write at once the limited one gets less, until
// its limit is taken away.
//
//muelle:ring
func TestThrottleBites(t *testing.T) {
	dev, number := disk(t)
	c := ours(world.daemon)
	free, slow := c.unique(t, "free"), c.unique(t, "slow")
	for name, flags := range map[string][]string{free: nil, slow: {"--device-write-bps", dev + ":512kb", "--device-write-iops", dev + ":8"}} {
		writer(t, c, name, flags...)
	}
	const enough = 16 << 20
	if s, f := shares(t, written(t, c, number), slow, free, enough); s*2 > f {
		t.Errorf("the limited one wrote %d, the other %d", s, f)
	}
	// Now the other way round. Docker's client cannot.
	c.must(t, "update", "--device-write-bps", dev+":0", "--device-write-iops", dev+":0", slow)
	c.must(t, "update", "--device-write-iops", dev+":8", free)
	if f, s := shares(t, written(t, c, number), free, slow, enough); f*2 > s {
		t.Errorf("the limited one wrote %d, the other %d", f, s)
	}
}

// writer runs a container that writes to the disk, past every cache, without end.
func writer(t *testing.T, c client, name string, flags ...string) {
	t.Helper()
	dir := filepath.Join(world.dir, name) // /tmp is no disk in the virtual machine
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.must(t, append(append([]string{"run", "-d", "--name", name, "-v", dir + ":/d"}, flags...), "busybox", "sh", "-c",
		"while :; do dd if=/dev/zero of=/d/f bs=256k count=32 oflag=direct conv=notrunc 2>/dev/null; done")...)
	c.remove(t, name)
}
