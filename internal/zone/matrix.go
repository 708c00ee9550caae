package zone

import (
	"net/netip"
	"slices"

	"muelle/api"
	"muelle/internal/network"
	"muelle/internal/policy"
)

// describe fills in zones and members.
func (sc *scene) describe(r *api.ZoneReport) {
	for _, n := range sc.world.Networks {
		view := sc.networks[n.Key]
		z := api.ZoneView{Name: n.Name, Network: view.Name, Driver: view.Driver, Internal: n.Internal, IPv6: n.IPv6, Mode4: n.Mode4, Mode6: n.Mode6, Zone: n.Zone, Apart: !n.Between}
		for _, s := range view.Subnets {
			z.Subnets = append(z.Subnets, s.Prefix)
		}
		for _, m := range sc.world.Members {
			if slices.Contains(m.Networks, n.Key) {
				z.Members = append(z.Members, m.Name)
			}
		}
		r.Zones = append(r.Zones, z)
	}
	for _, m := range sc.world.Members {
		v := api.ZoneMember{Name: m.Name, Host: m.Host}
		for _, sb := range sc.containers[m.Name] {
			v.Containers = append(v.Containers, sb.Name)
		}
		for _, key := range m.Networks {
			v.Networks = append(v.Networks, sc.world.Network(key).Name)
		}
		slices.Sort(v.Networks)
		for _, p := range m.Ports {
			port := api.ZonePort{Port: p.Number, Protocol: p.Protocol, Local: p.Local}
			for _, sb := range sc.containers[m.Name] {
				port.Listening = port.Listening || p.Local || sc.listens(sb.ID, p.Protocol, p.Number)
			}
			for _, b := range p.Published {
				port.Published = append(port.Published, b.Host)
			}
			v.Ports = append(v.Ports, port)
		}
		r.Members = append(r.Members, v)
	}
}

// cells fills in who reaches what, and the ways to try it.
func (sc *scene) cells(r *api.ZoneReport) {
	sources := []string{}
	for _, m := range sc.world.Members {
		sources = append(sources, m.Name)
	}
	sources = append(sources, policy.Host, policy.LAN, policy.Internet)
	for _, from := range sources {
		for i := range sc.world.Members {
			to := &sc.world.Members[i]
			if to.Name == from {
				continue
			}
			for _, p := range to.Ports {
				v := sc.world.Reach(from, to, p.Protocol, p.Number)
				c := api.ZoneCell{
					From: from, To: to.Name, Port: p.Number, Protocol: p.Protocol, Reached: v.Allowed, ByHost: v.ByHost, Firewall: v.Firewall, Why: v.Why, Tries: sc.tries(from, to, p),
				}
				if rule := sc.filters.some(from, to.Name, p.Protocol, p.Number); rule != "" && v.Allowed {
					c.Some, c.Why = true, c.Why+", and another firewall on this host lets some in only: "+rule
				}
				r.Cells = append(r.Cells, c)
			}
		}
		if m := sc.world.Member(from); m != nil {
			r.Cells = append(r.Cells, sc.toHost(m), sc.toInternet(m))
		}
	}
}

// tries are the ways from somebody to a port: every address of its containers, and every
// port of the host that leads there.
func (sc *scene) tries(from string, to *policy.Member, p policy.Port) (list []api.ZoneTry) {
	source := from
	m := sc.world.Member(from)
	if m != nil {
		source = sc.containers[from][0].Name
	}
	switch {
	case p.Local:
		return nil
	case to.Host:
		return sc.triesOfHost(from, source, to, p)
	}
	for _, sb := range sc.containers[to.Name] {
		for _, e := range sb.Endpoints {
			if !slices.Contains(to.Networks, e.Network) {
				continue
			}
			for _, a := range e.Addresses {
				v := sc.world.Direct(from, to, e.Network, sc.inFamily(p, e.Network, a.Addr()), a.Addr().Is6())
				list = append(list, api.ZoneTry{From: source, To: sb.Name, Address: netip.AddrPortFrom(a.Addr(), p.Number), Expected: v.Allowed, Why: v.Why})
			}
		}
	}
	target := sc.containers[to.Name][0].Name
	for _, b := range p.Published {
		if b.Own {
			continue
		}
		for _, w := range sc.waysTo(from, m, b) {
			v := sc.world.PublishedTo(from, w.through, to, p, w.of(b))
			try := api.ZoneTry{From: source, To: target, Address: w.at, Published: true, Expected: v.Allowed, Why: v.Why}
			if sc.mixed(from, to, w, b, v.Allowed) {
				try.Result = api.ZoneUnproved // whom an attempt leads to is the kernel's choice
			}
			list = append(list, try)
		}
	}
	return list
}

