package exposure

import (
	"net/netip"
	"slices"

	"muelle/internal/linux/ruleset"
)

// target is what packets for an address of the host meet.
type target struct {
	protocol uint8
	// host is the address, perhaps unspecified, and the port.
	host netip.AddrPort
	// to is what the kernel translates it to, on bridge; invalid where a socket of the
	// host answers: a listener, or the relay of a published port.
	to     netip.AddrPort
	bridge string
	// both: a socket on [::] that hears IPv4 as well.
	both bool
	// own: to is asked for itself, host is not.
	own bool
}

// translated tells whether a packet for an address of the host is sent on by the
// kernel. From ::1 and link-local addresses it cannot be, nor for others' packets
// where the host does not forward IPv6.
func (h *host) translated(t target, a netip.Addr, local bool) bool {
	switch {
	case !t.to.IsValid() || t.to.Addr().Is4() != a.Is4():
		return false
	case a.Is4():
		return true
	}
	return !a.IsLoopback() && !a.IsLinkLocalUnicast() && (local || h.forwards6)
}

// single is a prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// NotSentOn stands in a Rule's place for what the kernel does by itself.
const NotSentOn = "the kernel sends nothing on that comes from a link-local address"

// arrive follows a packet from outside, from source by a link, for an address a of the host.
func (h *host) arrive(t target, link string, source netip.Prefix, a netip.Addr) ruleset.Fate {
	p := ruleset.Packet{
		In: link, V6: a.Is6(), Source: source, Destination: single(a), Protocol: t.protocol, DestinationPort: t.host.Port(), ToLocal: true,
		Of: ruleset.Roles{DestinationPort: ruleset.HostPort},
	}
	if t.own {
		p.Destination, p.DestinationPort, p.ToLocal = single(t.to.Addr()), t.to.Port(), false
		p.Of = ofTarget
		p.Out, p.OutBridge = t.bridge, true
		there := h.ask(p, ruleset.Ingress, ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting)
		return joined(there, h.ask(answer(p, t.bridge, there), ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting, ruleset.Egress))
	}
	if !h.translated(t, a, false) {
		there := h.ask(p, ruleset.Ingress, ruleset.Prerouting, ruleset.Input)
		return joined(there, h.ask(answer(p, "", there), ruleset.Output, ruleset.Postrouting, ruleset.Egress))
	}
	p.Translates = true
	before := h.ask(p, ruleset.Ingress, ruleset.Prerouting)
	if before.Certain() {
		return before
	}
	if source.IsValid() && source.Addr().Is6() && source.Addr().IsLinkLocalUnicast() {
		return ruleset.Fate{Dropped: true, Rule: NotSentOn}
	}
	p = t.sentOn(p)
	there := joined(before, h.ask(p, ruleset.Forward, ruleset.Postrouting))
	return joined(there, h.ask(answer(p, t.bridge, ruleset.Fate{}), ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting, ruleset.Egress))
}

// answer is what goes back, to a packet of this fate: who is not answered reaches nothing.
func answer(p ruleset.Packet, from string, there ruleset.Fate) ruleset.Packet {
	p.In, p.InBridge, p.Out, p.OutBridge = from, from != "", p.In, false
	p.Source, p.Destination, p.SourcePort, p.DestinationPort = p.Destination, p.Source, p.DestinationPort, 0
	p.Of.Source, p.Of.Destination, p.Of.SourcePort, p.Of.DestinationPort = p.Of.Destination, p.Of.Source, p.Of.DestinationPort, ruleset.Fixed
	p.Established, p.Reply, p.ToLocal = true, true, false
	p.Tracking, p.Opening = ruleset.Tracked, there.Tracking
	return p
}

// sentOn is the packet after its destination was translated.
func (t target) sentOn(p ruleset.Packet) ruleset.Packet {
	p.Translated, p.Original, p.OriginalPort, p.ToLocal = true, p.Destination, p.DestinationPort, false
	p.Of.Original, p.Of.OriginalPort = p.Of.Destination, p.Of.DestinationPort
	p.Destination, p.DestinationPort = single(t.to.Addr()), t.to.Port()
	p.Of.Destination, p.Of.DestinationPort = ruleset.TargetAddress, ruleset.TargetPort
	p.Out, p.OutBridge = t.bridge, true
	return p
}

// ofTarget are the roles of what is sent to a container's address.
var ofTarget = ruleset.Roles{Destination: ruleset.TargetAddress, DestinationPort: ruleset.TargetPort}

// depart follows a packet of this host's own for one of its addresses.
func (h *host) depart(t target, a netip.Addr) ruleset.Fate {
	p := ruleset.Packet{
		Out: "lo", V6: a.Is6(), Source: single(a), Destination: single(a), Protocol: t.protocol, DestinationPort: t.host.Port(), ToLocal: true,
		Of: ruleset.Roles{DestinationPort: ruleset.HostPort},
	}
	if h.translated(t, a, true) {
		p = t.sentOn(p)
		leaving := p
		leaving.Out, leaving.OutBridge, leaving.Translates = ruleset.Somewhere, false, true
		// In the output hook the interface is still that of before.
		there := joined(h.ask(leaving, ruleset.Output), h.ask(p, ruleset.Postrouting))
		leaving.In, leaving.Out = "", t.bridge
		if a.IsLoopback() {
			leaving.Source = netip.Prefix{} // masqueraded
		}
		return joined(there, h.ask(answer(leaving, t.bridge, ruleset.Fate{}), ruleset.Prerouting, ruleset.Input))
	}
	out := h.ask(p, ruleset.Output, ruleset.Postrouting)
	p.In, p.Out, p.Tracking = "lo", "", out.Tracking
	return joined(out, h.ask(p, ruleset.Prerouting, ruleset.Input))
}

// toContainer follows a packet of this host's own for a container's address.
func (h *host) toContainer(t target) ruleset.Fate {
	p := ruleset.Packet{
		Out: t.bridge, OutBridge: true, V6: t.to.Addr().Is6(), Destination: single(t.to.Addr()), Protocol: t.protocol, DestinationPort: t.to.Port(),
		Of: ofTarget,
	}
	there := h.ask(p, ruleset.Output, ruleset.Postrouting)
	return joined(there, h.ask(answer(p, t.bridge, there), ruleset.Prerouting, ruleset.Input))
}

// joined is the fate of a packet that must pass both.
func joined(a, b ruleset.Fate) ruleset.Fate {
	if b.Rule == "" || a.Certain() {
		b.By, b.Rule = a.By, a.Rule
	}
	f := ruleset.Fate{Passes: a.Passes && b.Passes, Dropped: a.Dropped || b.Dropped, By: b.By, Rule: b.Rule, Let: a.Let, Rate: a.Rate}
	f.Addressed, f.Reasons = a.Addressed || b.Addressed, slices.Concat(a.Reasons, b.Reasons)
	if f.Let == "" {
		f.Let = b.Let
	}
	if f.Rate == "" {
		f.Rate = b.Rate
	}
	return f
}
