// Package exposure tells who can really reach the ports of containers: nobody, this
// host, its LAN, everyone. It takes what is published, the host's addresses and the
// rules of every packet filter on it, and follows packets from each circle through
// the hooks that they would pass; it sends none.
package exposure

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
	"muelle/internal/netdriver"
	"muelle/internal/network"
)

// Options of a Service.
type Options struct {
	// Networks gives what is published.
	Networks interface{ Snapshot() network.Snapshot }
	// Pids lists the processes of a running container, to find what one on the host's
	// network listens on.
	Pids func(ctx context.Context, containerID string) ([]int, error)
	// API are the addresses that the engine itself listens on by TCP.
	API []API
	Log *slog.Logger
}

// API is one of the engine's own listeners.
type API struct {
	Address netip.AddrPort
	// Open: it asks for no certificate.
	Open bool
}

// Service answers for one host.
type Service struct{ o Options }

// New makes a Service.
func New(o Options) *Service { return &Service{o} }

// Report looks at everything at this moment.
func (s *Service) Report(ctx context.Context) (*api.ExposureReport, error) {
	snapshot := s.o.Networks.Snapshot()
	h, err := readHost(snapshot)
	if err != nil {
		return nil, err
	}
	report := &api.ExposureReport{Ports: []api.ExposedPort{}, Warnings: []string{}}
	for i := range snapshot.Sandboxes {
		sb := &snapshot.Sandboxes[i]
		if sb.Host {
			report.Ports = append(report.Ports, s.listening(ctx, h, sb)...)
		} else {
			report.Ports = append(report.Ports, h.published(&snapshot, sb)...)
		}
	}
	for _, a := range s.o.API {
		p := api.ExposedPort{Protocol: "tcp", Address: a.Address.Addr().String(), Port: a.Address.Port(), Process: "muelled"}
		h.judge(&p, target{protocol: unix.IPPROTO_TCP, host: a.Address})
		p.Warning = warnAPI(&p, a.Open)
		report.Ports = append(report.Ports, p)
	}
	for i := range report.Ports {
		if p := &report.Ports[i]; p.Container != "" {
			p.Warning = warn(p)
		}
	}
	slices.SortStableFunc(report.Ports, func(a, b api.ExposedPort) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Address, b.Address))
	})
	for i := range report.Ports {
		if p := &report.Ports[i]; p.Warning != "" && !widerBeside(report.Ports, i) {
			report.Warnings = append(report.Warnings, p.Warning)
		}
	}
	return report, nil
}

// widerBeside tells whether the same port is warned of for another address of the
// host, where it is open to more, or was before.
func widerBeside(all []api.ExposedPort, i int) bool {
	p := &all[i]
	for j := range all {
		o := &all[j]
		if j == i || o.Warning == "" || o.ContainerID != p.ContainerID || o.Port != p.Port || o.Protocol != p.Protocol {
			continue
		}
		wider, narrower := o.Wider(p) || o.RouterDecides && !p.RouterDecides, p.Wider(o) || p.RouterDecides && !o.RouterDecides
		if wider || !narrower && j < i {
			return true
		}
	}
	return false
}

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// published are the ports of a container with a network of its own.
func (h *host) published(snapshot *network.Snapshot, sb *network.SandboxView) (list []api.ExposedPort) {
	name, bridge := way(snapshot, sb)
	for port, bindings := range sb.Ports {
		for _, b := range bindings {
			number, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil || !b.HostIP.IsValid() {
				continue // not bound
			}
			p := api.ExposedPort{
				ContainerID: sb.ID, Container: sb.Name, Project: sb.Project, Service: sb.Service, Network: name,
				Protocol: string(port.Proto()), Address: b.HostIP.String(), Port: uint16(number), ContainerPort: port.Num(),
			}
			t := target{protocol: protocols[p.Protocol], host: netip.AddrPortFrom(b.HostIP, p.Port), bridge: bridge}
			same := netdriver.Mapping{Protocol: p.Protocol, Host: t.host}
			if i := slices.IndexFunc(sb.Mappings, same.Same); i >= 0 && len(sb.Mappings[i].Targets) > 0 {
				t.to = sb.Mappings[i].Targets[0]
			}
			h.judge(&p, t)
			list = append(list, p)
		}
	}
	return list
}

