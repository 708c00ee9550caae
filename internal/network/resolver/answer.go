package resolver

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// ttl is short: a container's address changes when it is started again.
const ttl = 5

// answer gives the reply to what the networks know, or nil: ask upstream. It fills
// the record.
func (s *Server) answer(asker string, query *dns.Msg, e *record) *dns.Msg {
	if query.Opcode != dns.OpcodeQuery {
		return fail(query, dns.RcodeNotImplemented, e, "not a query")
	}
	if len(query.Question) != 1 {
		return fail(query, dns.RcodeFormatError, e, "not one question")
	}
	q := query.Question[0]
	e.name, e.kind = strings.ToLower(strings.TrimSuffix(q.Name, ".")), q.Qtype
	if opt := query.IsEdns0(); opt != nil && opt.Version() != 0 {
		return fail(query, dns.RcodeBadVers, e, "EDNS version "+strconv.Itoa(int(opt.Version()))+" is not known")
	}
	if q.Qclass != dns.ClassINET {
		// Whom the asker may not ask for it may not ask for in another class either.
		if found := s.dir.Lookup(asker, e.name); found.Hidden {
			return fail(query, dns.RcodeNameError, e, found.Reason)
		}
		return nil
	}
	if q.Qtype == dns.TypePTR {
		if a, ok := parseReverse(q.Name); ok {
			if r := s.pointer(asker, query, a, e); r != nil {
				return r
			}
		}
	}
	if e.name == "localhost" || strings.HasSuffix(e.name, ".localhost") {
		// RFC 6761, section 6.3: never asked of anybody else.
		e.from = "loopback"
		return addresses(query, q, Answer{Addrs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}}, e)
	}
	found := s.dir.Lookup(asker, e.name)
	e.from, e.reason = found.From, found.Reason
	switch {
	case found.Known:
		return addresses(query, q, found, e)
	case found.Hidden:
		return fail(query, dns.RcodeNameError, e, found.Reason)
	}
	if w, name, ok := parseService(e.name); ok {
		if found := s.dir.Lookup(asker, name); found.Known || found.Hidden {
			return s.service(asker, query, found, w, name, e)
		}
	}
	if !strings.Contains(e.name, ".") && s.dir.Upstream(asker).Qualified {
		return fail(query, dns.RcodeNameError, e, "nobody on the container's networks is called so, and with the option ndots above 0 names without a dot are not asked for elsewhere")
	}
	return nil
}

// addresses answers with the records of the type asked for, in an order that
// changes, so that the containers of a service share the load. A name without any
// of that type exists all the same.
func addresses(query *dns.Msg, q dns.Question, found Answer, e *record) *dns.Msg {
	r := reply(query)
	first := 0
	if found.Equal > 1 {
		first = rand.IntN(found.Equal)
	}
	for i := range found.Addrs {
		if i < found.Equal {
			i = (i + first) % found.Equal
		}
		if rr := addressRecord(q.Name, q.Qtype, found.Addrs[i]); rr != nil {
			r.Answer = append(r.Answer, rr)
			e.addrs = append(e.addrs, found.Addrs[i])
		}
	}
	if len(r.Answer) == 0 && e.reason == "" {
		switch {
		case q.Qtype == dns.TypeAAAA:
			e.reason = "it has no IPv6 address on these networks"
		case q.Qtype == dns.TypeA:
			e.reason = "it has no IPv4 address on these networks"
		default:
			e.reason = "the name has addresses only"
		}
	}
	return r
}

func addressRecord(name string, kind uint16, a netip.Addr) dns.RR {
	switch {
	case (kind == dns.TypeA || kind == dns.TypeANY) && a.Is4():
		return &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
	case (kind == dns.TypeAAAA || kind == dns.TypeANY) && a.Is6():
		return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
	}
	return nil
}

func header(name string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// parseService reads _PORT._PROTO.NAME (RFC 2782).
func parseService(name string) (w Wanted, host string, ok bool) {
	if !strings.HasPrefix(name, "_") {
		return w, "", false
	}
	first, rest, _ := strings.Cut(name[1:], ".")
	proto, host, _ := strings.Cut(rest, ".")
	proto, ok = strings.CutPrefix(proto, "_")
	if !ok || host == "" || proto != "tcp" && proto != "udp" && proto != "sctp" {
		return w, "", false
	}
	return Wanted{Name: first, Proto: proto}, host, true
}

// Number is the port that is meant where no container calls one of its own so: a
// number, or what /etc/services of the host says (RFC 6335); 0: there is none.
func (w Wanted) Number() uint16 {
	if n, err := strconv.ParseUint(w.Name, 10, 16); err == nil {
		return uint16(n)
	}
	network := w.Proto
	if network == "sctp" {
		network = "tcp" // Go knows two; the names are the same
	}
	n, err := net.LookupPort(network, w.Name)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// service answers a lookup of _PORT._PROTO.NAME: where the containers called NAME
// serve that port, all with the same priority and weight.
func (s *Server) service(asker string, query *dns.Msg, found Answer, w Wanted, name string, e *record) *dns.Msg {
	if found.Hidden {
		return fail(query, dns.RcodeNameError, e, found.Reason)
	}
	targets := s.dir.Services(asker, name, w)
	e.from = found.From
	if len(targets) == 0 {
		return fail(query, dns.RcodeNameError, e, name+" neither exposes nor publishes a port "+w.Name+"/"+w.Proto)
	}
	r := reply(query)
	if q := query.Question[0]; q.Qtype == dns.TypeSRV || q.Qtype == dns.TypeANY {
		for _, i := range rand.Perm(len(targets)) {
			t := targets[i]
			target := dns.Fqdn(t.Name)
			r.Answer = append(r.Answer, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Weight: 1, Port: t.Port, Target: target})
			for _, a := range t.Addrs {
				r.Extra = append([]dns.RR{addressRecord(target, dns.TypeANY, a)}, r.Extra...)
			}
		}
		r.Compress = true
		e.data = dataOf(r)
	}
	return r
}

func (s *Server) pointer(asker string, query *dns.Msg, a netip.Addr, e *record) *dns.Msg {
	name, own := s.dir.Reverse(asker, a)
	switch {
	case !own:
		return nil
	case name == "":
		return fail(query, dns.RcodeNameError, e, a.String()+" belongs to a network of Muelle, and to nobody whom the container may know")
	}
	e.from = "network"
	r := reply(query)
	r.Answer = append(r.Answer, &dns.PTR{Hdr: header(query.Question[0].Name, dns.TypePTR), Ptr: dns.Fqdn(name)})
	e.data = dataOf(r)
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
	if opt := query.IsEdns0(); opt != nil {
		r.SetEdns0(largestQuery, opt.Do())
	}
	return r
}

func fail(query *dns.Msg, code int, e *record, reason string) *dns.Msg {
	e.reason = reason
	r := reply(query)
	r.Rcode = code
	return r
}
