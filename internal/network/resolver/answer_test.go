package resolver

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fake is a directory of a few names.
type fake struct{ qualified bool }

var web = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("fd00::2")}

func (fake) Lookup(_, name string) Answer {
	switch name {
	case "web":
		return Answer{Known: true, Addrs: web, Equal: 2, From: "network front"}
	case "secret", "3.0.9.10.in-addr.arpa":
		return Answer{Hidden: true, Reason: "no network in common"}
	}
	return Answer{}
}

func (fake) Services(_, name string, w Wanted) []Target {
	if port := w.Number(); name == "web" && w.Proto == "tcp" && (port == 80 || port == 5000) {
		return []Target{{Name: "web-1.front", Port: port, Addrs: web[:1]}, {Name: "web-2.front", Port: port, Addrs: web[1:2]}}
	}
	return nil
}

func (fake) Reverse(_ string, a netip.Addr) (string, bool) {
	switch a.String() {
	case "10.0.0.2", "fd00::2":
		return "web.front", true
	case "10.9.0.1":
		return "", true
	}
	return "", false
}

func (f fake) Upstream(string) Upstream { return Upstream{Qualified: f.qualified} }

func (fake) Answered(string, string, []netip.Addr, time.Duration) error { return nil }

func TestAnswer(t *testing.T) {
	reverse6, err := dns.ReverseAddr("fd00::2")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, query string
		kind        uint16
		answers     int // -1: upstream is asked
		code        int
		reason      string
	}{
		{"A", "Web.", dns.TypeA, 2, dns.RcodeSuccess, ""},
		{"AAAA", "web.", dns.TypeAAAA, 1, dns.RcodeSuccess, ""},
		{"ANY", "web.", dns.TypeANY, 3, dns.RcodeSuccess, ""},
		{"another type", "web.", dns.TypeMX, 0, dns.RcodeSuccess, "addresses only"},
		{"text", "web.", dns.TypeTXT, 0, dns.RcodeSuccess, "addresses only"},
		{"HTTPS", "web.", dns.TypeHTTPS, 0, dns.RcodeSuccess, "addresses only"},
		{"hidden", "secret.", dns.TypeA, 0, dns.RcodeNameError, "no network in common"},
		{"unknown", "example.org.", dns.TypeA, -1, 0, ""},
		{"unknown, a single label", "nobody.", dns.TypeA, -1, 0, ""},
		{"localhost", "localhost.", dns.TypeA, 1, dns.RcodeSuccess, ""},
		{"below localhost", "a.localhost.", dns.TypeAAAA, 1, dns.RcodeSuccess, ""},
		{"PTR", "2.0.0.10.in-addr.arpa.", dns.TypePTR, 1, dns.RcodeSuccess, ""},
		{"PTR of IPv6", reverse6, dns.TypePTR, 1, dns.RcodeSuccess, ""},
		{"PTR of a stranger", "1.0.9.10.in-addr.arpa.", dns.TypePTR, 0, dns.RcodeNameError, "10.9.0.1 belongs"},
		{"PTR of a name that is not to be asked for", "3.0.9.10.in-addr.arpa.", dns.TypePTR, 0, dns.RcodeNameError, "no network in common"},
		{"unknown PTR", "3.0.0.10.in-addr.arpa.", dns.TypePTR, -1, 0, ""},
		{"malformed PTR", "x.in-addr.arpa.", dns.TypePTR, -1, 0, ""},
		{"SRV by name", "_http._TCP.web.", dns.TypeSRV, 2, dns.RcodeSuccess, ""},
		{"SRV by number", "_5000._tcp.web.", dns.TypeSRV, 2, dns.RcodeSuccess, ""},
		{"SRV, another type", "_5000._tcp.web.", dns.TypeTXT, 0, dns.RcodeSuccess, ""},
		{"SRV of another port", "_5001._tcp.web.", dns.TypeSRV, 0, dns.RcodeNameError, "neither exposes nor publishes a port 5001/tcp"},
		{"SRV of another protocol", "_5000._udp.web.", dns.TypeSRV, 0, dns.RcodeNameError, "5000/udp"},
		{"SRV of an unknown service", "_no-such-thing._tcp.web.", dns.TypeSRV, 0, dns.RcodeNameError, "a port no-such-thing/tcp"},
		{"SRV of a hidden name", "_80._tcp.secret.", dns.TypeSRV, 0, dns.RcodeNameError, "no network in common"},
		{"SRV of the world", "_ldap._tcp.example.org.", dns.TypeSRV, -1, 0, ""},
		{"an underscore only", "_.", dns.TypeSRV, -1, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(fake{}, "", slog.New(slog.DiscardHandler))
			defer s.Close()
			q := new(dns.Msg)
			q.SetQuestion(tc.query, tc.kind)
			var e record
			r := s.answer("asker", q, &e)
			if tc.answers < 0 {
				if r != nil {
					t.Errorf("got %v, want upstream asked", r)
				}
				return
			}
			if r == nil || len(r.Answer) != tc.answers || r.Rcode != tc.code || r.Id != q.Id {
				t.Errorf("got %v", r)
			}
			if !strings.Contains(e.reason, tc.reason) || tc.reason == "" && e.reason != "" {
				t.Errorf("the reason is %q, want %q", e.reason, tc.reason)
			}
			if _, err := r.Pack(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnswerTakesTurns(t *testing.T) {
	s := New(fake{}, "", slog.New(slog.DiscardHandler))
	defer s.Close()
	first := map[string]int{}
	for range 100 {
		q := new(dns.Msg)
		q.SetQuestion("web.", dns.TypeA)
		first[s.answer("asker", q, &record{}).Answer[0].(*dns.A).A.String()]++
	}
	if len(first) != 2 {
		t.Errorf("the first addresses are %v: want both containers'", first)
	}
}

func TestAnswerOddQueries(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*dns.Msg)
		code   int
	}{
		{"a later EDNS", func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }, dns.RcodeBadVers},
		{"an update", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
		{"two questions", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }, dns.RcodeFormatError},
		{"another class of a name that is not to be asked for", func(m *dns.Msg) { m.Question[0].Name, m.Question[0].Qclass = "secret.", dns.ClassCHAOS }, dns.RcodeNameError},
		{"no question", func(m *dns.Msg) { m.Question = nil }, dns.RcodeFormatError},
		{"single label with search domains", func(m *dns.Msg) { m.Question[0].Name = "nobody." }, dns.RcodeNameError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(fake{qualified: true}, "", slog.New(slog.DiscardHandler))
			defer s.Close()
			q := new(dns.Msg)
			q.SetQuestion("web.", dns.TypeA)
			tc.change(q)
			r := s.answer("asker", q, &record{})
			if r == nil {
				t.Fatal("upstream is asked")
			}
			data, err := r.Pack()
			if err != nil {
				t.Fatal(err)
			}
			back := new(dns.Msg)
			if err := back.Unpack(data); err != nil || back.Rcode != tc.code {
				t.Errorf("got %v, %v; want %s", back, err, dns.RcodeToString[tc.code])
			}
		})
	}
}

