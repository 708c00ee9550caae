package shim

import (
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// relay begins to pass on what arrives at a held socket: by IPv6 to [::1], from which
// no packet can be sent on, or for a container that has no IPv6.
func (s *shim) relay(fd int, h *shimapi.Held) (relay, error) {
	to := sockaddr(h.Relay, int(h.RelayPort))
	if to == nil {
		return nil, unix.EAFNOSUPPORT
	}
	// One call where SetNonblock makes two: there may be a thousand of them.
	if err := unix.IoctlSetPointerInt(fd, fionbio, 1); err != nil {
		return nil, err
	}
	if h.Messages {
		return s.relaySCTP(fd, to)
	}
	if h.Datagram {
		u := &udpRelay{s: s, fd: fd, to: to}
		return u, s.loop.watch(fd, unix.EPOLLIN, u)
	}
	r := &tcpRelay{s: s, fd: fd, to: to}
	return r, s.loop.watch(fd, unix.EPOLLIN, r)
}

// early is a relay that was asked for something before the container was started.
type early struct {
	fd int
	h  handler
}

// tooEarly puts off what a relay was asked for to the start: until then the port may lead
// nowhere, and the kernel would remember that.
func (s *shim) tooEarly(fd int, h handler) bool {
	if s.main != nil {
		return false
	}
	s.loop.ignore(fd)
	s.early = append(s.early, early{fd, h})
	return true
}

func (s *shim) beginRelays() error {
	for _, e := range s.early {
		if err := s.loop.watch(e.fd, unix.EPOLLIN, e.h); err != nil {
			return err
		}
	}
	s.early = nil
	return nil
}

// fionbio is FIONBIO of asm-generic/ioctls.h, the same on amd64 and arm64.
const fionbio = 0x5421

// sockaddr makes an address of 4 or 16 bytes; package netip would cost every shim
// memory.
func sockaddr(addr []byte, port int) unix.Sockaddr {
	switch len(addr) {
	case 4:
		return &unix.SockaddrInet4{Port: port, Addr: [4]byte(addr)}
	case 16:
		return &unix.SockaddrInet6{Port: port, Addr: [16]byte(addr)}
	}
	return nil
}

func dial(to unix.Sockaddr, kind int) (int, error) {
	family := unix.AF_INET
	if _, ok := to.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// maxPairs and maxClients bound what strangers can make the shim hold.
const (
	maxPairs   = 4096
	maxClients = 1024
	udpIdle    = 90 * time.Second
)

type tcpRelay struct {
	s     *shim
	fd    int
	to    unix.Sockaddr
	pairs map[*pair]bool // made with the first: most ports are never asked by IPv6
}

func (r *tcpRelay) ready(uint32) {
	if r.s.tooEarly(r.fd, r) {
		return
	}
	fd, _, err := unix.Accept4(r.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	if len(r.pairs) >= maxPairs {
		unix.Close(fd)
		return
	}
	up, err := dial(r.to, unix.SOCK_STREAM)
	if err != nil {
		unix.Close(fd)
		return
	}
	p := &pair{r: r}
	p.a = &side{p: p, fd: fd}
	p.b = &side{p: p, fd: up, connecting: true, other: p.a}
	p.a.other = p.b
	if r.pairs == nil {
		r.pairs = map[*pair]bool{}
	}
	r.pairs[p] = true
	p.update()
}

func (r *tcpRelay) stop() {
	for p := range r.pairs {
		p.close()
	}
}

// pair is one relayed connection.
type pair struct {
	r    *tcpRelay
	a, b *side
	done bool
}

// side is one of its sockets.
type side struct {
	p          *pair
	fd         int
	other      *side
	connecting bool
	eof        bool // the peer sends no more
	shut       bool // we send no more
	pending    []byte
}

func (s *side) ready(events uint32) {
	p := s.p
	if s.connecting {
		v, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || v != 0 {
			p.close()
			return
		}
		s.connecting = false
	}
	if events&unix.EPOLLERR != 0 {
		p.close()
		return
	}
	if len(s.pending) > 0 && !s.flush() {
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP) != 0 && !s.eof && len(s.other.pending) == 0 && !s.other.connecting {
		if !s.read() {
			return
		}
	}
	p.update()
}

// read passes one piece to the other side; false when the pair was closed.
func (s *side) read() bool {
	buf := s.p.r.s.loop.scratch
	n, err := unix.Read(s.fd, buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return true
	case err != nil:
		s.p.close()
		return false
	case n == 0:
		s.eof = true
		return true
	}
	s.other.pending = append(s.other.pending[:0], buf[:n]...)
	return s.other.flush()
}

func (s *side) flush() bool {
	for len(s.pending) > 0 {
		n, err := unix.SendmsgN(s.fd, s.pending, nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EAGAIN {
			return true
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			s.p.close()
			return false
		}
		s.pending = s.pending[n:]
	}
	s.pending = nil
	return true
}

// update sets what both sides wait for, hands on ends, and closes a pair that is
// through.
func (p *pair) update() {
	for _, s := range []*side{p.a, p.b} {
		if s.eof && len(s.other.pending) == 0 && !s.other.shut && !s.other.connecting {
			unix.Shutdown(s.other.fd, unix.SHUT_WR)
			s.other.shut = true
		}
	}
	if p.a.shut && p.b.shut {
		p.close()
		return
	}
	for _, s := range []*side{p.a, p.b} {
		var events uint32
		if s.connecting || len(s.pending) > 0 {
			events |= unix.EPOLLOUT
		}
		if !s.eof && len(s.other.pending) == 0 && !s.other.connecting {
			events |= unix.EPOLLIN
		}
		l := p.r.s.loop
		if events == 0 {
			// A hang-up would be reported again and again.
			l.ignore(s.fd)
		} else if l.watch(s.fd, events, s) != nil {
			p.close()
			return
		}
	}
}

func (p *pair) close() {
	if p.done {
		return
	}
	p.done = true
	p.r.s.loop.close(p.a.fd)
	p.r.s.loop.close(p.b.fd)
	delete(p.r.pairs, p)
}
