package resolver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// ask puts a question to one server. What does not fit into a datagram is asked for
// again by TCP.
func ask(ctx context.Context, up Forwarder, l *errand) result {
	r := result{from: up.Addr}
	if l.tcp {
		r.msg, r.raw, r.err = exchange(ctx, up, "tcp", l)
		if r.err == nil || ctx.Err() != nil {
			return r
		}
		// Some servers know UDP only.
	}
	r.msg, r.raw, r.err = exchange(ctx, up, "udp", l)
	return r.whole(ctx, up, l)
}

// whole asks again by TCP for an answer that was too long for a datagram.
func (r result) whole(ctx context.Context, up Forwarder, l *errand) result {
	if r.err == nil && r.msg.Truncated {
		if m, raw, err := exchange(ctx, up, "tcp", l); err == nil {
			r.msg, r.raw = m, raw
		}
	}
	return r
}

// upstreamSize is what servers are told to send at most by UDP: it is not fragmented
// (DNS flag day 2020), for fragments can be forged.
const upstreamSize = 1232

// question makes the upstream's query: an id of our own, for what the container chose
// may be guessable, and none of its options, which are between it and us.
func question(query *dns.Msg) (*dns.Msg, []byte, error) {
	q := &dns.Msg{MsgHdr: dns.MsgHdr{
		Id: dns.Id(), Opcode: query.Opcode, RecursionDesired: query.RecursionDesired,
		CheckingDisabled: query.CheckingDisabled, AuthenticatedData: query.AuthenticatedData,
	}, Question: query.Question}
	if opt := query.IsEdns0(); opt != nil {
		q.SetEdns0(upstreamSize, opt.Do())
	}
	raw, err := q.Pack()
	return q, raw, err
}

// exchange sends the query and waits for its answer. The socket is connected and its
// port the kernel's random choice, so that only the server itself is heard; the id and
// the question must be ours (RFC 5452).
func exchange(ctx context.Context, up Forwarder, proto string, l *errand) (*dns.Msg, []byte, error) {
	q, data, err := question(l.query)
	if err != nil {
		return nil, nil, err
	}
	dialed, err := dial(ctx, up, proto)
	if err != nil {
		return nil, nil, err
	}
	conn := l.client.safe.hold(dialed, asked{proto: proto, from: up.Addr, id: q.Id, ticket: l.ticket}.note())
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if proto == "tcp" {
		deadline, _ := ctx.Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, nil, err
		}
		return converse(conn, proto, framed(data), q)
	}
	for try := range tries {
		deadline, _ := ctx.Deadline()
		if again := time.Now().Add(patience / tries); try < tries-1 && again.Before(deadline) {
			deadline = again
		}
		if err = conn.SetDeadline(deadline); err != nil {
			return nil, nil, err
		}
		m, raw, cerr := converse(conn, proto, data, q)
		if err = cerr; err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return m, raw, err
		}
	}
	return nil, nil, err
}

func converse(conn connection, proto string, data []byte, q *dns.Msg) (*dns.Msg, []byte, error) {
	if _, err := conn.Write(data); err != nil {
		return nil, nil, err
	}
	return hear(conn, proto, q)
}

// hear waits for the answer to q.
func hear(conn connection, proto string, q *dns.Msg) (*dns.Msg, []byte, error) {
	for {
		raw, err := receive(conn, proto)
		if err != nil {
			return nil, nil, err
		}
		m := new(dns.Msg)
		err = m.Unpack(raw)
		if len(raw) >= 12 && m.Id == q.Id && m.Response && err != nil && (len(m.Question) == 0 || sameQuestion(m, q)) {
			return nil, nil, fmt.Errorf("malformed answer: %w", err)
		}
		if err == nil && m.Id == q.Id && m.Response && (sameQuestion(m, q) || len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess) {
			return m, raw, nil
		}
		if proto == "tcp" {
			return nil, nil, errors.New("answer to another question")
		}
	}
}

func sameQuestion(a, b *dns.Msg) bool {
	return len(a.Question) == 1 && a.Question[0].Qtype == b.Question[0].Qtype && a.Question[0].Qclass == b.Question[0].Qclass &&
		strings.EqualFold(a.Question[0].Name, b.Question[0].Name)
}
