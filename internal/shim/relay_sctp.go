package shim

import (
	"golang.org/x/sys/unix"
)

// SCTP is relayed message by message: each is taken whole from one association, with its
// stream, its payload protocol identifier and whether it is unordered, and put into the
// other as it was. The kernel joins no pieces (it has no SCTP_EXPLICIT_EOR), so a message
// that comes in pieces is kept here until its end.

const (
	// maxAssociations and the rest bound what strangers can make the shim hold, for each port.
	maxAssociations = 1024
	maxMessage      = 4 << 20
	maxMessages     = 32 << 20
	// maxStreams is how many the relay offers to a client in each direction: it learns only
	// later what the container offers, and the kernel takes memory for each.
	maxStreams = 512
	// receiveBuffer is what a client may send ahead, in bytes; the kernel doubles it for its
	// own needs. A client at ::1 sends in packets of 64 KiB, of which the kernel's default
	// has room for one or two: each would wait for the acknowledgement of the last.
	receiveBuffer = 512 << 10
	// perTurn is how many messages of one side are passed on before another's turn.
	perTurn = 16
)

type sctpRelay struct {
	s     *shim
	fd    int
	to    unix.Sockaddr
	pairs map[*sctpPair]bool
	kept  int // bytes of messages that are in pieces or wait
}

// prepareSCTP sets what the associations of a listening socket begin with.
func prepareSCTP(fd int) error {
	if err := hearMessages(fd); err != nil {
		return err
	}
	if err := setStreams(fd, maxStreams, maxStreams); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
}

func (r *sctpRelay) rest() (unix.Sockaddr, bool) { return r.to, len(r.pairs) == 0 }

