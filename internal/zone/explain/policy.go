package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/api"
	"muelle/internal/netdriver"
	"muelle/internal/network"
	"muelle/internal/policy"
)

// networkHop tells of the network that leads from source to target.
func (f *facts) networkHop() *hop {
	switch {
	case f.itself || f.Source.Kind == World:
		return nil
	case f.Target.Kind == Outside || f.Target.Kind == World:
		if f.src == nil || f.src.Host {
			return nil
		}
		if n := f.way(); n != nil {
			return fine("network", "%s leads out.", n.Name).because("networks", "it has the default route of %s", f.Source.Text)
		}
		return f.leadOut(broken("network", "%s is on no network that leads out: %s.", f.Source.Text, f.networksOf(f.src, &f.Source)))
	case f.Source.Kind != Container || f.Target.Kind != Container:
		return nil
	case f.src == nil || f.dst == nil:
		return f.configuredHop()
	case f.src.Host || f.dst.Host:
		return fine("network", "%s uses the host's network.", map[bool]string{true: f.Source.Text, false: f.Target.Text}[f.src.Host])
	case len(f.shared) > 0:
		return fine("network", "Both are on %s.", names(f.shared)).because("networks", "%s is %s there, %s %s", f.Source.Text, f.addressOn(f.src), f.Target.Text, f.addressOn(f.dst))
	case f.lookup != nil && len(f.lookup.addrs) == 0:
		return nil // the name has told it, and what mends it
	}
	h := broken("network", "They share no network, so nothing gets from one to the other.").
		because("networks", "%s is on %s", f.Source.Text, f.networksOf(f.src, &f.Source)).
		because("networks", "%s is on %s", f.Target.Text, f.networksOf(f.dst, &f.Target))
	return f.join(h)
}

// addressOn is what a party is on the first network in common.
func (f *facts) addressOn(sb *network.SandboxView) string {
	if e := on(sb, f.shared[0].ID); e != nil && len(e.Addresses) > 0 {
		return e.Addresses[0].Addr().String()
	}
	return "without an address"
}

// configuredHop compares what containers that do not run are configured for.
func (f *facts) configuredHop() *hop {
	a, b := f.names(f.src, &f.Source), f.names(f.dst, &f.Target)
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	for _, n := range a {
		if slices.Contains(b, n) {
			return fine("network", "Both are configured for %s.", n)
		}
	}
	return f.join(broken("network", "They share no network, also when both run.").
		because("configuration", "%s: %s", f.Source.Text, strings.Join(a, ", ")).
		because("configuration", "%s: %s", f.Target.Text, strings.Join(b, ", ")))
}

func (f *facts) names(sb *network.SandboxView, p *Party) (list []string) {
	if sb == nil {
		return p.Networks
	}
	for _, e := range sb.Endpoints {
		if n := f.network(e.Network); n != nil {
			list = append(list, n.Name)
		}
	}
	return list
}

// way is the network with the source's default route.
func (f *facts) way() *network.NetworkView {
	for _, e := range f.src.Endpoints {
		if e.Gateway {
			return f.network(e.Network)
		}
	}
	return nil
}

func (f *facts) leadsOut() bool { return f.src.Host || f.way() != nil }

// policyHop tells what zones and options forbid, and what other firewalls do.
func (f *facts) policyHop() *hop { return f.filtered(f.zoneHop()) }

func (f *facts) zoneHop() *hop {
	switch {
	case f.itself:
		return nil
	case f.Source.Kind == World:
		return f.fromOutside()
	case f.src != nil && !f.src.Host && (f.Target.Kind == Outside || f.Target.Kind == World):
		return f.toOutside()
	case f.Target.Kind == Host && f.src != nil && !f.src.Host:
		return f.toHost()
	case f.onHost(&f.Source, f.src) && f.dst != nil && !f.dst.Host:
		return f.fromHost()
	case len(f.shared) > 0:
		return f.between()
	}
	return nil
}

// between: one open network is enough.
func (f *facts) between() *hop {
	for _, n := range f.shared {
		if n.Between {
			return fine("policy", "Containers of %s reach each other.", n.Name).because("zone of "+n.Name, "between is not denied")
		}
	}
	n := f.shared[0]
	h := broken("policy", "Containers of %s do not reach each other.", n.Name)
	if n.Zone.Between == api.ZoneDeny {
		h.because("zone of "+n.Name, "between: deny")
		return f.zoneLine(h, &n, "between: allow")
	}
	h.because("option of "+n.Name, "com.docker.network.bridge.enable_icc=false")
	if n.Key != "" {
		h.YAML, h.File = fmt.Sprintf("networks:\n  %s:\n    driver_opts: {com.docker.network.bridge.enable_icc: \"true\"}\n", n.Key), f.Source.ComposeFile
		return h
	}
	return h.do("Make the network without that option, or put both on another one")
}

