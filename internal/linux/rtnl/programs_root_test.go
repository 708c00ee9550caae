//go:build root

package rtnl_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/rtnl"
)

// From linux/bpf.h.
const (
	progLoad, linkCreate  = 5, 28
	typeSchedCLS, typeXDP = 3, 6
	placeIngress          = 46
)

// program loads "return 1", which drops with XDP and lets through with tc's ingress.
func program(t *testing.T, kind uint32, name string) int {
	t.Helper()
	code := [2]uint64{0x00000001_000000b7, 0x95}
	license := []byte("GPL\x00")
	attr := struct {
		kind, count        uint32
		code, license      unsafe.Pointer
		level, size        uint32
		log                uint64
		version, flags     uint32
		name               [16]byte
		ifindex, placeKind uint32
	}{kind: kind, count: 2, code: unsafe.Pointer(&code), license: unsafe.Pointer(&license[0])}
	copy(attr.name[:], name)
	fd, _, errno := unix.Syscall(unix.SYS_BPF, progLoad, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		t.Fatalf("load a program: %v", errno)
	}
	t.Cleanup(func() { unix.Close(int(fd)) })
	return int(fd)
}

// TestPrograms: what is attached to an interface is found, whichever way it was attached.
func TestPrograms(t *testing.T) {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth1"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rtnl.Delete("eth0"); err != nil {
			t.Error(err)
		}
	})
	up, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	told := func() (list []string) {
		t.Helper()
		found, err := rtnl.Programs(func(name string) bool { return name == "eth1" })
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range found {
			text := p.String()
			if p.Leaving {
				text += ", leaving"
			}
			list = append(list, text)
		}
		slices.Sort(list)
		return list
	}
	if list := told(); len(list) > 0 {
		t.Errorf("at first: %q", list)
	}
	for _, c := range []string{
		"tc qdisc add dev eth1 clsact", "tc filter add dev eth1 ingress protocol ip bpf da bytecode 1,6_0_0_0,", // not asked for
		"tc qdisc add dev eth0 clsact", "tc filter add dev eth0 ingress protocol ip bpf da bytecode 1,6_0_0_0,",
		"tc filter add dev eth0 egress protocol ip u32 match ip dport 80 0xffff flowid 1:1",
	} {
		args := strings.Fields(c)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "_", " ")
		}
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	if err := netlink.LinkSetXdpFdWithFlags(up, program(t, typeXDP, "guard"), 1<<1); err != nil { // XDP_FLAGS_SKB_MODE
		t.Fatal(err)
	}
	link := struct{ program, target, place, flags uint32 }{uint32(program(t, typeSchedCLS, "sieve")), uint32(up.Attrs().Index), placeIngress, 0}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, linkCreate, uintptr(unsafe.Pointer(&link)), 16)
	if errno != 0 {
		t.Fatalf("attach by a link: %v", errno)
	}
	want := []string{"the XDP program guard on eth0", "the tc filter bpf on eth0", "the tc filter sieve on eth0", "the tc filter u32 on eth0, leaving"}
	if list := told(); !slices.Equal(list, want) {
		t.Errorf("%q, not %q", list, want)
	}
	unix.Close(int(fd))
	if list := told(); !slices.Equal(list, slices.Delete(want, 2, 3)) {
		t.Errorf("without the link: %q", list)
	}
}
