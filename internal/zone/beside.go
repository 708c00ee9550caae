package zone

import (
	"fmt"
	"net/netip"
	"slices"

	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
	"muelle/internal/netdriver"
	"muelle/internal/netdriver/bridge"
	"muelle/internal/network"
	"muelle/internal/policy"
	"muelle/internal/zone/exposure"
)

// filters are the packet filters of this host as the model asks them.
type filters struct {
	*exposure.Filters
	sc *scene
	// switched4 and switched6: what one bridge passes on is shown to the rules of IP too.
	switched4, switched6 bool
	known                map[policy.Way]string
	// whole and partly tell what gets through of those outside, of whom rules let some in.
	whole  map[outsider]bool
	partly map[outsider]string
}

// outsider is who of those outside asks for what.
type outsider struct {
	from, to, protocol string
	port               uint16
}

// some names the rule by which only some of those outside get through, by all ways.
func (f *filters) some(from, to, protocol string, port uint16) string {
	key := outsider{from, to, protocol, port}
	if f == nil || f.whole[key] {
		return ""
	}
	return f.partly[key]
}

// besides makes the model know what other firewalls on this host drop.
func (sc *scene) besides(snapshot network.Snapshot, all bool) error {
	read, err := exposure.ReadFilters(snapshot, all)
	if err != nil {
		return fmt.Errorf("read the host's packet filters: %w", err)
	}
	sc.filters = &filters{
		Filters: read, sc: sc, known: map[policy.Way]string{}, whole: map[outsider]bool{}, partly: map[outsider]string{},
		switched4: rtnl.SysctlIs("bridge/bridge-nf-call-iptables", 1), switched6: rtnl.SysctlIs("bridge/bridge-nf-call-ip6tables", 1),
	}
	if read.Beside() {
		sc.world.Beside = sc.filters.drops
	}
	return nil
}

// drops names the rule that drops a way for certain, and whose it is.
func (f *filters) drops(w policy.Way) string {
	key := w
	if w.From != policy.LAN && w.From != policy.Internet {
		key.From = "" // the rules see networks: In says which
		if !w.Host.IsValid() && w.Out != "" {
			key.To = ""
		}
	}
	if rule, ok := f.known[key]; ok {
		return rule
	}
	rule := ""
	fate := f.fate(w)
	if key := (outsider{w.From, w.To, w.Protocol, w.Port}); w.From == policy.LAN || w.From == policy.Internet {
		if fate.Passes && fate.Dropped {
			f.partly[key] = fate.Rule
		}
		f.whole[key] = f.whole[key] || fate.Passes && !fate.Dropped
	}
	if fate.Certain() {
		rule = fate.Rule
		if owner := bridge.Owner(fate.By); owner != "" {
			rule += " (" + owner + ")"
		}
	}
	f.known[key] = rule
	return rule
}

var (
	passing  = []ruleset.Hook{ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting}
	arriving = []ruleset.Hook{ruleset.Prerouting, ruleset.Input}
	leaving  = []ruleset.Hook{ruleset.Output, ruleset.Postrouting}
	// outward and inward are passing by a link of this host's.
	outward = []ruleset.Hook{ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting, ruleset.Egress}
	inward  = []ruleset.Hook{ruleset.Ingress, ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting}
)

// fate follows the first packet of a way, and its answer, through the others' rules.
func (f *filters) fate(w policy.Way) ruleset.Fate {
	in, out := f.sc.networks[w.In], f.sc.networks[w.Out]
	if w.In != "" && in.Interface == "" || w.Out != "" && out.Interface == "" {
		return ruleset.Fate{Passes: true} // by a link of its own, past this host's rules
	}
	p := ruleset.Packet{V6: w.Six, Protocol: exposure.Protocol(w.Protocol), DestinationPort: w.Port, Source: subnet(in, w.Six), Destination: subnet(out, w.Six)}
	if in.Interface != "" {
		p.In, p.InBridge = in.Interface, true
	}
	member := f.sc.world.Member(w.To)
	toHost := w.To == policy.Host || member != nil && member.Host
	switch {
	case w.From == policy.LAN || w.From == policy.Internet:
		return f.Outside(w.From == policy.Internet, false, f.sc.target(w))
	case w.In == "" && w.Host.IsValid():
		return f.FromHost(f.sc.target(w))
	case w.In == "" && w.Out != "":
		p.Out, p.OutBridge = out.Interface, true
		return f.there(p, true, leaving, arriving)
	case w.In == "":
		return ruleset.Fate{Passes: true}
	case toHost:
		p.ToLocal = true
		return f.there(p, false, arriving, leaving)
	case w.Host.IsValid():
		return f.published(p, w)
	case w.Out == "":
		p.Out, p.Translates = f.Uplink(), policy.Masquerades(in.Options, w.Six)
		if to, ok := policy.Prefix(w.To); ok {
			p.Destination = to
		}
		return f.there(p, false, outward, inward)
	}
	frame := p
	frame.Within, frame.In, frame.Out = in.Interface, ruleset.Somewhere, ruleset.Somewhere
	fate := f.Ask(frame, passing...)
	if !fate.Certain() && (w.Six && f.switched6 || !w.Six && f.switched4) {
		p.Out, p.OutBridge = out.Interface, true
		return f.there(p, false, passing, passing)
	}
	return fate
}

