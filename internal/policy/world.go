package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/api"
)

// Who there is beside the members of a world.
const (
	Host     = "host"     // this machine
	LAN      = "lan"      // what is on a link of it
	Internet = "internet" // everything else
)

// World is what the model knows: networks, and who is on them.
type World struct {
	Networks []Network
	Members  []Member
	// Addresses are this host's on its other links, which a zone opens by listing them.
	Addresses []netip.Addr
}

// Network is one network, a zone. Key identifies it in the world.
type Network struct {
	Key, Name      string
	Internal, IPv6 bool
	// Between: who is on it reaches each other.
	Between bool
	Zone    api.Zone
	// Gateways are this host's addresses on it, where they are known.
	Gateways []netip.Addr
}

// Member is a service, or a container of none.
type Member struct {
	Name string
	// Of, unless empty, is the service that it is one replica of, where the replicas are
	// not on the same networks: each is a member then.
	Of       string
	Networks []string
	// Way is the network with the default route, or empty.
	Way string
	// Host: it is in the host's namespace.
	Host  bool
	Ports []Port
}

// Port is what a member listens on, exposes or publishes.
type Port struct {
	Protocol string // tcp, udp or sctp
	Number   uint16
	// Local: it listens on a loopback address only.
	Local     bool
	Published []Publication
}

// Publication is one port of the host that leads to a port.
type Publication struct {
	Host netip.AddrPort
	// Network is the key of the network that it leads through.
	Network string
}

// Verdict says whether somebody reaches something, and why.
type Verdict struct {
	Allowed bool
	// ByHost: a member reaches another by a port of the host only, as anybody there does;
	// it knows neither its name nor its address.
	ByHost bool
	Why    string
}

func allowed(format string, args ...any) Verdict {
	return Verdict{Allowed: true, Why: fmt.Sprintf(format, args...)}
}

func denied(format string, args ...any) Verdict { return Verdict{Why: fmt.Sprintf(format, args...)} }

// MemberName is what somebody is called in a World. What is outside has its words for
// itself: a service that is called host is not this machine. Kind says what it is then.
func MemberName(name, kind string) string {
	if isOutside(name) {
		return name + " (" + kind + ")"
	}
	return name
}

func isOutside(name string) bool { return name == Host || name == LAN || name == Internet }

// Network finds one by its key.
func (w *World) Network(key string) *Network {
	for i := range w.Networks {
		if w.Networks[i].Key == key {
			return &w.Networks[i]
		}
	}
	return nil
}

// Member finds one by its name.
func (w *World) Member(name string) *Member {
	for i := range w.Members {
		if w.Members[i].Name == name {
			return &w.Members[i]
		}
	}
	return nil
}

// Port gives what is known of one of a member's ports.
func (m *Member) Port(protocol string, number uint16) Port {
	for _, p := range m.Ports {
		if p.Protocol == protocol && p.Number == number {
			return p
		}
	}
	return Port{Protocol: protocol, Number: number}
}

// closed tells whether a network's publish was said and is a word.
func (n *Network) publishes(words ...string) bool { return slices.Contains(words, n.Zone.Publish) }

// Direct says whether somebody reaches a member's address on a network.
func (w *World) Direct(from string, to *Member, key string, p Port) Verdict {
	n := w.Network(key)
	if n == nil {
		return denied("%s is on an unknown network", to.Name)
	}
	switch from {
	case LAN, Internet:
		return denied("containers' own addresses are reached from this host only")
	case Host:
		return n.fromHost(to, p)
	}
	m := w.Member(from)
	switch {
	case m == nil:
		return denied("nobody is called %s", from)
	case m.Host:
		return n.fromHost(to, p)
	case !slices.Contains(m.Networks, key):
		return denied("%s is not on %s", from, n.Name)
	case !n.Between && m != to:
		return denied("%s: containers do not reach each other (between: deny)", n.Name)
	}
	return allowed("both are on %s", n.Name)
}

func (n *Network) fromHost(to *Member, p Port) Verdict {
	switch {
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

// Published says whether somebody reaches a published port. Through is, for a member,
// the network by whose gateway it asks.
func (w *World) Published(from, through string, b Publication) Verdict {
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
	if !Restricted(n.Zone) {
		return true
	}
	prefixes, names := Destinations(n.Zone)
	named := slices.ContainsFunc(names, func(s string) bool { return slices.Contains(hostNames, s) })
	open := func(a netip.Addr) bool {
		return named && slices.Contains(n.Gateways, a) || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	if at.IsValid() && !at.IsUnspecified() && !at.IsLoopback() {
		return open(at)
	}
	return named || slices.ContainsFunc(slices.Concat(n.Gateways, w.Addresses), func(a netip.Addr) bool {
		return (!at.IsValid() || a.Is4() == at.Is4()) && open(a)
	})
}

// Reach says whether somebody reaches a member's port in any way, by its own address
// before by a port of the host. Number 0 asks for any port.
func (w *World) Reach(from string, to *Member, protocol string, number uint16) Verdict {
	ports := []Port{to.Port(protocol, number)}
	if number == 0 {
		ports = append(slices.Clone(to.Ports), Port{Protocol: protocol})
	}
	var no []string
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
		}
	}
	if byHost != nil {
		return *byHost
	}
	if len(no) == 0 {
		no = []string{fmt.Sprintf("%s is on no network", to.Name)}
	}
	return Verdict{Why: strings.Join(no, "; ")}
}

// ways are the verdicts of every way to a port.
func (w *World) ways(from string, to *Member, p Port) (list []Verdict) {
	if p.Local && from != to.Name {
		return []Verdict{denied("%s listens on %d/%s on its loopback address only", to.Name, p.Number, p.Protocol)}
	}
	m := w.Member(from)
	if to.Host {
		if m == nil || m.Host || slices.ContainsFunc(m.Networks, func(k string) bool { n := w.Network(k); return n != nil && w.reachesHost(n, netip.Addr{}) }) {
			return []Verdict{allowed("%s is in this host's own network", to.Name)}
		}
		return []Verdict{denied("%s is in this host's own network, which is closed to %s", to.Name, from)}
	}
	shared := false
	for _, key := range to.Networks {
		if m != nil && !m.Host && !slices.Contains(m.Networks, key) {
			continue
		}
		shared = true
		list = append(list, w.Direct(from, to, key, p))
	}
	if !shared && m != nil {
		list = append(list, denied("no network in common"))
	}
	for _, b := range p.Published {
		if m == nil || m.Host {
			list = append(list, w.Published(from, "", b))
			continue
		}
		for _, key := range m.Networks {
			v := w.Published(from, key, b)
			v.ByHost = v.Allowed
			list = append(list, v)
		}
	}
	return list
}

// Out says whether a member may begin connections to somewhere: lan, internet, or a
// name or address.
func (w *World) Out(m *Member, to string) Verdict {
	if m.Host {
		return allowed("%s is in this host's own network", m.Name)
	}
	n := w.Network(m.Way)
	switch {
	case n == nil:
		return denied("%s is on internal networks only", m.Name)
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

// ToHost says whether a member may ask this host itself.
func (w *World) ToHost(m *Member) Verdict {
	if m.Host {
		return allowed("%s is in this host's own network", m.Name)
	}
	for _, key := range m.Networks {
		if n := w.Network(key); n != nil && w.reachesHost(n, netip.Addr{}) {
			return allowed("this host is on %s", n.Name)
		}
	}
	return denied("its networks close this host (egress)")
}
