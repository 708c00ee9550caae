package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/miekg/dns"

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

func dial(ctx context.Context, up Forwarder, proto string) (conn net.Conn, err error) {
	open := func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, proto, up.Addr.String())
		return err
	}
	if up.NetNS == nil {
		return conn, open()
	}
	// A single address is dialled by the calling goroutine, so on this thread.
	err = netns.Do(up.NetNS, open)
	return conn, err
}

func receive(conn net.Conn, proto string) ([]byte, error) {
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
