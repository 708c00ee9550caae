// Package check makes a probe: it connects inside a container's network namespace
// and judges the answer. The peer is a stranger: nothing is followed, little is
// read, and everything ends with the context.
package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/probe"
)

// Place is where a probe is made.
type Place struct {
	// NetNS is the container's network namespace; nil: the engine's own.
	NetNS *os.File
	// Thread goes there; nil: a thread for this probe alone.
	Thread *Thread
	// Addrs are the container's own addresses beside its loopback, tried where that
	// refuses: some programs listen on one address only.
	Addrs []netip.Addr
}

// dial connects to the probe's target. Only making the socket happens inside the
// namespace, for some microseconds: a socket belongs to the namespace that it was
// made in, wherever its thread goes.
func dial(ctx context.Context, p *probe.Config, at Place) (net.Conn, netip.AddrPort, error) {
	addrs := []netip.Addr{p.Addr}
	if !p.Addr.IsValid() {
		addrs = append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, at.Addrs...)
	}
	var first error
	for _, a := range addrs {
		to := netip.AddrPortFrom(a, p.Port)
		conn, err := dialOne(ctx, at.Thread, at.NetNS, to)
		if err == nil {
			return conn, to, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, unix.ECONNREFUSED) && a == addrs[0] || ctx.Err() != nil {
			break
		}
	}
	to := netip.AddrPortFrom(addrs[0], p.Port)
	if len(addrs) > 1 && errors.Is(first, unix.ECONNREFUSED) {
		first = fmt.Errorf("%w: nothing listens on port %d of the container", first, p.Port)
	}
	return nil, to, first
}

func dialOne(ctx context.Context, thread *Thread, ns *os.File, to netip.AddrPort) (net.Conn, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if a := to.Addr().Unmap(); a.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	}
	fd := -1
	open := func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	}
	var err error
	switch {
	case ns == nil:
		err = open()
	case thread != nil:
		err = thread.do(ns, open)
	default:
		err = netns.Do(ns, open)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "probe")
	defer f.Close() // FileConn duplicates it
	if err := connect(ctx, f, sa); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// connect waits for a connection through the poller, until ctx ends.
func connect(ctx context.Context, f *os.File, sa unix.Sockaddr) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	deadline, ok := ctx.Deadline()
	if ok {
		if err := f.SetDeadline(deadline); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	cerr := raw.Control(func(fd uintptr) { err = unix.Connect(int(fd), sa) })
	if cerr != nil {
		return cerr
	}
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	werr := raw.Write(func(fd uintptr) bool {
		var n int
		if n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || n != 0 {
			if err == nil {
				err = unix.Errno(n)
			}
			return true
		}
		// Writable does not say connected: the poller may tell of the time before.
		_, err = unix.Getpeername(int(fd))
		return !errors.Is(err, unix.ENOTCONN)
	})
	if werr != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return werr
	}
	return err
}
