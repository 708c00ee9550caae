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
		if err := prepareSCTP(fd); err != nil {
			return nil, err
		}
	}
	return s.relayTo(fd, h, to)
}

// relayTo relays what comes to a socket that is ready for it.
func (s *shim) relayTo(fd int, h *shimapi.Held, to unix.Sockaddr) (r relay, err error) {
	switch {
	case h.Messages:
		r = &sctpRelay{s: s, fd: fd, to: to}
	case h.Datagram:
		r = &udpRelay{s: s, fd: fd, to: to}
	default:
		r = &tcpRelay{s: s, fd: fd, to: to}
	}
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
	r.s.loop.litter(pairGarbage)
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

func (r *tcpRelay) rest() (unix.Sockaddr, bool) { return r.to, len(r.pairs) == 0 }

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
	pending    backlog
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
	if s.waits() && !s.flush() {
		return
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP) != 0 && !s.eof && !s.other.waits() && !s.other.connecting {
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
	rest, ok := s.other.send(buf[:n])
	if len(rest) > 0 {
		s.other.pending.add(s.p.r.s.loop, rest)
	}
	return ok
}

// waits tells whether the peer has not taken something yet.
func (s *side) waits() bool { return len(s.pending.rest) > 0 }

func (s *side) flush() bool {
	rest, ok := s.send(s.pending.rest)
	if ok && len(rest) == 0 {
		s.pending.clear(s.p.r.s.loop)
	} else if ok {
		s.pending.rest = rest
	}
	return ok
}

// send gives what the peer does not take now; not ok: the pair was closed.
func (s *side) send(b []byte) (rest []byte, ok bool) {
	for len(b) > 0 {
		n, err := unix.SendmsgN(s.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EAGAIN:
			return b, true
		case err == unix.EINTR:
		case err != nil:
			s.p.close()
			return nil, false
		default:
			b = b[n:]
		}
	}
	return nil, true
}

// update sets what both sides wait for, hands on ends, and closes a pair that is
// through.
func (p *pair) update() {
	for _, s := range []*side{p.a, p.b} {
		if s.eof && !s.other.waits() && !s.other.shut && !s.other.connecting {
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
		if s.connecting || s.waits() {
			events |= unix.EPOLLOUT
		}
		if !s.eof && !s.other.waits() && !s.other.connecting {
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
	for _, s := range []*side{p.a, p.b} {
		s.pending.clear(p.r.s.loop)
		p.r.s.loop.close(s.fd)
	}
	delete(p.r.pairs, p)
}
