//go:build root

package check_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/probe"
	"muelle/internal/probe/check"
)

// TestInsideANamespace holds with and without a thread of its own.
func TestInsideANamespace(t *testing.T) {
	var l net.Listener
	ns, err := netns.New(func() error {
		// Loopback is down in a new namespace; SIOCSIFFLAGS needs no library.
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		ifr, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
			return err
		}
		l, err = net.Listen("tcp", "127.0.0.9:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	p, err := probe.Parse(probe.TCP, port)
	if err != nil {
		t.Fatal(err)
	}
	thread := check.NewThread()
	defer thread.Close()
	before, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range []*check.Thread{nil, thread} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		// It listens on one address only, beside the loopback's usual one.
		text, err := check.Run(ctx, p, check.Place{NetNS: ns, Thread: th, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.9")}})
		if err != nil || !strings.Contains(text, "127.0.0.9:"+port) {
			t.Errorf("%q, %v", text, err)
		}
		if _, err := check.Run(ctx, p, check.Place{NetNS: ns, Thread: th}); err == nil {
			t.Error("an address that nobody listens on was reached")
		}
		if _, err := check.Run(ctx, p, check.Place{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.9")}}); err == nil {
			t.Error("the namespace's listener was reached from outside")
		}
		cancel()
	}
	if after, err := os.Readlink("/proc/self/ns/net"); err != nil || after != before {
		t.Errorf("the process is in %s, was in %s (%v)", after, before, err)
	}
}
