package port

import (
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"
)

func notSupported(format string, args ...any) error {
	return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

// bind gives a socket bound to the address. SO_REUSEADDR is left out, or another
// process that sets it could bind the same port beside us, as long as we do not
// listen. So a connection of a former server in TIME_WAIT is in the way; then we
// take the port with SO_REUSEADDR, and listen, which nobody can be beside.
func bind(at netip.AddrPort, proto network.IPProtocol) (*os.File, error) {
	relay := at.Addr().Is6()
	f, err := socket(at, proto, relay, relay)
	if err == unix.EADDRINUSE && proto == network.TCP && !relay {
		f, err = socket(at, proto, true, true)
		if err != nil {
			return nil, unix.EADDRINUSE
		}
	}
	return f, err
}

func socket(at netip.AddrPort, proto network.IPProtocol, reuse, listen bool) (*os.File, error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if at.Addr().Is6() {
		domain = unix.AF_INET6
	}
	if proto == network.UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := prepare(fd, at, kind == unix.SOCK_STREAM, reuse, listen); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "port"), nil
}

func prepare(fd int, at netip.AddrPort, stream, reuse, listen bool) error {
	relay := at.Addr().Is6()
	if stream && reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: v4(at.Addr())}
	if relay {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	// A TCP socket that does not listen hears nothing anyway.
	if !relay && (!stream || listen) {
		if err := deafen(fd); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return err
	}
	if stream && listen {
		return unix.Listen(fd, unix.SOMAXCONN)
	}
	return nil
}

func v4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

// deafen makes a socket drop whatever reaches it: should the rules be gone for a
// moment, nobody gets a handshake, or fills a buffer, that no one will read.
func deafen(fd int) error {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	prog := unix.SockFprog{Len: 1, Filter: (*unix.SockFilter)(unsafe.Pointer(&drop))}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog)
}
