package resolver

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// upstreams is a directory that knows nobody but name servers.
type upstreams struct {
	fake
	servers []Forwarder
	opened  func(name string, addrs []netip.Addr, ttl time.Duration) error
}

func (u *upstreams) Lookup(string, string) Answer { return Answer{} }

func (u *upstreams) Upstream(string) Upstream {
	return Upstream{Servers: u.servers, Reason: "there is no name server"}
}

func (u *upstreams) Answered(_, name string, addrs []netip.Addr, ttl time.Duration) error {
	if u.opened == nil {
		return nil
	}
	return u.opened(name, addrs, ttl)
}

// server answers by UDP and TCP on one port of loopback; nil: it is silent.
func server(t *testing.T, handle func(w dns.ResponseWriter, q *dns.Msg)) Forwarder {
	t.Helper()
	for {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp4", pc.LocalAddr().String())
		if err != nil {
			pc.Close() // somebody has the port by TCP
			continue
		}
		t.Cleanup(func() { pc.Close(); l.Close() })
		if handle != nil {
			for _, s := range []*dns.Server{{PacketConn: pc, Handler: dns.HandlerFunc(handle)}, {Listener: l, Handler: dns.HandlerFunc(handle)}} {
				go func() { _ = s.ActivateAndServe() }()
			}
		}
		return Forwarder{Addr: netip.MustParseAddrPort(pc.LocalAddr().String())}
	}
}

func holding(q *dns.Msg, a string) *dns.Msg {
	r := new(dns.Msg).SetReply(q)
	r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.ParseIP(a)}}
	return r
}

func says(a string) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(holding(q, a)) }
}

func code(c int) func(dns.ResponseWriter, *dns.Msg) {
	return func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(q, c)) }
}

// put asks and gives the answer's first address or code, and the record.
func put(t *testing.T, u *upstreams, c *client, tcp bool) (string, record) {
	t.Helper()
	s := New(u, "", slog.New(slog.DiscardHandler))
	defer s.Close()
	q := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	e := record{name: "example.org"}
	data := s.forward(&errand{client: c, tcp: tcp, query: q, ticket: untold}, &e)
	r := new(dns.Msg)
	if err := r.Unpack(data); err != nil {
		t.Fatal(err)
	}
	if r.Id != q.Id || !r.Response {
		t.Errorf("got %v", r)
	}
	if len(r.Answer) == 0 {
		return dns.RcodeToString[r.Rcode], e
	}
	return r.Answer[0].(*dns.A).A.String(), e
}

func TestForward(t *testing.T) {
	closed := server(t, nil)
	{ // a port where nobody listens
		pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		closed.Addr = netip.MustParseAddrPort(pc.LocalAddr().String())
		pc.Close()
	}
	good, silent := server(t, says("192.0.2.1")), server(t, nil)
	refuses, broken, nobody := server(t, code(dns.RcodeRefused)), server(t, code(dns.RcodeServerFailure)), server(t, code(dns.RcodeNameError))
	other := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		q.Question[0].Name = "evil.example."
		_ = w.WriteMsg(holding(q, "203.0.113.1"))
	})
	for _, tc := range []struct {
		name    string
		servers []Forwarder
		tcp     bool
		want    string
		reason  string
	}{
		{"one", []Forwarder{good}, false, "192.0.2.1", ""},
		{"by TCP", []Forwarder{good}, true, "192.0.2.1", ""},
		{"the first is silent", []Forwarder{silent, good}, false, "192.0.2.1", ""},
		{"two are silent, by TCP", []Forwarder{silent, silent, good}, true, "192.0.2.1", ""},
		{"the first is not there", []Forwarder{closed, good}, false, "192.0.2.1", ""},
		{"the first refuses", []Forwarder{refuses, good}, false, "192.0.2.1", ""},
		{"the first fails", []Forwarder{broken, good}, false, "192.0.2.1", ""},
		{"the first knows that there is none", []Forwarder{nobody, good}, false, "NXDOMAIN", "knows no such name"},
		{"an answer to another question is not heard", []Forwarder{other, good}, false, "192.0.2.1", ""},
		{"all refuse", []Forwarder{refuses, refuses}, false, "REFUSED", "says REFUSED"},
		{"one is not there, one fails", []Forwarder{closed, broken}, false, "SERVFAIL", "connection refused; name server 127.0.0.1 says SERVFAIL"},
		{"nobody is there", []Forwarder{closed}, false, "SERVFAIL", "connection refused"},
		{"none", nil, false, "SERVFAIL", "there is no name server"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, e := put(t, &upstreams{servers: tc.servers}, &client{}, tc.tcp)
			if got != tc.want || !strings.Contains(e.reason, tc.reason) || tc.reason == "" && e.reason != "" {
				t.Errorf("got %s, because %q; want %s, because %q", got, e.reason, tc.want, tc.reason)
			}
		})
	}
}