func (r *sctpRelay) ready(uint32) {
	if r.s.tooEarly(r.fd, r) {
		return
	}
	fd, _, err := unix.Accept4(r.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	if len(r.pairs) >= maxAssociations {
		abort(fd)
		return
	}
	up, err := r.dial(fd)
	if err != nil {
		abort(fd)
		return
	}
	r.s.loop.litter(pairGarbage)
	p := &sctpPair{r: r}
	p.a = sctpSide{p: p, fd: fd, other: &p.b}
	p.b = sctpSide{p: p, fd: up, other: &p.a, connecting: true}
	if r.pairs == nil {
		r.pairs = map[*sctpPair]bool{}
	}
	r.pairs[p] = true
	p.update()
}

// dial begins an association with the container that has the streams of the client's.
func (r *sctpRelay) dial(client int) (fd int, err error) {
	// It may have been made before the listening socket was told.
	if err := hearMessages(client); err != nil {
		return -1, err
	}
	if err := onlyIPv6(client); err != nil {
		return -1, err
	}
	in, out, mtu, err := streams(client)
	if err == nil && mtu > 16<<10 {
		err = smallPackets(client) // by the loopback
	}
	if err != nil {
		return -1, err
	}
	source, family, err := sourceTo(r.to)
	if err != nil {
		return -1, err
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return -1, err
	}
	if err = hearMessages(fd); err == nil {
		err = setStreams(fd, in, out)
	}
	if err == nil {
		err = smallPackets(fd)
	}
	// Bound to one address, the association tells the container no other of this host's.
	if err == nil {
		err = unix.Bind(fd, source)
	}
	if err == nil {
		if err = unix.Connect(fd, r.to); err == unix.EINPROGRESS {
			err = nil
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sourceTo gives the address from which this host sends there.
func sourceTo(to unix.Sockaddr) (source unix.Sockaddr, family int, err error) {
	fd, err := dial(to, unix.SOCK_DGRAM)
	if err != nil {
		return nil, 0, err
	}
	defer unix.Close(fd)
	if source, err = unix.Getsockname(fd); err != nil {
		return nil, 0, err
	}
	switch a := source.(type) {
	case *unix.SockaddrInet4:
		a.Port, family = 0, unix.AF_INET
	case *unix.SockaddrInet6:
		a.Port, family = 0, unix.AF_INET6
	}
	return source, family, nil
}

func (r *sctpRelay) stop() {
	for p := range r.pairs {
		p.close()
	}
}

// sctpPair is one relayed association.
type sctpPair struct {
	r    *sctpRelay
	a, b sctpSide
	done bool
}

// sctpSide is one of its two.
type sctpSide struct {
	p          *sctpPair
	fd         int
	other      *sctpSide
	connecting bool
	eof        bool // the peer sends no more, and takes no more
	shut       bool // we have ended it, or it needs no end
	// pieces are the beginning of a message from here, out is a whole one that goes here.
	pieces, out []byte
	info        messageInfo // of out
}

func (s *sctpSide) ready(events uint32) {
	p := s.p
	if events&unix.EPOLLERR != 0 {
		p.abort()
		return
	}
	if s.connecting {
		if events&unix.EPOLLOUT == 0 {
			p.abort()
			return
		}
		s.connecting = false
	}
	if s.out != nil && !s.flush() {
		return
	}
	if events&unix.EPOLLHUP != 0 && !s.reads() {
		// It would be reported again and again; update asks anew.
		p.r.s.loop.ignore(s.fd)
		return
	}
	for range perTurn {
		if !s.reads() || !s.read() {
			break
		}
	}
	p.update()
}

// reads tells whether a message from here could be handed on.
func (s *sctpSide) reads() bool {
	return !s.p.done && !s.eof && !s.connecting && !s.other.connecting && s.other.out == nil
}

// read takes one message, or a piece; false where there is none.
func (s *sctpSide) read() bool {
	l := s.p.r.s.loop
	n, oobn, flags, _, err := unix.Recvmsg(s.fd, l.scratch, l.oob, 0)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false
	case err != nil:
		s.p.abort()
		return false
	case n == 0:
		s.end()
		return false
	case flags&msgNotification != 0:
		return s.told(l.scratch[:n])
	case s.other.eof:
		return true // nobody takes it any more
	}
	return s.piece(l.scratch[:n], l.oob[:oobn], flags&unix.MSG_EOR != 0)
}

// end: SCTP has no half of an end, the peer takes no more either.
func (s *sctpSide) end() {
	s.eof = true
	s.keep(&s.pieces, nil)
	s.keep(&s.out, nil)
}

// told reads a notification.
func (s *sctpSide) told(b []byte) bool {
	switch notice(b) {
	case noticeEnd:
		s.end()
	case noticeLost:
		s.p.abort()
	case noticeCut:
		s.keep(&s.pieces, nil) // the sender gave the message up
	}
	return !s.p.done
}

func (s *sctpSide) piece(b, oob []byte, last bool) bool {
	if len(s.pieces) > 0 || !last {
		if len(s.pieces)+len(b) > maxMessage || s.p.r.kept+len(b) > maxMessages {
			s.p.abort()
			return false
		}
		s.keep(&s.pieces, append(s.pieces, b...))
		if !last {
			return true
		}
	}
	s.p.r.s.loop.litter(messageGarbage)
	info, ok := receivedInfo(oob)
	if !ok {
		s.p.abort()
		return false
	}
	to := s.other
	to.info = info
	if s.pieces != nil {
		to.out, s.pieces = s.pieces, nil // counted already
		return to.flush()
	}
	sent, ok := to.send(b)
	if ok && !sent {
		to.keep(&to.out, append([]byte(nil), b...))
	}
	return ok
}

// keep replaces what is kept in one place, counted.
func (s *sctpSide) keep(at *[]byte, b []byte) {
	s.p.r.kept += len(b) - len(*at)
	*at = b
}

// flush is false when the pair was closed.
func (s *sctpSide) flush() bool {
	sent, ok := s.send(s.out)
	if sent {
		s.keep(&s.out, nil)
	}
	return ok
}

// send: a message goes whole or not at all. ok is false when the pair was closed.
func (s *sctpSide) send(b []byte) (sent, ok bool) {
	for roomy := false; ; {
		_, err := unix.SendmsgN(s.fd, b, s.info.sending(), nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return true, true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false, true
		case unix.EPIPE, unix.ESHUTDOWN, unix.ENOTCONN:
			return true, true // its end comes after what it has sent
		case unix.EMSGSIZE:
			// It is larger than the socket's buffer.
			if !roomy && unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, len(b)) == nil {
				roomy = true
				continue
			}
		}
		s.p.abort() // it has no such stream, among others
		return false, false
	}
}

// update sets what both sides wait for, hands on ends, and closes a pair that is
// through.
func (p *sctpPair) update() {
	if p.done {
		return
	}
	for _, s := range [2]*sctpSide{&p.a, &p.b} {
		if o := s.other; s.eof && o.out == nil && !o.shut && !o.connecting {
			if !o.eof {
				unix.Shutdown(o.fd, unix.SHUT_WR)
			}
			o.shut = true
		}
	}
	if p.a.eof && p.b.eof {
		p.close()
		return
	}
	for _, s := range [2]*sctpSide{&p.a, &p.b} {
		var events uint32
		if s.connecting || s.out != nil {
			events |= unix.EPOLLOUT
		}
		if s.reads() {
			events |= unix.EPOLLIN
		}
		l := p.r.s.loop
		if s.eof {
			l.ignore(s.fd)
		} else if l.watch(s.fd, events, s) != nil {
			p.close()
			return
		}
	}
}

// abort ends both at once, as one of them was.
func (p *sctpPair) abort() {
	if !p.done {
		linger0(p.a.fd)
		linger0(p.b.fd)
	}
	p.close()
}

func (p *sctpPair) close() {
	if p.done {
		return
	}
	p.done = true
	for _, s := range [2]*sctpSide{&p.a, &p.b} {
		s.keep(&s.pieces, nil)
		s.keep(&s.out, nil)
		p.r.s.loop.close(s.fd)
	}
	delete(p.r.pairs, p)
}

// abort closes an association with the word that it was not meant to end.
func abort(fd int) {
	linger0(fd)
	unix.Close(fd)
}

func linger0(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
