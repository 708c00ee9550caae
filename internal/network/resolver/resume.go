package resolver

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// asked is a name server that has been asked, and the socket where its answer arrives.
type asked struct {
	conn  connection
	proto string
	from  netip.AddrPort
	id    uint16
	ticket
}

// note is what is kept of it in a safe.
func (a asked) note() []byte {
	b := []byte{a.proto[0]}
	b = binary.LittleEndian.AppendUint16(b, a.id)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.slot))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.at))
	return append(b, a.from.String()...)
}

// parseAsked reads a note.
func parseAsked(b []byte) (a asked, ok bool) {
	if len(b) < 19 || b[0] != 'u' && b[0] != 't' {
		return a, false
	}
	a.proto = map[byte]string{'u': "udp", 't': "tcp"}[b[0]]
	a.id = binary.LittleEndian.Uint16(b[1:])
	a.ticket = ticket{slot: int(int64(binary.LittleEndian.Uint64(b[3:]))), at: int64(binary.LittleEndian.Uint64(b[11:]))}
	from, err := netip.ParseAddrPort(string(b[19:]))
	a.from = from
	return a, err == nil
}

func closeAll(list []asked) {
	for _, a := range list {
		a.conn.Close()
	}
}

// heldConn is a connection that is in a safe for as long as it is open.
type heldConn struct {
	connection
	safe *safe
	kept *kept
}

// Close takes it out of the safe first: its number may be another's afterwards.
func (c heldConn) Close() error {
	c.safe.release(c.kept)
	return c.connection.Close()
}

// hold keeps a connection in the safe until it is closed.
func (s *safe) hold(conn connection, what []byte) connection {
	if s == nil {
		return conn
	}
	h := heldConn{connection: conn, safe: s}
	if onFD(conn, func(fd int) { h.kept = s.keep(fd, what) }) != nil || h.kept == nil {
		return conn
	}
	return h
}

// resume goes on with what the daemon before left of an asker's lookups: those that it
// was asked by datagrams are in the list, TCP connections in the safe, and so are the
// sockets by which others had been asked. Called with the lock held.
func (s *Server) resume(c *client, left []waiter) {
	before := map[ticket][]asked{}
	var streams []*os.File
	for _, f := range c.safe.take() {
		if a, ok := parseAsked(f.what); ok {
			a.conn = f.file
			before[a.ticket] = append(before[a.ticket], a)
		} else if len(f.what) == 1 && f.what[0] == streamNote {
			streams = append(streams, f.file)
		} else {
			f.file.Close()
		}
	}
	for _, sock := range c.sockets {
		if sock.stream {
			for _, file := range streams {
				sock.goOn(file, before)
			}
			continue
		}
		for _, w := range left {
			if sock.inode == w.inode {
				list := before[w.ticket]
				delete(before, w.ticket)
				from := &unix.SockaddrInet4{Port: int(w.from.Port()), Addr: w.from.Addr().As4()}
				// Both are kept again before anybody can close the server.
				next := s.pending.put(sock.inode, from, w.data)
				c.hold(list, next)
				s.wg.Go(func() { sock.datagram(w.data, from, &goneOn{ticket: next, before: list}) })
			}
		}
	}
	for _, list := range before { // answered already
		closeAll(list)
	}
}

// goneOn is a lookup of the daemon before, kept again.
type goneOn struct {
	ticket ticket
	before []asked
}

// drop forgets it.
func (g *goneOn) drop(s *Server) {
	if g != nil {
		closeAll(g.before)
		s.pending.drop(g.ticket)
	}
}

// hold keeps the sockets by which others had been asked under a lookup's new ticket.
func (c *client) hold(list []asked, t ticket) {
	for i := range list {
		list[i].ticket = t
		list[i].conn = c.safe.hold(list[i].conn, list[i].note())
	}
}

// goOn serves a connection of the daemon before.
func (k *socket) goOn(file *os.File, before map[ticket][]asked) {
	conn := k.client.safe.hold(file, []byte{streamNote})
	var at ticket
	_ = onFD(conn, func(fd int) { at = ticketOf(inodeOf(fd)) })
	list := before[at]
	delete(before, at)
	k.client.hold(list, at)
	if !k.spawn(k.client.streams, func() { k.serve(conn, list) }) {
		closeAll(list)
		hangUp(conn)
	}
}

// settle asks the servers, and hears those that the daemon before had asked already:
// who has waited for it gets the answer as soon as if it had never been away.
func (s *Server) settle(ctx context.Context, l *errand, servers []Forwarder) (best *result, failed []string) {
	if len(l.before) == 0 {
		return s.race(ctx, l, servers)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	type outcome struct {
		best   *result
		failed []string
	}
	outcomes := make(chan outcome, len(l.before)+1)
	wg.Go(func() {
		r, failed := s.race(ctx, l, servers)
		outcomes <- outcome{r, failed}
	})
	for _, a := range l.before {
		wg.Go(func() { outcomes <- outcome{best: a.goOn(ctx, l, servers)} })
	}
	for range cap(outcomes) {
		o := <-outcomes
		failed = append(failed, o.failed...)
		if o.best != nil && (best == nil || o.best.good()) {
			best = o.best
		}
		if best != nil && best.good() {
			return best, nil
		}
	}
	return best, failed
}

// goOn waits for the answer of a server that the daemon before asked, if it may still be
// asked; nil: there is none.
func (a asked) goOn(ctx context.Context, l *errand, servers []Forwarder) *result {
	conn := a.conn
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for _, up := range servers {
		if up.Addr != a.from {
			continue
		}
		q, _, err := question(l.query)
		deadline, _ := ctx.Deadline()
		if err != nil || conn.SetDeadline(deadline) != nil {
			return nil
		}
		q.Id = a.id
		r := result{from: a.from}
		if r.msg, r.raw, r.err = hear(conn, a.proto, q); r.err != nil {
			return nil
		}
		r = r.whole(ctx, up, l)
		return &r
	}
	return nil
}
