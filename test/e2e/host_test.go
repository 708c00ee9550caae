//go:build root

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// outside runs f on a thread in the neighbour's network namespace.
func outside(f func() error) error {
	done := make(chan error)
	go func() {
		// The thread is thrown away with its namespace: no unlock.
		runtime.LockOSThread()
		if err := netns.Set(world.outside); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// upWith gives an interface of the namespace an address, "" for none, and sets it up.
func upWith(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if address != "" {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD // at once, not when nobody has objected
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func dropAddress(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return netlink.AddrDel(link, a)
}

// addAddress gives an interface of this machine an address until the test ends.
func addAddress(t *testing.T, link, address string) {
	t.Helper()
	addAddressBy(t, func(f func() error) error { return f() }, link, address)
}

// addAddressOutside does it for an interface of the neighbour.
func addAddressOutside(t *testing.T, link, address string) {
	t.Helper()
	addAddressBy(t, outside, link, address)
}

func addAddressBy(t *testing.T, where func(func() error) error, link, address string) {
	t.Helper()
	if err := where(func() error { return upWith(link, address) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := where(func() error { return dropAddress(link, address) }); err != nil {
			t.Error(err)
		}
	})
}

// loadRules adds what another firewall would have, a table inet test, until the test ends.
func loadRules(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("nft", "delete", "table", "inet", "test").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// dialFrom connects to an address, from one of this namespace's own where it is not "".
func dialFrom(proto, from, to string, patience time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: patience}
	switch ip := net.ParseIP(from); {
	case proto == "sctp":
		return associate(from, to, patience)
	case from == "":
	case strings.HasPrefix(proto, "udp"):
		d.LocalAddr = &net.UDPAddr{IP: ip}
	default:
		d.LocalAddr = &net.TCPAddr{IP: ip}
	}
	return d.Dial(proto, to)
}

// associate is dialFrom by SCTP. To package net one-to-one sockets are those of TCP.
func associate(from, to string, patience time.Duration) (net.Conn, error) {
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, err
	}
	sockaddr := func(at netip.AddrPort) unix.Sockaddr {
		if at.Addr().Is4() {
			return &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
		}
		return &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}
	}
	domain := unix.AF_INET
	if at.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "sctp")
	defer f.Close()
	if from != "" {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(netip.MustParseAddr(from), 0)))
	}
	wait := unix.NsecToTimeval(patience.Nanoseconds())
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(at))
	}
	if err != nil {
		return nil, fmt.Errorf("associate with %s: %w", to, err)
	}
	return net.FileConn(f)
}

// answered tells whether something takes a connection there: long it waits if that is to come.
func answered(from, to string, expected bool) error {
	c, err := dialFrom("tcp", from, to, patience(expected))
	if err != nil {
		return err
	}
	return c.Close()
}

// patience is long for what is to come, and short for what is not.
func patience(expected bool) time.Duration {
	switch {
	case expected && emulated():
		return 30 * time.Second
	case expected:
		return 5 * time.Second
	}
	return 300 * time.Millisecond
}

// echoes sends a word to the echo program and waits that long for it to come back.
func echoes(proto, from, to string, patience time.Duration) error {
	conn, err := dialFrom(proto, from, to, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	return repeated(conn, patience)
}

// repeated tells whether the other side answers with what it is sent.
func repeated(conn net.Conn, patience time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("word\n")); err != nil {
		return err
	}
	buf := make([]byte, 10)
	n, err := conn.Read(buf)
	if err == nil && string(buf[:n]) != "word\n" {
		err = fmt.Errorf("answer %q", buf[:n])
	}
	return err
}
