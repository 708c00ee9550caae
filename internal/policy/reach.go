package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/api"
)

// Reach says whether somebody reaches a member's port in any way, by its own address
// before by a port of the host. Number 0 asks for any port.
func (w *World) Reach(from string, to *Member, protocol string, number uint16) Verdict {
	ports := []Port{to.Port(protocol, number)}
	if number == 0 {
		ports = append(slices.Clone(to.Ports), Port{Protocol: protocol})
	}
	var no []string
	var firewall string
	var byHost *Verdict
	for _, p := range ports {
		for _, v := range w.ways(from, to, p) {
			switch {
			case v.Allowed && !v.ByHost:
				return v
			case v.Allowed && byHost == nil:
				byHost = &v
			case !v.Allowed && !slices.Contains(no, v.Why):
				no = append(no, v.Why)
			}
			if firewall == "" {
				firewall = v.Firewall
			}
		}
	}
	if byHost != nil {
		return *byHost
	}
	if len(no) == 0 {
		no = []string{fmt.Sprintf("%s is on no network", to.Name)}
	}
	return Verdict{Firewall: firewall, Why: strings.Join(no, "; ")}
}

// ways are the verdicts of every way to a port.
func (w *World) ways(from string, to *Member, p Port) (list []Verdict) {
	m := w.Member(from)
	if p.Local && from != to.Name && !(to.Host && (m == nil && from == Host || m != nil && m.Host)) {
		return []Verdict{denied("%s listens on %d/%s on its loopback address only", to.Name, p.Number, p.Protocol)}
	}
	if to.Host {
		return w.toHostMember(from, m, to, p)
	}
	shared := false
	for _, key := range to.Networks {
		n := w.Network(key)
		if n == nil || m != nil && !m.Host && !slices.Contains(m.Networks, key) {
			continue
		}
		shared = true
		for _, six := range n.families() {
			list = append(list, w.Direct(from, to, key, p, six))
		}
	}
	if !shared && m != nil && !m.Host {
		list = append(list, denied("no network in common"))
	}
	for _, b := range p.Published {
		if b.Own {
			continue // that is a way by its own address
		}
		if m == nil || m.Host {
			list = append(list, w.PublishedTo(from, "", to, p, b))
			continue
		}
		for _, key := range m.Networks {
			if n := w.Network(key); n != nil && !n.has(b.Host.Addr().Is6()) {
				continue
			}
			v := w.PublishedTo(from, key, to, p, b)
			v.ByHost = v.Allowed
			list = append(list, v)
		}
	}
	return list
}

// toHostMember are the ways to somebody in this host's own network.
func (w *World) toHostMember(from string, m *Member, to *Member, p Port) (list []Verdict) {
	if m == nil || m.Host {
		for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			list = append(list, w.ToHostMember(from, "", to, p, a))
		}
		return list
	}
	for _, key := range m.Networks {
		for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			if n := w.Network(key); n != nil && n.has(a.Is6()) {
				list = append(list, w.ToHostMember(from, key, to, p, a))
			}
		}
	}
	if len(list) == 0 {
		list = append(list, denied("%s is in this host's own network, and %s on none that leads there", to.Name, from))
	}
	return list
}

// ToHostMember says whether somebody reaches a port of a member in this host's own network
// at an address of the host's, or at any of a family. Through is, for a member with a
// network of its own, the network by whose gateway it asks.
func (w *World) ToHostMember(from, through string, to *Member, p Port, at netip.Addr) Verdict {
	open := allowed("%s is in this host's own network", to.Name)
	m := w.Member(from)
	if m == nil && from == Host || m != nil && m.Host {
		return open
	}
	if m != nil {
		n := w.Network(through)
		switch {
		case n == nil || n.linked():
			return denied("%s is in this host's own network, and %s on none that leads there", to.Name, from)
		case n.isolated(at.Is6()):
			return denied("%s is isolated: this host has no address on it", n.Name)
		case !w.reachesHost(n, at):
			return denied("%s is in this host's own network, which is closed to %s", to.Name, from)
		}
	}
	return w.beside(open, Way{From: from, To: to.Name, In: through, Six: at.Is6(), Protocol: p.Protocol, Port: p.Number})
}

// Out says whether a member may begin connections to somewhere: lan, internet, or a
// name or address.
func (w *World) Out(m *Member, to string) Verdict {
	v := w.out(m, to)
	n := w.Network(m.Way)
	if !v.Allowed || n == nil {
		return v // this host's own ways are its firewall's
	}
	p, ok := Prefix(to)
	var last Verdict
	for _, six := range n.families() {
		if ok && p.Addr().Is6() != six {
			continue
		}
		if last = w.OutBy(m, to, six); last.Allowed {
			return last
		}
	}
	return last
}

// OutBy is Out for one family of addresses.
func (w *World) OutBy(m *Member, to string, six bool) Verdict {
	n := w.Network(m.Way)
	if n != nil && !n.has(six) {
		return denied("%s has no addresses of that family", n.Name)
	}
	return w.beside(w.out(m, to), Way{From: m.Name, To: to, In: m.Way, Six: six})
}

func (w *World) out(m *Member, to string) Verdict {
	if m.Host {
		return allowed("%s is in this host's own network", m.Name)
	}
	n := w.Network(m.Way)
	switch {
	case n == nil && len(m.Networks) == 0:
		return denied("%s is on no network", m.Name)
	case n == nil:
		return denied("%s is on internal networks only", m.Name)
	case n.linked():
		return allowed("%s is a link that leads out, past this host's rules (%s)", n.Name, n.Driver)
	case !Restricted(n.Zone):
		return allowed("%s leads out", n.Name)
	case n.Zone.Egress[0] == api.ZoneNone:
		return denied("%s: egress: none", n.Name)
	case to == Internet || to == LAN:
		return denied("%s leads to %s only", n.Name, strings.Join(n.Zone.Egress, ", "))
	}
	prefixes, names := Destinations(n.Zone)
	if p, ok := Prefix(to); ok {
		for _, e := range prefixes {
			if e.Bits() <= p.Bits() && e.Contains(p.Addr()) {
				return allowed("%s lists %s", n.Name, e)
			}
		}
	}
	for _, e := range names {
		if Names(e, to) {
			return allowed("%s lists %s", n.Name, e)
		}
	}
	return denied("%s leads to %s only", n.Name, strings.Join(n.Zone.Egress, ", "))
}