// zoneLine adds the line of x-zone that opens a network.
func (f *facts) zoneLine(h *hop, n *network.NetworkView, line string) *hop {
	if n.Key != "" {
		h.YAML = fmt.Sprintf("networks:\n  %s:\n    x-zone:\n      %s\n", n.Key, line)
		if h.File = f.Source.ComposeFile; h.File == "" {
			h.File = f.Target.ComposeFile
		}
		return h
	}
	key, value, _ := strings.Cut(line, ": ")
	return h.do("Make the network with --zone %s=%s", key, strings.ReplaceAll(strings.Trim(value, "[]"), ", ", ","))
}

// toOutside judges by the zone that the default route leads through.
func (f *facts) toOutside() *hop {
	n := f.way()
	if n == nil {
		return nil
	}
	if !policy.Restricted(n.Zone) {
		return fine("policy", "The zone of %s does not restrict where to.", n.Name).because("zone of "+n.Name, "egress is not restricted")
	}
	if n.Zone.Egress[0] == api.ZoneNone {
		return f.zoneLine(broken("policy", "The zone of %s has no way out.", n.Name).because("zone of "+n.Name, "egress: none"), n, "egress: ["+f.destination()+"]")
	}
	listed := strings.Join(n.Zone.Egress, ", ")
	if f.Port == 53 || f.Port == 853 {
		return broken("policy", "From the zone of %s nobody but Muelle's resolver asks name servers: port %d is closed, whoever is listed.", n.Name, f.Port).
			because("zone of "+n.Name, "egress: %s", listed).do("Ask %s, which asks for the names that the zone lists", embedded)
	}
	prefixes, entries := policy.Destinations(n.Zone)
	if name := f.Target.DNSName; name != "" && slices.ContainsFunc(entries, func(e string) bool { return policy.Names(e, strings.ToLower(name)) }) {
		return fine("policy", "The zone of %s lists %s.", n.Name, name).because("zone of "+n.Name, "egress: %s", listed)
	}
	for _, a := range f.to {
		if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return fine("policy", "The zone of %s lists %s.", n.Name, a).because("zone of "+n.Name, "egress: %s", listed)
		}
	}
	h := broken("policy", "The zone of %s does not list %s.", n.Name, f.destination()).because("zone of "+n.Name, "egress: %s", listed)
	return f.zoneLine(h, n, "egress: ["+listed+", "+f.destination()+"]")
}

func (f *facts) destination() string {
	switch {
	case f.Target.DNSName != "":
		return f.Target.DNSName
	case f.Target.Addr.IsValid():
		return f.Target.Addr.String()
	}
	return api.ZoneAny
}

// toHost: a zone that restricts where to closes the host too, but for what it publishes.
func (f *facts) toHost() *hop {
	if h := f.toOthersPort(); h != nil {
		return h
	}
	for _, e := range f.src.Endpoints {
		n := f.network(e.Network)
		if n == nil || !policy.Restricted(n.Zone) || len(f.to) == 0 {
			continue
		}
		if !slices.ContainsFunc(n.Subnets, subnetOf(f.to[0])) {
			continue
		}
		if f.attempt != nil && f.attempt.err == nil {
			return fine("policy", "The zone of %s lets this through.", n.Name)
		}
		return f.zoneLine(broken("policy", "The zone of %s is closed towards this host.", n.Name).
			because("zone of "+n.Name, "egress: %s", strings.Join(n.Zone.Egress, ", ")), n, "egress: ["+strings.Join(append(slices.DeleteFunc(slices.Clone(n.Zone.Egress), func(s string) bool { return s == api.ZoneNone }), f.to[0].String()), ", ")+"]")
	}
	return fine("policy", "No zone is in the way.").because("zones", "none of %s restricts where to", f.Source.Text)
}

