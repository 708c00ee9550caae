package port

import (
	"fmt"
	"os"

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

// bind gives a socket bound to the binding's address. SO_REUSEADDR is left out, or
// another process that sets it could bind the same port beside us, as long as we do not
// listen. So a connection of a former server in TIME_WAIT is in the way; then we take
// the port with SO_REUSEADDR, and listen, which nobody can be beside. A relay's socket
// listens anyway.
func bind(b Binding, filters *filters) (*os.File, error) {
	stream := b.Container.Proto() != network.UDP
	listens := stream && b.Relays()
	f, err := socket(b, filters, listens, listens)
	if err == unix.EADDRINUSE && stream && !listens {
		f, err = socket(b, filters, true, true)
		if err != nil {
			return nil, unix.EADDRINUSE
		}
	}
	return f, err
}

func socket(b Binding, filters *filters, reuse, listen bool) (*os.File, error) {
	domain, kind, proto := unix.AF_INET, unix.SOCK_STREAM, 0
	if b.Host.Addr().Is6() {
		domain = unix.AF_INET6
	}
	switch b.Container.Proto() {
	case network.UDP:
		kind = unix.SOCK_DGRAM
	case network.SCTP:
		proto = unix.IPPROTO_SCTP
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return nil, err
	}
	if err := prepare(fd, b, filters, kind == unix.SOCK_STREAM, reuse, listen); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "port"), nil
}

func prepare(fd int, b Binding, filters *filters, stream, reuse, listen bool) error {
	if stream && reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	host, at := b.Host.Addr(), int(b.Host.Port())
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: at, Addr: host.As16()}
	if host.Is4() {
		sa = &unix.SockaddrInet4{Port: at, Addr: host.As4()}
	} else if err := prepare6(fd, b, stream); err != nil {
		return err
	}
	// A TCP socket that does not listen hears nothing anyway.
	if !stream || listen {
		f := filters.deaf
		if b.Relays() {
			f = filters.onlyIPv6
		}
		if !b.Relays() || b.Both {
			if err := f.attach(fd); err != nil {
				return err
			}
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

// prepare6: datagrams tell which address they were sent to, from which they are answered.
func prepare6(fd int, b Binding, stream bool) error {
	only := 1
	if b.Both {
		only = 0
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
		return err
	}
	if stream {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
}