// triesOfHost are the ways to a port of somebody in this host's own network.
func (sc *scene) triesOfHost(from, source string, to *policy.Member, p policy.Port) (list []api.ZoneTry) {
	m := sc.world.Member(from)
	target := sc.containers[to.Name][0]
	add := func(a netip.Addr, v policy.Verdict) {
		if sc.hears(target.ID, p.Protocol, netip.AddrPortFrom(a, p.Number)) {
			list = append(list, api.ZoneTry{From: source, To: target.Name, Address: netip.AddrPortFrom(a, p.Number), Expected: v.Allowed, Why: v.Why})
		}
	}
	switch {
	case m == nil && from != policy.Host:
		for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
			add(a, sc.world.ToHostMember(from, "", to, p, a))
		}
	case m == nil || m.Host:
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			add(a, sc.world.ToHostMember(from, "", to, p, a))
		}
	default:
		for _, key := range m.Networks {
			for _, gateway := range sc.world.Network(key).Gateways {
				add(gateway, sc.world.ToHostMember(from, key, to, p, gateway))
			}
		}
	}
	return list
}

// inFamily is the port with what is published of one of its container's addresses: where
// the network has both families, a port of the host leads to its own.
func (sc *scene) inFamily(p policy.Port, key string, a netip.Addr) policy.Port {
	n := sc.world.Network(key)
	p.Published = slices.DeleteFunc(slices.Clone(p.Published), func(b policy.Publication) bool {
		return n != nil && n.IPv6 && b.Host.Addr().Is4() != a.Is4()
	})
	return p
}

// mixed tells whether a port of the host is shared with a replica that is on other
// networks, to which other rules lead.
func (sc *scene) mixed(from string, to *policy.Member, w way, b policy.Publication, allowed bool) bool {
	for _, m := range sc.world.Members {
		if to.Of == "" || m.Of != to.Of {
			continue
		}
		for _, p := range m.Ports {
			for _, other := range p.Published {
				if other.Host == b.Host && sc.world.Published(from, w.through, w.of(other)).Allowed != allowed {
					return true
				}
			}
		}
	}
	return false
}

// way is an address of the host's by which a published port is asked for.
type way struct {
	through string
	at      netip.AddrPort
}

// of is the publication as it is asked for by this way: inside, an address of the
// host's may be open to a zone where others are closed.
func (w way) of(b policy.Publication) policy.Publication {
	if w.through != "" {
		b.Host = w.at
	}
	return b
}

// waysTo are the addresses by which somebody asks for a published port.
func (sc *scene) waysTo(from string, m *policy.Member, b policy.Publication) (list []way) {
	host, port := b.Host.Addr(), b.Host.Port()
	if m != nil && m.Host {
		m, from = nil, policy.Host
	}
	switch {
	case m == nil && from != policy.Host:
		return []way{{"", b.Host}}
	case m == nil && host == netip.IPv4Unspecified():
		return []way{{"", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}}
	case m == nil && host == netip.IPv6Unspecified():
		return []way{{"", netip.AddrPortFrom(netip.IPv6Loopback(), port)}}
	case m == nil:
		return []way{{"", b.Host}}
	case host.IsLoopback():
		return nil // its own loopback
	case !host.IsUnspecified():
		if n := sc.world.Network(m.Way); n == nil || !sc.reaches(m, host.Is6()) {
			return nil
		}
		return []way{{m.Way, b.Host}}
	}
	for _, key := range m.Networks {
		for _, gateway := range sc.world.Network(key).Gateways {
			// Whether such a port is translated or relayed depends on the host's forwarding of
			// IPv6; who is in the zone has the container's own address.
			if gateway.Is6() && key == b.Network {
				continue
			}
			if gateway.Is4() == host.Is4() {
				list = append(list, way{key, netip.AddrPortFrom(gateway, port)})
			}
		}
	}
	return append(list, sc.waysOut(m, b)...)
}

