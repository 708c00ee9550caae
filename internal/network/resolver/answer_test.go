package resolver

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// fake is a directory of two names.
type fake struct{}

func (fake) Lookup(_, name string) Answer {
	switch name {
	case "web":
		return Answer{Known: true, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}}
	case "secret":
		return Answer{Hidden: true}
	}
	return Answer{}
}

func (fake) Reverse(_ string, a netip.Addr) (string, bool) {
	return "web.front", a == netip.MustParseAddr("10.0.0.2") || a == netip.MustParseAddr("fd00::2")
}

func (fake) Upstream(string) Upstream { return Upstream{} }

func TestAnswer(t *testing.T) {
	s := New(fake{}, slog.New(slog.DiscardHandler))
	defer s.Close()
	reverse6, err := dns.ReverseAddr("fd00::2")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, query string
		kind        uint16
		answers     int // -1: upstream is asked
		code        int
	}{
		{"A", "Web.", dns.TypeA, 1, dns.RcodeSuccess},
		{"AAAA", "web.", dns.TypeAAAA, 1, dns.RcodeSuccess},
		{"another type", "web.", dns.TypeMX, 0, dns.RcodeSuccess},
		{"hidden", "secret.", dns.TypeA, 0, dns.RcodeNameError},
		{"unknown", "example.org.", dns.TypeA, -1, 0},
		{"PTR", "2.0.0.10.in-addr.arpa.", dns.TypePTR, 1, dns.RcodeSuccess},
		{"PTR of IPv6", reverse6, dns.TypePTR, 1, dns.RcodeSuccess},
		{"unknown PTR", "3.0.0.10.in-addr.arpa.", dns.TypePTR, -1, 0},
		{"malformed PTR", "x.in-addr.arpa.", dns.TypePTR, -1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := new(dns.Msg)
			q.SetQuestion(tc.query, tc.kind)
			r := s.answer("asker", q)
			if tc.answers < 0 {
				if r != nil {
					t.Errorf("got %v, want upstream asked", r)
				}
				return
			}
			if r == nil || len(r.Answer) != tc.answers || r.Rcode != tc.code || r.Id != q.Id {
				t.Errorf("got %v", r)
			}
		})
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
