package exposure

import (
	"net/netip"
	"slices"

	"muelle/api"
	"muelle/internal/linux/ruleset"
)

// Who is outside: on the links of this host, farther away, or both; or one address.
type Who struct {
	LAN, Internet bool
	// Addr is the only source; invalid: all of them.
	Addr netip.Addr
	// To is the address of this host's that is asked for; invalid: any.
	To netip.Addr
}

// patience is how many packets are followed for one question, until the answer is that
// it cannot be told.
const patience = 3000

// parting tells the sources of one question apart.
type parting struct {
	api.Sources
	// by is the first chain that drops.
	by   *ruleset.Chain
	left int
}

// what becomes of a range.
type what int

const (
	nobodys what = iota // no source has such an address
	passes
	dropped
	unsure
)

type part struct {
	what what
	at   netip.Prefix
}

// split asks for a range, and, where it hangs on the address, for its halves.
func (s *parting) split(p netip.Prefix, without func(netip.Prefix) bool, ask func(netip.Prefix) ruleset.Fate) []part {
	if without != nil && without(p) {
		return []part{{nobodys, p}}
	}
	s.left--
	fate := ask(p)
	switch {
	case fate.Certain():
		s.note(&s.Drops, fate.Rule)
		if s.by == nil {
			s.by = fate.By
		}
		return []part{{dropped, p}}
	case !fate.Dropped:
		s.note(&s.Lets, fate.Let)
		s.note(&s.Limits, fate.Rate)
		return []part{{passes, p}}
	case !fate.Addressed || p.IsSingleIP() || s.left <= 0:
		s.note(&s.Drops, fate.Rule)
		s.note(&s.Limits, fate.Rate)
		for _, r := range fate.Reasons {
			s.note(&s.DependsOn, r)
		}
		if len(fate.Reasons) == 0 {
			s.note(&s.DependsOn, "the address")
		}
		return []part{{unsure, p}}
	}
	low, high := halves(p)
	a, b := s.split(low, without, ask), s.split(high, without, ask)
	if len(a) == 1 && len(b) == 1 && (a[0].what == b[0].what || a[0].what == nobodys || b[0].what == nobodys) {
		return []part{{max(a[0].what, b[0].what), p}} // nobody's is the least
	}
	return append(a, b...)
}

func (s *parting) note(list *[]string, text string) {
	if text != "" && !slices.Contains(*list, text) && len(*list) < 8 {
		*list = append(*list, text)
	}
}

// halves of a range that is more than one address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	p = p.Masked()
	bytes, n := p.Addr().AsSlice(), p.Bits()
	bytes[n/8] |= 0x80 >> (n % 8)
	second, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(p.Addr(), n+1), netip.PrefixFrom(second, n+1)
}

// add takes over the parts of a link's sources.
func (s *parting) add(link string, parts []part) {
	for _, p := range parts {
		r := api.SourceRange{Prefix: p.at, Interface: link}
		list := map[what]*[]api.SourceRange{passes: &s.Pass, dropped: &s.Drop, unsure: &s.Open}[p.what]
		if list != nil && !slices.Contains(*list, r) {
			*list = append(*list, r)
		}
	}
}

// circle is how many get through.
func (s *parting) circle() circle {
	switch {
	case len(s.Pass) == 0 && len(s.Open) == 0:
		return none
	case len(s.Drop) == 0 && len(s.Open) == 0:
		return all
	}
	return some
}

// who parts those outside by what becomes of what they send to a target at those of this
// host's addresses that may be asked for.
func (h *host) who(t target, w Who, asked func(netip.Addr) bool) *parting {
	s := &parting{left: patience}
	for _, l := range h.links {
		if w.LAN {
			h.neighbours(s, t, w, l, asked)
		}
		if w.Internet && l.uplink {
			h.farther(s, t, w, l, asked)
		}
	}
	return s
}