// waysOut are the host's addresses on other links by which a member of a zone with
// egress asks for a port of all of them: those that its zone lists, and, of those that it
// does not, the ones that no other zone has.
func (sc *scene) waysOut(m *policy.Member, b policy.Publication) (list []way) {
	n := sc.world.Network(m.Way)
	if n == nil || !policy.Restricted(n.Zone) {
		return nil
	}
	listed, _ := policy.Destinations(n.Zone)
	for _, a := range sc.world.Addresses {
		if a.Is4() != b.Host.Addr().Is4() || a.Is6() && (!n.IPv6 || n.Key == b.Network) || slices.Contains(n.Gateways, a) {
			continue
		}
		within := func(p netip.Prefix) bool { return p.Contains(a) }
		if slices.ContainsFunc(listed, within) || !sc.onZone(within) {
			list = append(list, way{m.Way, netip.AddrPortFrom(a, b.Host.Port())})
		}
	}
	return list
}

// onZone tells whether a prefix of any network is such.
func (sc *scene) onZone(is func(netip.Prefix) bool) bool {
	for _, n := range sc.networks {
		for _, s := range n.Subnets {
			if is(s.Prefix) {
				return true
			}
		}
	}
	return false
}

func (sc *scene) toHost(m *policy.Member) api.ZoneCell {
	v := sc.world.ToHost(m)
	return api.ZoneCell{From: m.Name, To: policy.Host, Reached: v.Allowed, Firewall: v.Firewall, Why: v.Why}
}

// somewhere stands for the world: addresses of documentation (RFC 5737 and 3849) that
// nobody has.
var somewhere = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.1:9"), netip.MustParseAddrPort("[2001:db8::1]:9")}

func (sc *scene) toInternet(m *policy.Member) api.ZoneCell {
	v := sc.world.Out(m, policy.Internet)
	c := api.ZoneCell{From: m.Name, To: policy.Internet, Reached: v.Allowed, Firewall: v.Firewall, Why: v.Why}
	if n := sc.world.Network(m.Way); !v.Allowed && n != nil {
		prefixes, names := policy.Destinations(n.Zone)
		c.Some = len(prefixes)+len(names) > 0
	}
	if m.Host {
		return c
	}
	way := sc.networks[m.Way].Driver
	for _, to := range somewhere {
		if !sc.reaches(m, to.Addr().Is6()) {
			continue
		}
		v := sc.world.OutBy(m, policy.Internet, to.Addr().Is6())
		try := api.ZoneTry{From: sc.containers[m.Name][0].Name, To: policy.Internet, Address: to, Expected: v.Allowed, Why: v.Why}
		if way != "" && way != "bridge" {
			try.Result = api.ZoneUnproved // what leaves by a link of its own is not tracked here
		}
		c.Tries = append(c.Tries, try)
	}
	return c
}

// reaches tells whether the containers of a member have addresses of the family.
func (sc *scene) reaches(m *policy.Member, six bool) bool {
	return sc.speaks(sc.containers[m.Name][0], six)
}

// speaks tells whether a container has an address of the family.
func (sc *scene) speaks(sb network.SandboxView, six bool) bool {
	return slices.ContainsFunc(sb.Endpoints, func(e network.EndpointView) bool {
		return slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() == six })
	})
}

// expect judges the sentences by the model; that the model is true is verify's matter.
func (sc *scene) expect(r *api.ZoneReport, o Options) {
	var names []string
	for _, m := range sc.world.Members {
		names = append(names, m.Name)
		if m.Of != "" && !slices.Contains(names, m.Of) {
			names = append(names, m.Of)
		}
	}
	for _, text := range o.Expect {
		e := api.ZoneExpectation{Sentence: text}
		parsed, err := policy.Expect(text, append(slices.Clone(names), o.Known...))
		absent := func(who string) bool { return slices.Contains(o.Known, who) && !slices.Contains(names, who) }
		switch {
		case err != nil:
			e.Why = err.Error()
		case absent(parsed.From) || absent(parsed.To):
			e.Holds, e.Why = true, "not judged: nothing of it runs"
		default:
			bad := sc.world.Violations([]policy.Expectation{parsed})
			if e.Holds = len(bad) == 0; !e.Holds {
				e.Why = bad[0].String()
			}
		}
		if !e.Holds {
			r.Violations++
		}
		r.Expect = append(r.Expect, e)
	}
}