// toOthersPort tells of a port of the host that the zone of another network publishes to
// less than everybody: containers elsewhere are not meant, on whatever link they are.
func (f *facts) toOthersPort() *hop {
	if f.mapping == nil || f.mapping.sandbox == nil || f.mapping.missed {
		return nil
	}
	whom := map[string]string{api.ZoneNone: "nobody", api.ZoneHost: "this host only", api.ZoneLAN: "this host and machines on its own links only"}[f.mapping.zone.Publish]
	n := f.zoneOfMapping()
	if whom == "" || n == nil || on(f.src, n.ID) != nil {
		return nil
	}
	h := broken("policy", "The zone of %s publishes to %s, and %s is on another network.", n.Name, whom, f.Source.Text).because("zone of "+n.Name, "publish: %s", n.Zone.Publish)
	name := f.mapping.sandbox.Name
	if s := f.mapping.sandbox; s.Service != "" && s.Project == f.src.Project {
		name = s.Service
	}
	return f.zoneLine(h, n, "publish: any").
		do("Or put %s on %s and ask for %s:%d, which needs no published port: muelle network connect %s %s", f.Source.Text, n.Name, name, f.mapping.target.Port(), n.Name, f.Source.ref())
}

// zoneOfMapping is the network that the published port leads into.
func (f *facts) zoneOfMapping() *network.NetworkView {
	for _, e := range f.mapping.sandbox.Endpoints {
		if n := f.network(e.Network); n != nil && slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == f.mapping.target.Addr() }) {
			return n
		}
	}
	return nil
}

func subnetOf(a netip.Addr) func(netdriver.Subnet) bool {
	return func(s netdriver.Subnet) bool { return s.Prefix.Contains(a) }
}

// fromHost: a zone that says who may reach its published ports closes the rest.
func (f *facts) fromHost() *hop {
	for _, e := range f.dst.Endpoints {
		n := f.network(e.Network)
		if n != nil && (n.Driver == "macvlan" || n.Driver == "ipvlan") && len(f.dst.Endpoints) == 1 {
			return broken("policy", "This host does not reach containers of %s: the kernel keeps a link and the %s networks on it apart.", n.Name, n.Driver).
				because("network "+n.Name, "driver %s", n.Driver).do("Put %s on a network of the driver bridge, too: muelle network connect NETWORK %s", f.Target.Text, f.Target.ref())
		}
		if n == nil || n.Zone.Publish == "" || len(f.to) == 0 || !slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == f.to[0] }) {
			continue
		}
		h := broken("policy", "The zone of %s lets this host reach published ports only, and not the container's own address.", n.Name).
			because("zone of "+n.Name, "publish: %s", n.Zone.Publish)
		for _, m := range f.dst.Mappings {
			if len(m.Targets) > 0 && m.Targets[0].Port() == f.Port && m.Protocol == f.Proto {
				return h.do("Ask for the published port: 127.0.0.1:%d", m.Host.Port())
			}
		}
		if !slices.ContainsFunc(f.dst.Endpoints, func(e network.EndpointView) bool { return publishes(f.network(e.Network)) }) {
			h = f.zoneLine(h, n, "publish: host")
		}
		return h.do("Publish it: -p 127.0.0.1:%d:%d", f.Port, f.Port)
	}
	return fine("policy", "No zone is in the way.").because("zones", "none of %s restricts who may come", f.Target.Text)
}

// publishes tells whether a port that is published through a network leads anywhere.
func publishes(n *network.NetworkView) bool {
	return n != nil && n.Zone.Publish != api.ZoneNone && (n.Zone.Publish != "" || !n.Internal)
}

// fromOutside judges by the zone of the network that the port is published through.
func (f *facts) fromOutside() *hop {
	if f.mapping == nil {
		return nil
	}
	publish := f.mapping.zone.Publish
	if publish == "" {
		publish = api.ZoneAny
	}
	said := "publish: " + publish
	switch {
	case publish == api.ZoneAny:
		return fine("policy", "The zone is open to everybody.").because("zone", "%s", said)
	case publish == api.ZoneLAN && f.circle() == policy.LAN:
		return fine("policy", "The zone is open to machines on the links of this host.").because("zone", "%s", said)
	case publish == api.ZoneLAN && f.circle() == "outside":
		return newHop("policy", api.HopDepends, "It depends on the source: the zone is open to this host and to machines on its own links only.").because("zone", "%s", said)
	}
	h := broken("policy", "The zone does not publish to the outside.").because("zone", "%s", said)
	if f.mapping.sandbox != nil {
		for _, e := range f.mapping.sandbox.Endpoints {
			if n := f.network(e.Network); n != nil && n.Zone.Publish == f.mapping.zone.Publish {
				return f.zoneLine(h, n, "publish: any")
			}
		}
	}
	return h
}
