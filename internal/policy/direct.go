package policy

import (
	"fmt"
	"slices"

	"muelle/api"
)

// beside takes back what another firewall on this host drops.
func (w *World) beside(v Verdict, way Way) Verdict {
	if !v.Allowed || w.Beside == nil {
		return v
	}
	if rule := w.Beside(way); rule != "" {
		return Verdict{Firewall: rule, Why: fmt.Sprintf("%s, and another firewall on this host drops it: %s", v.Why, rule)}
	}
	return v
}

// Direct says whether somebody reaches a member's address of a family on a network.
func (w *World) Direct(from string, to *Member, key string, p Port, six bool) Verdict {
	in := key
	if m := w.Member(from); m == nil || m.Host {
		in = ""
	}
	return w.beside(w.direct(from, to, key, p, six), Way{From: from, To: to.Name, In: in, Out: key, Six: six, Protocol: p.Protocol, Port: p.Number})
}

func (w *World) direct(from string, to *Member, key string, p Port, six bool) Verdict {
	n := w.Network(key)
	if n == nil {
		return denied("%s is on an unknown network", to.Name)
	}
	switch from {
	case LAN, Internet:
		return n.fromOutside(from, p, six)
	case Host:
		return n.fromHost(to, p, six)
	}
	m := w.Member(from)
	switch {
	case m == nil:
		return denied("nobody is called %s", from)
	case m.Host:
		return n.fromHost(to, p, six)
	case !slices.Contains(m.Networks, key):
		return denied("%s is not on %s", from, n.Name)
	case n.Switched && m != to:
		return denied("%s: the switch of its link sends nothing back, as far as is known here (vepa)", n.Name)
	case !n.Between && m != to && n.linked():
		return denied("%s: containers do not reach each other (private)", n.Name)
	case !n.Between && m != to:
		return denied("%s: containers do not reach each other (between: deny)", n.Name)
	}
	return allowed("both are on %s", n.Name)
}

func (n *Network) fromHost(to *Member, p Port, six bool) Verdict {
	switch {
	case n.linked():
		return denied("%s: the kernel keeps this host and the containers on its link apart (%s)", n.Name, n.Driver)
	case n.isolated(six):
		return denied("%s is isolated: this host has no address on it", n.Name)
	case n.publishes(api.ZoneNone):
		return denied("%s: publish: none", n.Name)
	case n.publishes(api.ZoneHost, api.ZoneLAN, api.ZoneAny):
		if slices.ContainsFunc(p.Published, func(b Publication) bool { return b.Network == n.Key }) {
			return allowed("%s publishes it (publish: %s)", n.Name, n.Zone.Publish)
		}
		return denied("%s: %s does not publish %d/%s", n.Name, to.Name, p.Number, p.Protocol)
	}
	return allowed("this host is on %s", n.Name)
}

// fromOutside: other machines reach containers' own addresses where the network has no
// translation in between, or is none of this host's at all.
func (n *Network) fromOutside(from string, p Port, six bool) Verdict {
	own := slices.ContainsFunc(p.Published, func(b Publication) bool { return b.Network == n.Key && b.Own && b.Host.Addr().Is6() == six })
	why := ""
	switch mode := n.mode(six); {
	case n.linked() && n.Internal:
		return denied("%s is internal", n.Name)
	case n.linked():
		return allowed("%s is a link that other machines are on: this host's rules do not see it (%s)", n.Name, n.Driver)
	case mode == modeUnprotected:
		why = "every port is open at the container's own address"
	case own && mode == modeRouted:
		why = "it is published at the container's own address"
	case own && n.trusts(from):
		why = "it is published at the container's own address for " + optionTrusted
	case mode == modeRouted:
		return denied("%s is routed: only published ports are reached at containers' own addresses", n.Name)
	default:
		return denied("containers' own addresses are reached from this host only")
	}
	switch {
	case n.Internal || n.publishes(api.ZoneHost):
		return denied("%s publishes to this host only", n.Name)
	case n.publishes(api.ZoneNone):
		return denied("%s: publish: none", n.Name)
	case from == Internet && n.publishes(api.ZoneLAN):
		return denied("%s publishes to the LAN only (publish: lan)", n.Name)
	}
	if mode := n.mode(six); mode != "" && mode != "nat" {
		return allowed("%s is %s: %s", n.Name, mode, why)
	}
	return allowed("%s: %s", n.Name, why)
}
