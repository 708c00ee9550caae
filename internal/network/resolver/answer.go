package resolver

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// ttl is short: a container's address changes when it is started again.
const ttl = 5

// answer gives the reply to what the networks know, or nil: ask upstream.
func (s *Server) answer(asker string, query *dns.Msg) *dns.Msg {
	if query.Response || query.Opcode != dns.OpcodeQuery {
		return fail(query, dns.RcodeNotImplemented)
	}
	if len(query.Question) != 1 {
		return fail(query, dns.RcodeFormatError)
	}
	q := query.Question[0]
	if q.Qclass != dns.ClassINET {
		return nil
	}
	if q.Qtype == dns.TypePTR {
		return s.pointer(asker, query, q)
	}
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	found := s.dir.Lookup(asker, name)
	switch {
	case found.Known:
		return addresses(query, q, found.Addrs)
	case found.Hidden:
		return fail(query, dns.RcodeNameError)
	case s.dir.Upstream(asker).Qualified && !strings.Contains(name, "."):
		return fail(query, dns.RcodeNameError)
	}
	return nil
}

// addresses answers with the records of the type asked for, in an order that
// changes, so that the containers of a service share the load. A name without any
// of that type exists all the same.
func addresses(query *dns.Msg, q dns.Question, addrs []netip.Addr) *dns.Msg {
	r := reply(query)
	for _, i := range rand.Perm(len(addrs)) {
		a := addrs[i]
		header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
		switch {
		case q.Qtype == dns.TypeA && a.Is4():
			r.Answer = append(r.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
		case q.Qtype == dns.TypeAAAA && a.Is6():
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	return r
}

func (s *Server) pointer(asker string, query *dns.Msg, q dns.Question) *dns.Msg {
	a, ok := parseReverse(q.Name)
	if !ok {
		return nil
	}
	name, ok := s.dir.Reverse(asker, a)
	if !ok {
		return nil
	}
	r := reply(query)
	r.Answer = append(r.Answer, &dns.PTR{
		Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl},
		Ptr: dns.Fqdn(name),
	})
	return r
}

// parseReverse reads 2.0.18.172.in-addr.arpa. and its longer sister ip6.arpa.
func parseReverse(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		p := strings.Split(s, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa.")
	p := strings.Split(s, ".")
	if !ok || len(p) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, digit := range p {
		v, err := strconv.ParseUint(digit, 16, 4)
		if err != nil {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(v) << (i % 2 * 4)
	}
	return netip.AddrFrom16(b), true
}

func reply(query *dns.Msg) *dns.Msg {
	r := new(dns.Msg)
	r.SetReply(query)
	r.RecursionAvailable = true
	r.Compress = true
	if opt := query.IsEdns0(); opt != nil {
		r.SetEdns0(largestQuery, false)
	}
	return r
}

func fail(query *dns.Msg, code int) *dns.Msg {
	r := reply(query)
	r.Rcode = code
	return r
}