// way is the network that a container's published ports lead through.
func way(snapshot *network.Snapshot, sb *network.SandboxView) (name, bridge string) {
	for _, e := range sb.Endpoints {
		if !e.Publishes {
			continue
		}
		for _, n := range snapshot.Networks {
			if n.ID == e.Network {
				return n.Name, n.Interface
			}
		}
	}
	return "", ""
}

// listening are the sockets of a container on the host's network.
func (s *Service) listening(ctx context.Context, h *host, sb *network.SandboxView) (list []api.ExposedPort) {
	pids, err := s.o.Pids(ctx, sb.ID)
	if err != nil {
		return nil // it has just ended
	}
	sockets, err := listeners(pids)
	if err != nil {
		s.o.Log.Warn("cannot tell what a container on the host's network listens on", "container", sb.ID, "err", err)
	}
	for _, l := range sockets {
		p := api.ExposedPort{
			ContainerID: sb.ID, Container: sb.Name, Project: sb.Project, Service: sb.Service, Network: "host",
			Protocol: l.protocol, Address: l.at.Addr().String(), Port: l.at.Port(), ContainerPort: l.at.Port(), Process: l.process,
		}
		h.judge(&p, target{protocol: protocols[l.protocol], host: l.at, both: both(l, sockets)})
		list = append(list, p)
	}
	return list
}

// both tells whether a socket on [::] takes what comes by IPv4 too: unless it is
// beside one for that.
func both(l listener, all []listener) bool {
	return l.at.Addr() == netip.IPv6Unspecified() && !slices.ContainsFunc(all, func(o listener) bool {
		return o.protocol == l.protocol && o.at == netip.AddrPortFrom(netip.IPv4Unspecified(), l.at.Port())
	})
}

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
}

// translated tells whether a packet for an address of the host is sent on by the
// kernel. From ::1 and link-local addresses it cannot be, nor for others' packets
// where the host does not forward IPv6.
func (h *host) translated(t target, a netip.Addr, local bool) bool {
	switch {
	case !t.to.IsValid():
		return false
	case a.Is4():
		return true
	}
	return !a.IsLoopback() && !a.IsLinkLocalUnicast() && (local || h.forwards6)
}

// single is a prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// arrive follows a packet from outside, from source by a link, for an address a of the host.
func (h *host) arrive(t target, link string, source netip.Prefix, a netip.Addr) ruleset.Fate {
	p := ruleset.Packet{
		In: link, V6: a.Is6(), Source: source, Destination: single(a), Protocol: t.protocol, DestinationPort: t.host.Port(), ToLocal: true,
	}
	before := h.rules.Ask(p, nil, ruleset.Ingress, ruleset.Prerouting)
	if before.Certain() {
		return before
	}
	if !h.translated(t, a, false) {
		there := joined(before, h.rules.Ask(p, nil, ruleset.Input))
		return joined(there, h.rules.Ask(answer(p, ""), nil, ruleset.Output, ruleset.Postrouting))
	}
	p = t.sentOn(p)
	there := joined(before, h.rules.Ask(p, nil, ruleset.Forward, ruleset.Postrouting))
	return joined(there, h.rules.Ask(answer(p, t.bridge), nil, ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting))
}

// answer is what goes back: who is not answered reaches nothing.
func answer(p ruleset.Packet, from string) ruleset.Packet {
	p.In, p.InBridge, p.Out, p.OutBridge = from, from != "", p.In, false
	p.Source, p.Destination, p.DestinationPort = p.Destination, p.Source, 0
	p.Established, p.Reply, p.ToLocal = true, true, false
	return p
}

// sentOn is the packet after its destination was translated.
func (t target) sentOn(p ruleset.Packet) ruleset.Packet {
	p.Translated, p.Original, p.OriginalPort, p.ToLocal = true, p.Destination, p.DestinationPort, false
	p.Destination, p.DestinationPort = single(t.to.Addr()), t.to.Port()
	p.Out, p.OutBridge = t.bridge, true
	return p
}

// depart follows a packet of this host's own for one of its addresses.
func (h *host) depart(t target, a netip.Addr) ruleset.Fate {
	p := ruleset.Packet{
		Out: "lo", V6: a.Is6(), Source: single(a), Destination: single(a), Protocol: t.protocol, DestinationPort: t.host.Port(), ToLocal: true,
	}
	if h.translated(t, a, true) {
		p = t.sentOn(p)
		leaving := p
		leaving.Out, leaving.OutBridge = ruleset.Somewhere, false
		// In the output hook the interface is still that of before.
		return joined(h.rules.Ask(leaving, nil, ruleset.Output), h.rules.Ask(p, nil, ruleset.Postrouting))
	}
	out := h.rules.Ask(p, nil, ruleset.Output, ruleset.Postrouting)
	p.In, p.Out = "lo", ""
	return joined(out, h.rules.Ask(p, nil, ruleset.Prerouting, ruleset.Input))
}