// A server that was silent is asked after the others for a while.
func TestForwardRemembersTheSilent(t *testing.T) {
	var asked atomic.Int32
	silent := server(t, func(dns.ResponseWriter, *dns.Msg) { asked.Add(1) })
	u := &upstreams{servers: []Forwarder{silent, server(t, says("192.0.2.1"))}}
	c := &client{}
	for range 5 {
		if got, _ := put(t, u, c, false); got != "192.0.2.1" {
			t.Fatalf("got %s", got)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the silent server was asked %d times, want once", n)
	}
}

// A datagram that is lost is sent again.
func TestForwardAsksAgain(t *testing.T) {
	var asked atomic.Int32
	lossy := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		if asked.Add(1) > 1 {
			says("192.0.2.1")(w, q)
		}
	})
	if got, _ := put(t, &upstreams{servers: []Forwarder{lossy}}, &client{}, false); got != "192.0.2.1" {
		t.Errorf("got %s", got)
	}
}

// What does not fit into the server's datagram is asked for by TCP, and what does not
// fit into the asker's is truncated.
func TestForwardTruncated(t *testing.T) {
	up := server(t, func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		for i := range 40 {
			r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 0, 0, byte(i))})
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			r.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(r)
	})
	var opened int
	u := &upstreams{servers: []Forwarder{up}, opened: func(_ string, addrs []netip.Addr, ttl time.Duration) error {
		if opened = len(addrs); ttl != time.Minute {
			t.Errorf("the ttl is %v", ttl)
		}
		return nil
	}}
	s := New(u, "", slog.New(slog.DiscardHandler))
	defer s.Close()
	for _, tc := range []struct {
		size    uint16
		answers int
		whole   bool
	}{{0, 0, false}, {4096, 40, true}} {
		q := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
		if tc.size > 0 {
			q.SetEdns0(tc.size, false)
		}
		data := s.forward(&errand{client: &client{}, query: q, ticket: untold}, &record{})
		r := new(dns.Msg)
		if err := r.Unpack(data); err != nil || r.Truncated == tc.whole || tc.whole && len(r.Answer) != tc.answers || len(data) > max(512, int(tc.size)) || r.Id != q.Id {
			t.Errorf("%d bytes taken: got %d, %v, %v", tc.size, len(data), r.MsgHdr, err)
		}
		if opened != 40 {
			t.Errorf("the directory was told of %d addresses", opened)
		}
	}
}

// The directory may withhold an answer.
func TestForwardWithheld(t *testing.T) {
	u := &upstreams{servers: []Forwarder{server(t, says("192.0.2.1"))}, opened: func(name string, addrs []netip.Addr, _ time.Duration) error {
		if name != "example.org" || len(addrs) != 1 || addrs[0].String() != "192.0.2.1" {
			t.Errorf("got %s, %v", name, addrs)
		}
		return errors.New("the set is full")
	}}
	if got, e := put(t, u, &client{}, false); got != "SERVFAIL" || e.reason != "withheld: the set is full" {
		t.Errorf("got %s, because %q", got, e.reason)
	}
}

func TestRing(t *testing.T) {
	r := &ring{}
	r.begin()
	if list, next, changed := r.since(0); len(list) != 0 || next != 0 || changed == nil {
		t.Errorf("got %v, %d", list, next)
	}
	_, _, changed := r.since(0)
	for i := range 300 {
		r.add(record{name: strings.Repeat("x", i), kind: dns.TypeA})
	}
	<-changed
	list, next, _ := r.since(0)
	if len(list) != remembered || next != 300 || len(list[0].Name) != 300-remembered || len(list[remembered-1].Name) != 299 {
		t.Errorf("got %d up to %d, from %d", len(list), next, len(list[0].Name))
	}
	if list, _, _ := r.since(298); len(list) != 2 || len(list[0].Name) != 298 {
		t.Errorf("got %v", list)
	}
	_, _, changed = r.since(300)
	r.end()
	<-changed
	list, next, changed = r.since(300)
	if len(list) != 0 || changed != nil {
		t.Errorf("got %v after the end", list)
	}
	if list, _, _ = r.since(0); len(list) != keptOfPast || len(list[0].Name) != 300-keptOfPast {
		t.Errorf("%d are kept", len(list))
	}
	r.begin()
	r.add(record{name: "again", kind: 65280})
	if list, _, _ = r.since(keptOfPast); len(list) != 1 || list[0].Name != "again" || list[0].Type != "TYPE65280" || !list[0].Failed() && list[0].Code != "NOERROR" {
		t.Errorf("got %v", list)
	}
	_ = next
}

func TestPastIsBounded(t *testing.T) {
	s := New(fake{}, "", slog.New(slog.DiscardHandler))
	defer s.Close()
	for i := range past + 10 {
		id := string(rune('a'+i/26)) + string(rune('a'+i%26))
		r := s.ringOf(id)
		r.add(record{name: id})
		s.keep(id, r)
	}
	if len(s.rings) != past || len(s.ended) != past {
		t.Errorf("%d are kept", len(s.rings))
	}
	if list, _, _ := s.Queries("ab", 0); len(list) != 0 {
		t.Errorf("the oldest has %v", list)
	}
	if r := s.ringOf("bz"); len(r.list) != 1 || len(s.ended) != past-1 {
		t.Errorf("one that is started again has %v", r.list)
	}
}