func TestParse(t *testing.T) {
	good, err := new(dns.Msg).SetQuestion("web.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if q, _ := parse(good); q == nil || len(q.Question) != 1 {
		t.Errorf("got %v", q)
	}
	if q, _ := parse(good[:len(good)-3]); q == nil || len(q.Question) != 0 {
		t.Errorf("got %v of a query that breaks off: it is to be answered with FORMERR", q)
	}
	answer := append([]byte(nil), good...)
	answer[2] |= 0x80
	for _, data := range [][]byte{nil, good[:11], answer} {
		if q, _ := parse(data); q != nil {
			t.Errorf("got %v of %x: it is to be passed over", q, data)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	data, err := new(dns.Msg).SetQuestion("_http._tcp.web.", dns.TypeSRV).SetEdns0(1232, true).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	s := New(fake{}, "", slog.New(slog.DiscardHandler))
	k := &socket{server: s, client: &client{id: "asker", ring: &ring{}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		query, e := parse(data)
		if query == nil {
			return
		}
		if answer := k.own(query, &e, false); answer != nil && len(answer) > replySize(query, false) {
			t.Errorf("%d bytes for somebody who takes %d", len(answer), replySize(query, false))
		}
		k.note(e)
		k.client.ring.since(0)
	})
}

func BenchmarkAnswer(b *testing.B) {
	data, err := new(dns.Msg).SetQuestion("web.", dns.TypeA).SetEdns0(1232, false).Pack()
	if err != nil {
		b.Fatal(err)
	}
	s := New(fake{}, "", slog.New(slog.DiscardHandler))
	k := &socket{server: s, client: &client{id: "asker", ring: &ring{}}}
	b.ReportAllocs()
	for b.Loop() {
		query, e := parse(data)
		k.own(query, &e, false)
		k.note(e)
	}
}

func FuzzParseReverse(f *testing.F) {
	f.Add("2.0.0.10.in-addr.arpa.")
	f.Add("2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.")
	f.Fuzz(func(t *testing.T, name string) {
		a, ok := parseReverse(name)
		if ok != a.IsValid() {
			t.Errorf("got %v, %v", a, ok)
		}
	})
}

// A container that has too many lookups under way is told so in its record.
func TestTooManyLookups(t *testing.T) {
	s := New(fake{}, "", slog.New(slog.DiscardHandler))
	defer s.Close()
	k := &socket{server: s, client: &client{id: "asker", ring: &ring{}, slots: make(chan struct{})}}
	data, err := new(dns.Msg).SetQuestion("example.org.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	k.datagram(data, nil, nil)
	if list, _, _ := k.client.ring.since(0); len(list) != 1 || list[0].Code != "" || !strings.Contains(list[0].Reason, "the limit is 256") {
		t.Errorf("got %v", list)
	}
}