// destinations are the addresses by which those on a link ask for a target: the host's on
// that link; where one is meant, also when it is on another link.
func (h *host) destinations(t target, w Who, l link, asked func(netip.Addr) bool) (list []netip.Prefix) {
	fits := func(a netip.Addr) bool {
		return t.hits(a) && (asked == nil || asked(a)) && (!w.To.IsValid() || t.own || w.To == a)
	}
	for _, p := range l.prefixes {
		if fits(p.Addr()) {
			list = append(list, p)
		}
	}
	one := w.To.IsValid() || w.LAN && !t.own && !t.host.Addr().IsUnspecified()
	if len(list) > 0 || !one || len(l.prefixes) == 0 {
		return list
	}
	for _, a := range h.own {
		if fits(a) && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			list = append(list, single(a))
		}
	}
	return list
}

// neighbours parts those on a link. Who has several ways takes the one that leads there.
func (h *host) neighbours(s *parting, t target, w Who, l link, asked func(netip.Addr) bool) {
	var ways [][]part
	for _, to := range h.destinations(t, w, l, asked) {
		var sources []netip.Prefix
		for _, p := range l.prefixes {
			local := p.Addr().IsLinkLocalUnicast()
			beside := !to.IsSingleIP() && p != to // its neighbours ask at its own address
			switch {
			case p.IsSingleIP() || p.Addr().Is4() != to.Addr().Is4(), w.Addr.IsValid() && !p.Contains(w.Addr.WithZone("")):
			case beside && !w.To.IsValid() && !w.Addr.IsValid(), to.IsSingleIP() && local, to.Addr().IsLinkLocalUnicast() && !local:
			case local && (!w.Addr.IsValid() || !w.To.IsValid()) && h.translated(t, to.Addr(), false): // nobody asks so
			case w.Addr.IsValid() && w.Addr.Zone() != "" && w.Addr.Zone() != l.name:
			case w.Addr.IsValid():
				sources = append(sources, single(w.Addr.WithZone("")))
			default:
				sources = append(sources, p.Masked())
			}
		}
		for _, from := range sources {
			ways = append(ways, s.split(from, h.itself, func(p netip.Prefix) ruleset.Fate { return h.arrive(t, l.name, p, to.Addr()) }))
		}
	}
	if !w.To.IsValid() {
		if i := slices.IndexFunc(ways, func(p []part) bool { return len(p) == 1 && p[0].what == passes }); i >= 0 {
			ways = ways[i : i+1]
		}
	}
	for _, parts := range ways {
		s.add(l.name, parts)
	}
}

// itself tells whether a range is one address of this host's.
func (h *host) itself(p netip.Prefix) bool { return p.IsSingleIP() && slices.Contains(h.own, p.Addr()) }

// farther parts those behind an uplink, who have public addresses.
func (h *host) farther(s *parting, t target, w Who, l link, asked func(netip.Addr) bool) {
	without := func(p netip.Prefix) bool {
		within := func(r netip.Prefix) bool { return r.Bits() <= p.Bits() && r.Contains(p.Addr()) }
		return slices.ContainsFunc(reserved, within) || slices.ContainsFunc(never, within) ||
			slices.ContainsFunc(l.prefixes, func(r netip.Prefix) bool { return within(r.Masked()) })
	}
	for _, to := range h.destinations(t, w, l, asked) {
		a := to.Addr()
		from := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if a.Is6() {
			from = netip.MustParsePrefix("2000::/3")
		}
		skip := without
		if w.Addr.IsValid() {
			from, skip = single(w.Addr.WithZone("")), nil
		}
		if a.IsLinkLocalUnicast() || from.Addr().Is4() != a.Is4() {
			continue
		}
		s.add(l.name, s.split(from, skip, func(p netip.Prefix) ruleset.Fate { return h.arrive(t, l.name, p, a) }))
	}
}

// never are the prefixes of addresses that nobody on the internet has, beside reserved.
var never = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
}

// Sources parts those outside by what the rules of other firewalls do with what they send
// to a target, and with all those of the engines' own too. Where there is no way for any
// of them, it is empty.
func (f *Filters) Sources(w Who, all bool, t Target) (api.Sources, *ruleset.Chain) {
	s := f.host(all).who(t.inside(), w, nil)
	return s.Sources, s.by
}

// OnLink tells whether an address is one of the neighbours' on a link of this host.
func (f *Filters) OnLink(a netip.Addr) bool {
	return slices.ContainsFunc(f.all.links, func(l link) bool {
		return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return !p.IsSingleIP() && p.Contains(a.WithZone("")) })
	})
}
