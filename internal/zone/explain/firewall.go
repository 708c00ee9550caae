package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/api"
	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
	"muelle/internal/network"
	"muelle/internal/policy"
)

// filters are the packet filters of others on this host, and what is to be known of the
// host to ask them.
type filters struct {
	rules *ruleset.Ruleset
	// uplink is the interface by which outside lies; or ruleset.Somewhere.
	uplink string
	// switched4 and switched6: what one bridge passes on is shown to the rules of IP too.
	switched4, switched6 bool
}

// readFilters leaves our own tables out: what they do follows from the networks.
func readFilters() (*filters, error) {
	rules, err := ruleset.Read(func(_ ruleset.Family, table string) bool {
		return table != "muelle" && !strings.HasPrefix(table, "muelle-")
	})
	if err != nil {
		return nil, fmt.Errorf("read the host's packet filters: %w", err)
	}
	ff := &filters{rules: rules, uplink: ruleset.Somewhere,
		switched4: rtnl.SysctlIs("bridge/bridge-nf-call-iptables", 1), switched6: rtnl.SysctlIs("bridge/bridge-nf-call-ip6tables", 1)}
	if list, err := rtnl.DefaultInterfaces(); err == nil && len(list) > 0 {
		ff.uplink = list[0]
	}
	return ff, nil
}

// leg is a packet on its way through this host.
type leg struct {
	packet ruleset.Packet
	hooks  []ruleset.Hook
}

var (
	passing  = []ruleset.Hook{ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting}
	arriving = []ruleset.Hook{ruleset.Prerouting, ruleset.Input}
	leaving  = []ruleset.Hook{ruleset.Output, ruleset.Postrouting}
	// outward and inward are passing by a link of this host's.
	outward = []ruleset.Hook{ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting, ruleset.Egress}
	inward  = []ruleset.Hook{ruleset.Ingress, ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting}
)

// dropped is what another firewall drops for certain of the connection's first packet
// or of its answer, else what it may drop; By is nil where none does.
func (f *facts) dropped() ruleset.Fate {
	if f.filters == nil || !f.filters.rules.Filters() {
		return ruleset.Fate{}
	}
	var perhaps ruleset.Fate
	var tracking ruleset.Tracking
	for _, l := range f.legs() {
		if l.packet.Reply {
			l.packet.Opening = tracking
		} else {
			l.packet.Tracking = tracking
		}
		fate := f.filters.rules.Ask(l.packet, nil, l.hooks...)
		if fate.Certain() {
			return fate
		}
		if !l.packet.Reply {
			tracking = fate.Tracking
		}
		if !perhaps.Dropped {
			rate := perhaps.Rate
			if perhaps = fate; perhaps.Rate == "" {
				perhaps.Rate = rate
			}
		}
	}
	return perhaps
}

// legs are the connection's packets as the hooks of this host see them.
func (f *facts) legs() []leg {
	p := ruleset.Packet{Protocol: ruleset.Protocol(f.Proto), DestinationPort: f.toPort}
	to := netip.Addr{}
	if len(f.to) > 0 {
		to = f.to[0]
		p.V6, p.Destination = to.Is6(), single(to)
	}
	switch {
	case f.itself, f.sentOn != nil:
		return nil
	case f.Source.Kind == World && f.mapping != nil:
		p.V6 = f.mapping.host.Addr().Is6()
		if !to.IsValid() || to.Is6() != p.V6 {
			p.Destination = netip.Prefix{}
		}
		p.In, p.DestinationPort = f.filters.uplink, f.mapping.host.Port()
		return f.translated(p)
	case f.Source.Kind == World && f.Target.Kind == Host:
		p.In, p.ToLocal = f.filters.uplink, true
		return []leg{{p, arriving}, {reply(p, false), leaving}}
	case f.src != nil && !f.src.Host && to.IsValid():
		return f.fromContainer(p, to)
	case f.onHost(&f.Source, f.src) && f.dst != nil && !f.dst.Host && to.IsValid():
		n := f.networkOf(f.dst, to)
		if n == nil {
			return nil
		}
		p.Out, p.OutBridge = n.Interface, true
		for _, s := range n.Subnets {
			if s.Gateway.IsValid() && s.Gateway.Is6() == p.V6 {
				p.Source = single(s.Gateway)
			}
		}
		return []leg{{p, leaving}, {reply(p, true), arriving}}
	}
	return nil
}