// joined is the fate of a packet that must pass both.
func joined(a, b ruleset.Fate) ruleset.Fate {
	if b.By == nil || a.Certain() {
		b.By, b.Rule = a.By, a.Rule
	}
	return ruleset.Fate{Passes: a.Passes && b.Passes, Dropped: a.Dropped || b.Dropped, By: b.By, Rule: b.Rule}
}

// circle is how many of those in a circle get through.
type circle int

const (
	none circle = iota
	some
	all
)

func circleOf(f ruleset.Fate) circle {
	switch {
	case f.Certain():
		return none
	case f.Dropped:
		return some
	}
	return all
}

// judge fills in who reaches the target.
func (h *host) judge(p *api.ExposedPort, t target) {
	host := h.fromHost(t)
	lan, lanRule := h.fromLAN(t)
	world, router, worldRule := h.fromWorld(t)
	switch {
	case world > none:
		p.Reach, p.Partly = api.ReachEveryone, world == some
	case lan > none:
		p.Reach, p.Partly = api.ReachLAN, lan == some
	case host > none:
		p.Reach = api.ReachHost
	default:
		p.Reach = api.ReachNobody
	}
	p.RouterDecides = p.Reach == api.ReachLAN && router
	add := func(text string) {
		if !slices.Contains(p.Because, text) {
			p.Because = append(p.Because, text)
		}
	}
	if lan < all && lanRule != "" {
		add(lanRule)
	}
	if world < all && worldRule != "" {
		add(worldRule)
	}
	if a := t.host.Addr(); a.IsLoopback() {
		add(fmt.Sprintf("%s is this host's own", a))
	}
}

// hits tells whether the target is behind an address of the host.
func (t target) hits(a netip.Addr) bool {
	if t.host.Addr().IsUnspecified() {
		return t.both || t.host.Addr().Is4() == a.Is4()
	}
	return t.host.Addr().WithZone("") == a
}

func (h *host) fromHost(t target) circle {
	best := none
	for _, a := range h.own {
		if !t.hits(a) {
			continue
		}
		best = max(best, circleOf(h.depart(t, a)))
	}
	return best
}

func (h *host) fromLAN(t target) (circle, string) {
	best, rule := none, ""
	for _, l := range h.links {
		for _, p := range l.prefixes {
			if !t.hits(p.Addr()) || p.IsSingleIP() {
				continue
			}
			f := h.arrive(t, l.name, p.Masked(), p.Addr())
			if c := circleOf(f); c > best {
				best = c
			}
			if f.Dropped {
				rule = f.Rule
			}
		}
	}
	return best, rule
}

// fromWorld asks for the rest of the internet, by public addresses; router tells
// whether it would get through to a private one.
func (h *host) fromWorld(t target) (world circle, router bool, rule string) {
	for _, l := range h.links {
		if !l.uplink {
			continue
		}
		for _, p := range l.prefixes {
			if !t.hits(p.Addr()) || p.Addr().IsLinkLocalUnicast() {
				continue
			}
			passed, dropped := 0, false
			samples := ruleset.Sample(p.Addr().Is6())
			for _, from := range samples {
				f := h.arrive(t, l.name, from, p.Addr())
				if f.Passes {
					passed++
				}
				if f.Dropped {
					dropped, rule = true, f.Rule
				}
			}
			c := none
			if passed > 0 {
				c = some
				if !dropped {
					c = all
				}
			}
			if public(p.Addr()) {
				world = max(world, c)
			} else {
				router = router || c > none
			}
		}
	}
	return world, router, rule
}

// readHost looks at addresses and rules.
func readHost(snapshot network.Snapshot) (*host, error) {
	rules, err := ruleset.Read(nil)
	if err != nil {
		return nil, err
	}
	h := &host{rules: rules, forwards6: rtnl.SysctlIs("ipv6/conf/all/forwarding", 1)}
	ours := map[string]bool{}
	for _, n := range snapshot.Networks {
		ours[n.Interface] = n.Interface != ""
	}
	return h, h.readLinks(ours)
}
