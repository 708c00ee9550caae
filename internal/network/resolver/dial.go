package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
)

// connection is a *net.UDPConn, *net.TCPConn or *os.File.
type connection interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
	syscall.Conn
}

// dial connects from the forwarder's namespace. Only the socket is made inside it:
// waiting there for a server that is dead would hold a thread for each lookup.
func dial(ctx context.Context, up Forwarder, proto string) (connection, error) {
	if up.NetNS == nil {
		conn, err := new(net.Dialer).DialContext(ctx, proto, up.Addr.String())
		if err != nil {
			return nil, err
		}
		return conn.(connection), nil // a *net.UDPConn or *net.TCPConn
	}
	var f *os.File
	err := netns.Do(up.NetNS, func() (err error) {
		f, err = beginConnect(up.Addr, proto)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := awaitConnect(ctx, f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// beginConnect makes a socket of the calling thread's namespace that connects.
func beginConnect(to netip.AddrPort, proto string) (*os.File, error) {
	kind, domain := unix.SOCK_DGRAM, unix.AF_INET6
	if proto == "tcp" {
		kind = unix.SOCK_STREAM
	}
	var sa unix.Sockaddr
	if a := to.Addr().Unmap(); a.Is4() {
		domain, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	} else {
		in6 := &unix.SockaddrInet6{Port: int(to.Port()), Addr: a.As16()}
		if zone, err := net.InterfaceByName(a.Zone()); err == nil {
			in6.ZoneId = uint32(zone.Index)
		}
		sa = in6
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "name server "+to.String()), nil
}

// awaitConnect waits, in Go's poller, until the socket is connected.
func awaitConnect(ctx context.Context, f *os.File) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := f.SetDeadline(deadline); err != nil {
			return err
		}
	}
	defer context.AfterFunc(ctx, func() { f.Close() })()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Write(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if n, err := unix.Poll(poll, 0); n == 0 || err != nil {
			return false
		}
		if code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			failed = errors.Join(err, unix.Errno(code))
		}
		return true
	})
	return errors.Join(err, failed)
}

// framed puts the length before a message, as TCP wants it.
func framed(data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 0, len(data)+2), uint16(len(data))), data...)
}

func receive(conn connection, proto string) ([]byte, error) {
	if proto == "udp" {
		buf := make([]byte, largestQuery)
		n, err := conn.Read(buf)
		return buf[:n], err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, buf)
	return buf, err
}