// fromContainer are the legs of a container's connection: within its network, to a
// published port, to this host, or out.
func (f *facts) fromContainer(p ruleset.Packet, to netip.Addr) []leg {
	if n := f.networkOf(f.src, to); n != nil && f.dst != nil && !f.dst.Host {
		p.Source = f.sourceOn(n)
		return f.within(p, n)
	}
	n := f.way()
	if n == nil || n.Interface == "" {
		return nil
	}
	p.In, p.InBridge, p.Source = n.Interface, true, f.sourceOn(n)
	switch {
	case f.mapping != nil:
		return f.translated(p)
	case f.Target.Kind == Host || f.dst != nil && f.dst.Host:
		p.ToLocal = true
		return []leg{{p, arriving}, {reply(p, false), leaving}}
	case f.Target.Kind == Outside:
		p.Out, p.Translates = f.filters.uplink, policy.Masquerades(n.Options, p.V6)
		return []leg{{p, outward}, {reply(p, false), inward}}
	}
	return nil
}

// within is a packet that a bridge passes on from one container to another.
func (f *facts) within(p ruleset.Packet, n *network.NetworkView) (list []leg) {
	frame := p
	frame.Within, frame.In, frame.Out = n.Interface, ruleset.Somewhere, ruleset.Somewhere
	list = append(list, leg{frame, passing})
	if p.V6 && f.filters.switched6 || !p.V6 && f.filters.switched4 {
		p.In, p.InBridge, p.Out, p.OutBridge = n.Interface, true, n.Interface, true
		list = append(list, leg{p, passing}, leg{reply(p, false), passing})
	}
	return list
}

// translated is a packet to a published port: before its destination is translated, and
// after. What is for the other family than the container's is taken by the relay on this host.
func (f *facts) translated(p ruleset.Packet) []leg {
	p.ToLocal = true
	if p.V6 != f.mapping.target.Addr().Is6() {
		return []leg{{p, arriving}, {reply(p, false), leaving}}
	}
	n := f.networkOf(f.mapping.sandbox, f.mapping.target.Addr())
	if n == nil {
		return nil
	}
	p.Translates = true
	sent := p
	sent.Translated, sent.Original, sent.OriginalPort, sent.ToLocal = true, p.Destination, p.DestinationPort, false
	sent.Destination, sent.DestinationPort = single(f.mapping.target.Addr()), f.mapping.target.Port()
	sent.Out, sent.OutBridge = n.Interface, true
	return []leg{{p, passing[:1]}, {sent, passing[1:]}, {reply(sent, false), passing}}
}

// findSentOn asks others' rules whether they send on the port of the host that is asked
// for; what this host itself asks for passes other rules.
func (f *facts) findSentOn() {
	if f.filters == nil || f.mapping != nil || f.Target.Kind != Host || f.onHost(&f.Source, f.src) || f.Source.Kind != World && f.src == nil {
		return
	}
	p := ruleset.Packet{Protocol: ruleset.Protocol(f.Proto), DestinationPort: f.toPort, In: f.filters.uplink, ToLocal: true}
	if f.Source.Kind != World {
		n := f.way()
		if n == nil || n.Interface == "" {
			return
		}
		p.In, p.InBridge = n.Interface, true
	}
	to := f.to
	if len(to) == 0 {
		to = []netip.Addr{uplinkAddress(false)}
	}
	for _, a := range to {
		if !a.IsValid() {
			continue
		}
		p.V6, p.Destination = a.Is6(), single(a)
		if f.sentOn = f.filters.rules.Translated(p, nil); f.sentOn != nil {
			return
		}
	}
}

