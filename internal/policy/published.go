package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"muelle/api"
)

// Published says whether somebody reaches a published port. Through is, for a member,
// the network by whose gateway it asks.
func (w *World) Published(from, through string, b Publication) Verdict {
	return w.PublishedTo(from, through, nil, Port{}, b)
}

// PublishedTo is Published for a member's port, which another firewall may know.
func (w *World) PublishedTo(from, through string, to *Member, p Port, b Publication) Verdict {
	way := Way{From: from, In: through, Out: b.Network, Six: b.Host.Addr().Is6(), Protocol: p.Protocol, Port: p.Number, Host: b.Host}
	if to != nil {
		way.To = to.Name
	}
	return w.beside(w.published(from, through, b), way)
}

func (w *World) published(from, through string, b Publication) Verdict {
	n := w.Network(b.Network)
	if n == nil {
		return denied("it is published through an unknown network")
	}
	at := fmt.Sprintf("%s publishes it on %s", n.Name, b.Host)
	m := w.Member(from)
	switch {
	case m != nil && !m.Host && through == n.Key && !b.Host.Addr().IsLoopback():
		return w.publishedInside(m, through, n, b, at) // who is in the zone is not held off by it
	case n.publishes(api.ZoneNone):
		return denied("%s: publish: none", n.Name)
	case from == Host || m != nil && m.Host:
		return allowed("%s", at)
	case b.Host.Addr().IsLoopback():
		return denied("it is published on %s only, for this host", b.Host.Addr())
	case n.Internal || n.publishes(api.ZoneHost):
		return denied("%s publishes to this host only", n.Name)
	case from == LAN:
		return allowed("%s", at)
	case from == Internet && n.publishes(api.ZoneLAN):
		return denied("%s publishes to the LAN only (publish: lan)", n.Name)
	case from == Internet:
		return allowed("%s", at)
	case m == nil:
		return denied("nobody is called %s", from)
	}
	return w.publishedInside(m, through, n, b, at)
}

func (w *World) publishedInside(m *Member, through string, n *Network, b Publication, at string) Verdict {
	t := w.Network(through)
	switch {
	case t == nil || !slices.Contains(m.Networks, through):
		return denied("%s is on no network that leads to the host", m.Name)
	case t.linked():
		return denied("%s: the kernel keeps this host and the containers on its link apart (%s)", t.Name, t.Driver)
	case t.isolated(b.Host.Addr().Is6()):
		return denied("%s is isolated: this host has no address on it", t.Name)
	case t == n && !w.reachesHost(t, b.Host.Addr()):
		return denied("%s: this host is closed (egress)", t.Name)
	case t == n && !n.Between:
		return denied("%s: containers do not reach each other, by published ports neither (between: deny)", n.Name)
	case t == n:
		return allowed("%s", at)
	case t.Internal:
		return denied("%s is internal", t.Name)
	case !w.reachesHost(t, b.Host.Addr()):
		return denied("%s: this host is closed (egress)", t.Name)
	case n.publishes(api.ZoneLAN):
		return denied("%s publishes to the LAN only: containers are not on it", n.Name)
	}
	return allowed("%s", at)
}

// hostNames stand for this host in a list of destinations.
var hostNames = []string{"host.docker.internal", "host.muelle.internal"}

// reachesHost tells whether a network's containers may ask this host at an address of
// it, or, where that is not a certain one, at any of its family.
func (w *World) reachesHost(n *Network, at netip.Addr) bool {
	certain := at.IsValid() && !at.IsUnspecified() && !at.IsLoopback()
	if n.linked() || !certain && !slices.ContainsFunc(n.families(), func(six bool) bool { return !n.isolated(six) }) {
		return false
	}
	if !Restricted(n.Zone) {
		return true
	}
	prefixes, names := Destinations(n.Zone)
	named := slices.ContainsFunc(names, func(s string) bool { return slices.Contains(hostNames, s) })
	open := func(a netip.Addr) bool {
		return named && slices.Contains(n.Gateways, a) || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if certain {
		return open(at)
	}
	return named || slices.ContainsFunc(slices.Concat(n.Gateways, w.Addresses), func(a netip.Addr) bool {
		return (!at.IsValid() || a.Is4() == at.Is4()) && open(a)
	})
}

// ToHost says whether a member may ask this host itself.
func (w *World) ToHost(m *Member) Verdict {
	if m.Host {
		return allowed("%s is in this host's own network", m.Name)
	}
	no := denied("%s is on no network that leads to this host", m.Name)
	for _, key := range m.Networks {
		n := w.Network(key)
		switch {
		case n == nil || n.linked():
			continue
		case w.reachesHost(n, netip.Addr{}):
			v := w.beside(allowed("this host is on %s", n.Name), Way{From: m.Name, To: Host, In: key, Six: n.NoIPv4})
			if v.Allowed {
				return v
			}
			no = v
		case Restricted(n.Zone) && no.Firewall == "":
			no = denied("its networks close this host (egress)")
		}
	}
	return no
}
