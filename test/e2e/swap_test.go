//go:build root && vm

package e2e

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// swapOn gives the machine some megabytes of swap.
func swapOn(t *testing.T, megabytes int) {
	t.Helper()
	path := filepath.Join(world.dir, "swap")
	data := make([]byte, megabytes<<20)
	// The header that mkswap(8) writes.
	binary.NativeEndian.PutUint32(data[1024:], 1)
	binary.NativeEndian.PutUint32(data[1028:], uint32(len(data)/os.Getpagesize()-1))
	copy(data[os.Getpagesize()-10:], "SWAPSPACE2")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, e := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), 0, 0); e != 0 {
		t.Fatal("swapon:", e)
	}
	t.Cleanup(func() {
		if _, _, e := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(name)), 0, 0); e != 0 {
			t.Error("swapoff:", e)
		}
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	})
}

// TestSwapLimitBites: what does not fit into memory goes to swap as far as the limit
// allows, also after an update.
//
//muelle:ring
func TestSwapLimitBites(t *testing.T) {
	swapOn(t, 128)
	c := ours(world.daemon)
	const hog = "dd if=/dev/zero of=/dev/null bs=40M count=1 2>/dev/null && echo fits"
	for limits, want := range map[string]string{"-m 24m --memory-swap 24m": "", "-m 24m": "fits\n", "-m 24m --memory-swap -1": "fits\n"} {
		if r := c.try(t, append(append([]string{"run", "--rm"}, strings.Fields(limits)...), "busybox", "sh", "-c", hog)...); r.out != want {
			t.Errorf("%s: %+v, want %q", limits, r, want)
		}
	}
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "-m", "24m", "--memory-swap", "24m", "busybox", "sleep", "1000")
	c.remove(t, name)
	for _, step := range [][2]string{{"24m", ""}, {"96m", "fits\n"}, {"24m", ""}} {
		c.must(t, "update", "--memory-swap", step[0], name)
		if r := c.try(t, "exec", name, "sh", "-c", hog); r.out != step[1] {
			t.Errorf("after --memory-swap %s: %+v, want %q", step[0], r, step[1])
		}
	}
}

// TestReservationBites: of two containers with equally much in memory the one with a
// reservation keeps it when a third one wants more than there is.
//
//muelle:ring
func TestReservationBites(t *testing.T) {
	c := ours(world.daemon)
	const parent = "/muelle-reserved"
	c.must(t, "run", "--rm", "--cgroup-parent", parent, "busybox", "true") // makes it
	if err := os.WriteFile("/sys/fs/cgroup"+parent+"/memory.max", []byte("80M"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := eventually(30*time.Second, func() error { return syscall.Rmdir("/sys/fs/cgroup" + parent) }); err != nil {
			t.Error(err)
		}
	})
	kept, lost := c.unique(t, "kept"), c.unique(t, "lost")
	const fill = "dd if=/dev/zero of=/f bs=1M count=30 2>/dev/null && sync && echo full"
	for _, name := range []string{kept, lost} {
		c.must(t, "run", "-d", "--name", name, "--cgroup-parent", parent, "busybox", "sleep", "1000")
		t.Cleanup(func() { c.must(t, "rm", "-f", name) })
	}
	c.must(t, "update", "--memory-reservation", "40m", kept)
	for _, name := range []string{kept, lost} {
		if got := c.must(t, "exec", name, "sh", "-c", fill); got != "full" {
			t.Fatal(got)
		}
	}
	c.must(t, "run", "--rm", "--cgroup-parent", parent, "busybox", "sh", "-c", "dd if=/dev/zero of=/f bs=1M count=150 2>/dev/null && sync")
	cached := func(name string) (n int) {
		for line := range strings.Lines(groupFile(t, c, name, "memory", "", "memory.stat")) {
			if f := strings.Fields(line); f[0] == "file" {
				n, _ = strconv.Atoi(f[1])
			}
		}
		return n
	}
	if k, l := cached(kept), cached(lost); k < 25<<20 || l > 15<<20 {
		t.Errorf("with a reservation of 40m %d bytes of 30m are left, without %d", k, l)
	} else {
		t.Logf("with a reservation %d bytes are left, without %d", k, l)
	}
}