// reply is the answer to a packet.
func reply(p ruleset.Packet, toHost bool) ruleset.Packet {
	p.In, p.InBridge, p.Out, p.OutBridge = p.Out, p.OutBridge, p.In, p.InBridge
	p.Source, p.Destination, p.SourcePort, p.DestinationPort = p.Destination, p.Source, p.DestinationPort, 0
	p.Established, p.Reply, p.ToLocal = true, true, toHost
	return p
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// networkOf is a bridge that a container is on, with an address in it.
func (f *facts) networkOf(sb *network.SandboxView, a netip.Addr) *network.NetworkView {
	if sb == nil {
		return nil
	}
	for _, e := range sb.Endpoints {
		for _, p := range e.Addresses {
			if n := f.network(e.Network); n != nil && n.Interface != "" && p.Masked().Contains(a) {
				return n
			}
		}
	}
	return nil
}

// sourceOn is the address that the source has on a network.
func (f *facts) sourceOn(n *network.NetworkView) netip.Prefix {
	if e := on(f.src, n.ID); e != nil {
		for _, p := range e.Addresses {
			if len(f.to) == 0 || p.Addr().Is6() == f.to[0].Is6() {
				return single(p.Addr())
			}
		}
	}
	return netip.Prefix{}
}

// filtered adds to what the zones say what another firewall on this host does.
func (f *facts) filtered(h *hop) *hop {
	if f.outside != nil {
		return f.partedHop(h)
	}
	fate := f.dropped()
	if fate.Dropped && !fate.Certain() {
		return f.perhaps(h, fate)
	}
	if !fate.Certain() {
		if h != nil && fate.Rate != "" {
			f.limits(h, []string{fate.Rate})
		}
		if h != nil && h.State == api.HopOK && f.filters != nil && f.filters.rules.Filters() {
			h.because("other firewalls of this host", "none is known to drop it")
		}
		return h
	}
	if h == nil || h.State != api.HopBroken {
		h = broken("policy", "%s", loses(fate.Rule))
	}
	return f.mend(h.because("firewall of this host", "%s", fate.Rule), fate.By)
}

// loses says what other firewalls do, by the rule that is named.
func loses(rule string) string {
	if strings.HasSuffix(rule, ruleset.NotTranslated) {
		return "Another firewall on this host keeps it from being tracked, and so from being translated."
	}
	return "Another firewall on this host drops it."
}

// perhaps tells of a rule that may drop what the source sends; what was tried and
// answered does not hang on what is the same for all that it sends.
func (f *facts) perhaps(h *hop, fate ruleset.Fate) *hop {
	answered := f.attempt != nil && f.attempt.err == nil && !f.attempt.unheard && f.Source.Kind != World
	on := slices.DeleteFunc(slices.Clone(fate.Reasons), func(reason string) bool { return answered && ruleset.Constant(reason) })
	if len(on) == 0 && answered || h != nil && h.State == api.HopBroken {
		return h
	}
	if len(on) == 0 {
		on = []string{"the addresses"}
	}
	if answered {
		h = warn("policy", "It got through now; it depends on %s: another firewall on this host may drop it.", strings.Join(on, ", "))
	} else {
		h = newHop("policy", api.HopDepends, "It depends on %s: another firewall on this host may drop it.", strings.Join(on, ", "))
	}
	h.because("firewall of this host", "%s", fate.Rule)
	if fate.Rate != "" {
		f.limits(h, []string{fate.Rate})
	}
	return h
}

// mend says how what a chain drops may be let through.
func (f *facts) mend(h *hop, by *ruleset.Chain) *hop {
	if by == nil {
		return h
	}
	for _, w := range f.warnings {
		if what, remedy, ok := strings.Cut(w, "; to allow it: "); ok && strings.Contains(what, fmt.Sprintf("%q", by)) {
			return h.do("%s", remedy)
		}
	}
	if by.Legacy {
		program, rest, _ := strings.Cut(by.String(), " -t ")
		table, chain, _ := strings.Cut(rest, " ")
		return h.do("Ask whose rule it is, and what it is for: %s -t %s -S %s", program, table, chain)
	}
	return h.do("Ask whose rule it is, and what it is for: nft -a list chain %s", by)
}
