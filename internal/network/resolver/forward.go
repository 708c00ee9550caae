package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
)

// patience is for one server: a client asks again after five seconds.
const patience = 2 * time.Second

// forward asks the upstreams in order and gives the first answer, with the query's
// id; raw is the query as it came, which is asked unchanged.
func (s *Server) forward(asker, proto string, raw []byte, query *dns.Msg) []byte {
	var last []byte
	for _, up := range s.dir.Upstream(asker).Servers {
		answer, err := s.ask(up, proto, raw)
		if err != nil {
			if s.ctx.Err() != nil {
				return nil // the daemon ends: the next one's resolver is asked again
			}
			s.log.Debug("name server does not answer", "server", up.Addr, "container", asker, "err", err)
			continue
		}
		switch last = answer; int(answer[3] & 0xf) {
		case dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused:
			continue // the next one may know
		}
		return answer
	}
	if last == nil {
		packed, err := fail(query, dns.RcodeServerFailure).Pack()
		if err != nil {
			return nil
		}
		return packed
	}
	return last
}

func (s *Server) ask(up Forwarder, proto string, raw []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	conn, err := dial(ctx, up, proto)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	// An id of our own: what the container chose may be guessable.
	id := uint16(rand.Uint32())
	query := append([]byte(nil), raw...)
	binary.BigEndian.PutUint16(query, id)
	if proto == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	for {
		answer, err := receive(conn, proto)
		if err != nil {
			return nil, err
		}
		if len(answer) >= 12 && binary.BigEndian.Uint16(answer) == id && answer[2]&0x80 != 0 {
			copy(answer[:2], raw[:2])
			return answer, nil
		}
		if proto == "tcp" {
			return nil, errors.New("answer to another question")
		}
	}
}

// connection is a *net.UDPConn, *net.TCPConn or *os.File.
type connection interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
}

// dial connects from the forwarder's namespace. Only the socket is made inside it:
// waiting there for a server that is dead would hold a thread for each lookup.
func dial(ctx context.Context, up Forwarder, proto string) (connection, error) {
	if up.NetNS == nil {
		return new(net.Dialer).DialContext(ctx, proto, up.Addr.String())
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

func receive(conn connection, proto string) ([]byte, error) {
	if proto == "udp" {
		buf := make([]byte, 1<<16)
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
