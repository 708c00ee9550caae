package resolver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const (
	// patience is for all servers together: a client asks again after five seconds.
	patience = 4500 * time.Millisecond
	// stagger is what a server that says nothing costs before the next one is asked too.
	stagger = 200 * time.Millisecond
	// grudge is how long a server that was silent is asked after the others.
	grudge = 30 * time.Second
	// tries of one datagram, each of which may be lost.
	tries = 3
)

// result is what became of asking one server.
type result struct {
	from netip.AddrPort
	msg  *dns.Msg
	raw  []byte
	err  error
}

// good tells whether the answer settles the matter: another server may know what
// this one refuses to say.
func (r result) good() bool {
	if r.err != nil {
		return false
	}
	switch r.msg.Rcode {
	case dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeFormatError:
		return false
	}
	return true
}

func (r result) String() string {
	if r.err != nil {
		return "name server " + r.from.Addr().String() + ": " + plain(r.err)
	}
	return "name server " + r.from.Addr().String() + " says " + dns.RcodeToString[r.msg.Rcode]
}

func plain(err error) string {
	var errno unix.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, os.ErrClosed):
		return "no answer"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// errand is a lookup that others are asked for.
type errand struct {
	client *client
	tcp    bool
	query  *dns.Msg
	ticket ticket
	before []asked // by the daemon before
}

// forward asks the upstreams and gives the first good answer, with the query's id.
// nil: there is no answer, for the daemon ends; the next one goes on.
func (s *Server) forward(l *errand, e *record) []byte {
	query, tcp, c := l.query, l.tcp, l.client
	up := s.dir.Upstream(c.id)
	if len(up.Servers) == 0 {
		closeAll(l.before)
		return pack(fail(query, dns.RcodeServerFailure, e, up.Reason), e)
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	best, failed := s.settle(ctx, l, up.Servers)
	if s.ctx.Err() != nil {
		e.code = -1
		return nil
	}
	if best == nil {
		return pack(fail(query, dns.RcodeServerFailure, e, strings.Join(failed, "; ")), e)
	}
	e.from, e.code, e.data = best.from.Addr().String(), best.msg.Rcode, dataOf(best.msg)
	switch {
	case !best.good():
		e.reason = strings.Join(failed, "; ")
	case best.msg.Rcode == dns.RcodeNameError:
		e.reason = "nobody on the container's networks is called so, and name server " + e.from + " knows no such name"
	}
	if err := s.opened(c.id, best.msg, e.name); err != nil {
		return pack(fail(query, dns.RcodeServerFailure, e, "withheld: "+err.Error()), e)
	}
	size := replySize(query, tcp)
	if len(best.raw) > size {
		best.msg.Id = query.Id
		best.msg.Compress = true
		best.msg.Truncate(size)
		return pack(best.msg, e)
	}
	best.raw[0], best.raw[1] = byte(query.Id>>8), byte(query.Id)
	return best.raw
}

// opened tells the directory which addresses a name has.
func (s *Server) opened(asker string, m *dns.Msg, name string) error {
	var addrs []netip.Addr
	shortest := ^uint32(0)
	for _, rr := range m.Answer {
		shortest = min(shortest, rr.Header().Ttl)
		switch rr := rr.(type) {
		case *dns.A:
			if a, ok := netip.AddrFromSlice(rr.A); ok {
				addrs = append(addrs, a.Unmap())
			}
		case *dns.AAAA:
			if a, ok := netip.AddrFromSlice(rr.AAAA); ok {
				addrs = append(addrs, a.Unmap())
			}
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	return s.dir.Answered(asker, name, addrs, time.Duration(shortest)*time.Second)
}

// race asks one server after the other, the next as soon as one fails or has said
// nothing for a while, and gives the first good answer; without one, an answer that
// refuses, if there is any. The others' failures are told in words.
func (s *Server) race(ctx context.Context, l *errand, servers []Forwarder) (best *result, failed []string) {
	c := l.client
	servers = c.ordered(servers)
	if len(servers) == 1 { // nobody to race with
		r := ask(ctx, servers[0], l)
		if r.err == nil {
			best = &r
		}
		if !r.good() {
			failed = []string{r.String()}
		}
		return best, failed
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	results := make(chan result, len(servers))
	waiting := map[netip.AddrPort]time.Time{}
	next := func() {
		up := servers[0]
		servers = servers[1:]
		waiting[up.Addr] = time.Now()
		wg.Go(func() { results <- ask(ctx, up, l) })
	}
	next()
	tick := time.NewTicker(stagger)
	defer tick.Stop()
	for len(waiting) > 0 {
		select {
		case r := <-results:
			delete(waiting, r.from)
			if r.good() {
				c.blame(waiting)
				return &r, failed
			}
			if failed = append(failed, r.String()); r.err == nil {
				best = &r
			}
			if len(servers) > 0 {
				next()
			}
		case <-tick.C:
			if len(servers) > 0 {
				next()
			}
		}
	}
	return best, failed
}

// ordered puts the servers that were silent lately behind the others.
func (c *client) ordered(servers []Forwarder) []Forwarder {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.silent) == 0 {
		return servers
	}
	now := time.Now()
	rank := func(f Forwarder) int {
		if now.Before(c.silent[f.Addr]) {
			return 1
		}
		return 0
	}
	servers = slices.Clone(servers)
	slices.SortStableFunc(servers, func(a, b Forwarder) int { return rank(a) - rank(b) })
	return servers
}

// blame remembers the servers that had not answered when another one had, though
// they were asked long before.
func (c *client) blame(waiting map[netip.AddrPort]time.Time) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for a, until := range c.silent {
		if now.After(until) {
			delete(c.silent, a)
		}
	}
	for a, since := range waiting {
		if now.Sub(since) >= stagger {
			if c.silent == nil {
				c.silent = map[netip.AddrPort]time.Time{}
			}
			c.silent[a] = now.Add(grudge)
		}
	}
}

// replySize is how much the asker takes.
func replySize(query *dns.Msg, tcp bool) int {
	if tcp {
		return dns.MaxMsgSize
	}
	size := dns.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
	}
	return size
}

// pack makes the bytes of a reply of ours, and notes its code.
func pack(r *dns.Msg, e *record) []byte {
	e.code = r.Rcode
	data, err := r.Pack()
	if err != nil {
		e.reason = "the answer cannot be packed: " + err.Error()
		r = fail(r, dns.RcodeServerFailure, e, e.reason)
		e.code = r.Rcode
		if data, err = r.Pack(); err != nil {
			e.code = -1
			return nil
		}
	}
	return data
}