// there is the fate of a packet, or, where that may pass, of its answer.
func (f *filters) there(p ruleset.Packet, toHost bool, hooks, back []ruleset.Hook) ruleset.Fate {
	fate := f.Ask(p, hooks...)
	if fate.Certain() {
		return fate
	}
	p.In, p.InBridge, p.Out, p.OutBridge = p.Out, p.OutBridge, p.In, p.InBridge
	p.Source, p.Destination, p.SourcePort, p.DestinationPort = p.Destination, p.Source, p.DestinationPort, 0
	p.Established, p.Reply, p.ToLocal, p.Opening = true, true, toHost, fate.Tracking
	return f.Ask(p, back...)
}

// published is a member's way by a port of the host: the kernel translates it, or a relay
// of this host's takes it.
func (f *filters) published(p ruleset.Packet, w policy.Way) ruleset.Fate {
	t := f.sc.target(w)
	p.ToLocal, p.Destination, p.DestinationPort = true, netip.Prefix{}, w.Host.Port()
	if a := w.Host.Addr(); !a.IsUnspecified() {
		p.Destination = netip.PrefixFrom(a, a.BitLen())
	}
	if !t.To.IsValid() || t.To.Addr().Is6() != w.Six {
		return f.there(p, false, arriving, leaving)
	}
	p.ToLocal, p.Translated, p.Original, p.OriginalPort = false, true, p.Destination, p.DestinationPort
	p.Destination, p.DestinationPort = netip.PrefixFrom(t.To.Addr(), t.To.Addr().BitLen()), t.To.Port()
	p.Out, p.OutBridge, p.Translates = t.Bridge, true, true
	return f.there(p, false, passing, passing)
}

// target is what a way ends at: behind a port of the host, or by itself.
func (sc *scene) target(w policy.Way) exposure.Target {
	t := exposure.Target{Protocol: w.Protocol, Host: w.Host, Bridge: sc.networks[w.Out].Interface}
	m := sc.world.Member(w.To)
	if m != nil && m.Host {
		any := netip.IPv4Unspecified()
		if w.Six {
			any = netip.IPv6Unspecified()
		}
		t.Host = netip.AddrPortFrom(any, w.Port)
		return t
	}
	for _, sb := range sc.containers[w.To] {
		if w.Host.IsValid() {
			if to := leadsTo(sb, w.Protocol, w.Host); to.IsValid() {
				t.To = to
				return t
			}
			continue
		}
		if a := addressOn(sb, w.Out, w.Six); a.IsValid() {
			t.To = netip.AddrPortFrom(a, w.Port)
			return t
		}
	}
	return t
}

// leadsTo is where a port of the host leads at a container; invalid where it does not.
func leadsTo(sb network.SandboxView, protocol string, host netip.AddrPort) netip.AddrPort {
	same := netdriver.Mapping{Protocol: protocol, Host: host}
	anywhere := netdriver.Mapping{Protocol: protocol, Host: netip.AddrPortFrom(unspecified(host.Addr()), host.Port())}
	for _, want := range []netdriver.Mapping{same, anywhere} {
		if i := slices.IndexFunc(sb.Mappings, want.Same); i >= 0 && len(sb.Mappings[i].Targets) > 0 {
			return sb.Mappings[i].Targets[0]
		}
	}
	return netip.AddrPort{}
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func addressOn(sb network.SandboxView, key string, six bool) netip.Addr {
	for _, e := range sb.Endpoints {
		for _, p := range e.Addresses {
			if e.Network == key && p.Addr().Is6() == six {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

// subnet of a family; invalid where there is none.
func subnet(n network.NetworkView, six bool) netip.Prefix {
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is6() == six {
			return s.Prefix
		}
	}
	return netip.Prefix{}
}
