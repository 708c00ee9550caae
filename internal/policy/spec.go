package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// Zone is what a network of a project may do: x-zone, or driver options.
func Zone(n api.ProjectNetwork) (api.Zone, error) {
	z, err := FromOptions(n.Create.Options)
	switch {
	case err != nil:
		return z, fmt.Errorf("network %s: %w", n.Key, err)
	case n.Zone == nil:
	case z.Publish != "" || z.Egress != nil || z.Between != "":
		return z, fmt.Errorf("network %s: its zone stands in x-zone and in driver_opts: write it once", n.Key)
	default:
		z = *n.Zone
	}
	if n.External && n.Zone != nil {
		return z, fmt.Errorf("network %s: it is external: its zone is given where it is made (muelle network create --zone …)", n.Key)
	}
	if err := Check(z, n.Create.Driver, n.Create.Internal); err != nil {
		return z, fmt.Errorf("network %s: x-zone: %w", n.Key, err)
	}
	return z, nil
}

// Engine is what an engine knows beside a project's document.
type Engine struct {
	// Network gives those that there are, by name.
	Network func(name string) (Network, bool)
	// Addresses are the host's.
	Addresses []netip.Addr
}

func (e *Engine) network(name string) (Network, bool) {
	if e == nil || e.Network == nil {
		return Network{}, false
	}
	return e.Network(name)
}

// predefined is the key of the network bridge, which a project's own may be called.
const predefined = "(bridge)"

// FromSpec is the world that a project would make. engine is nil where none was asked.
func FromSpec(spec *api.ProjectSpec, engine *Engine) (*World, error) {
	w := &World{}
	if engine != nil {
		w.Addresses = engine.Addresses
	}
	bind := map[string]netip.Addr{}
	for _, n := range spec.Networks {
		z, err := Zone(n)
		if err != nil {
			return nil, err
		}
		known := NewNetwork(n.Key, n.Key, n.Create.Driver, n.Create.Options, z)
		known.Internal, known.IPv6 = n.Create.Internal, n.Create.EnableIPv6 != nil && *n.Create.EnableIPv6
		known.NoIPv4 = n.Create.EnableIPv4 != nil && !*n.Create.EnableIPv4
		if n.Create.IPAM != nil {
			for _, c := range n.Create.IPAM.Config {
				if c.Gateway.IsValid() {
					known.Gateways = append(known.Gateways, c.Gateway)
				}
			}
		}
		switch e, ok := engine.network(n.Name); {
		case ok && n.External:
			known = e
			known.Key = n.Key
		case ok && len(known.Gateways) == 0:
			known.Gateways = e.Gateways
		}
		bind[n.Key] = netip.IPv4Unspecified()
		if a, err := netip.ParseAddr(n.Create.Options[optionBind]); err == nil {
			bind[n.Key] = a
		}
		w.Networks = append(w.Networks, known)
	}
	known := Network{Name: driverBridge, Between: true}
	if e, ok := engine.network(driverBridge); ok {
		known = e
	}
	known.Key, bind[predefined] = predefined, netip.IPv4Unspecified()
	w.Networks = append(w.Networks, known)
	for _, svc := range spec.Services {
		m, err := w.fromService(spec, svc, bind)
		if err != nil {
			return nil, err
		}
		w.Members = append(w.Members, m)
	}
	return w, nil
}

func (w *World) fromService(spec *api.ProjectSpec, svc api.ProjectService, bind map[string]netip.Addr) (Member, error) {
	m := Member{Name: MemberName(svc.Name, "service")}
	owner := svc
	for range spec.Services { // network_mode: service:NAME, which may be one of another's
		name, ok := strings.CutPrefix(string(owner.HostConfig.NetworkMode), "service:")
		i := slices.IndexFunc(spec.Services, func(s api.ProjectService) bool { return s.Name == name })
		if !ok || i < 0 {
			break
		}
		owner = spec.Services[i]
	}
	m.Host = owner.HostConfig.NetworkMode.IsHost()
	for key := range owner.Endpoints {
		m.Networks = append(m.Networks, key)
	}
	slices.Sort(m.Networks)
	if mode := owner.HostConfig.NetworkMode; len(m.Networks) == 0 && (mode.IsBridge() || mode.IsDefault()) {
		m.Networks = []string{predefined}
	}
	m.Way = w.first(spec, owner, m.Networks, func(n *Network) bool { return !n.Internal })
	through := m.Way
	if n := w.Network(m.Way); n == nil || n.linked() || n.Zone.Publish == api.ZoneNone {
		through = w.first(spec, owner, m.Networks, func(n *Network) bool {
			return !n.linked() && n.Zone.Publish != api.ZoneNone && (!n.Internal || n.Zone.Publish == api.ZoneHost)
		})
	}
	ports := exposed(svc.Config, svc.HostConfig)
	for _, p := range ports {
		known := Port{Protocol: string(p.Proto()), Number: p.Num()}
		for _, b := range svc.HostConfig.PortBindings[p] {
			first, _, _ := strings.Cut(b.HostPort, "-")
			number, _ := strconv.ParseUint(first, 10, 16)
			if n := w.Network(through); n != nil {
				for _, host := range hosts(b.HostIP, bind[through]) {
					known.Published = append(known.Published, n.publications(known, netip.AddrPortFrom(host, uint16(number)))...)
				}
			}
		}
		m.Ports = append(m.Ports, known)
	}
	if len(svc.HostConfig.PortBindings) > 0 && through == "" && slices.ContainsFunc(m.Networks, func(key string) bool {
		n := w.Network(key)
		return n != nil && n.Zone.Publish == api.ZoneNone
	}) {
		return m, fmt.Errorf("service %s publishes %s, but every network of it publishes nothing (%s): allow it on one (x-zone: {publish: host}), or take ports away",
			svc.Name, published(svc.HostConfig), strings.Join(m.Networks, ", "))
	}
	return m, nil
}

// hosts are the addresses that a port is published on: those of both families where
// nothing is said.
func hosts(said, otherwise netip.Addr) []netip.Addr {
	switch {
	case said.IsValid():
		return []netip.Addr{said}
	case otherwise == netip.IPv4Unspecified():
		return []netip.Addr{otherwise, netip.IPv6Unspecified()}
	}
	return []netip.Addr{otherwise}
}

// publications are what comes of a port that is to be published on an address of the
// host: that, by a relay where the network lacks the family, or the container's own address.
func (n *Network) publications(p Port, host netip.AddrPort) (list []Publication) {
	six := host.Addr().Is6()
	relayed := six && !n.NoIPv4
	routed := n.has(six) && n.mode(six) == modeRouted
	if n.has(six) && !routed || relayed && (routed || !n.IPv6) {
		list = append(list, Publication{Host: host, Network: n.Key})
	}
	if n.has(six) && (routed || len(n.Trusted) > 0) {
		own := netip.IPv4Unspecified() // which it is shows when it runs
		if six {
			own = netip.IPv6Unspecified()
		}
		list = append(list, Publication{Host: netip.AddrPortFrom(own, p.Number), Network: n.Key, Own: true})
	}
	return list
}

// first is the network of the highest priority, or the first by name among equals, of
// those that fit.
func (w *World) first(spec *api.ProjectSpec, svc api.ProjectService, keys []string, fits func(*Network) bool) string {
	name := func(key string) string {
		for _, n := range spec.Networks {
			if n.Key == key {
				return n.Name
			}
		}
		return key
	}
	priority := func(key string) int {
		if e := svc.Endpoints[key]; e != nil {
			return e.GwPriority
		}
		return 0
	}
	best := ""
	for _, key := range keys {
		n := w.Network(key)
		if n == nil || !fits(n) {
			continue
		}
		if best == "" || priority(key) > priority(best) || priority(key) == priority(best) && name(key) < name(best) {
			best = key
		}
	}
	return best
}

func exposed(c *container.Config, h *container.HostConfig) (list []network.Port) {
	seen := map[network.Port]bool{}
	if c != nil {
		for p := range c.ExposedPorts {
			seen[p] = true
		}
	}
	for p := range h.PortBindings {
		seen[p] = true
	}
	for p := range seen {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b network.Port) int {
		if a.Num() != b.Num() {
			return int(a.Num()) - int(b.Num())
		}
		return strings.Compare(string(a.Proto()), string(b.Proto()))
	})
	return list
}

func published(h *container.HostConfig) string {
	var list []string
	for p := range h.PortBindings {
		list = append(list, p.String())
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// CheckSpec refuses a project whose zones or sentences are wrong, or whose zones do not
// keep what its sentences expect. engine is nil where none was asked: then only what is
// wrong on every host is.
func CheckSpec(spec *api.ProjectSpec, engine *Engine) error {
	w, err := FromSpec(spec, engine)
	if err != nil {
		return err
	}
	names := slices.Clone(spec.Disabled)
	for _, m := range w.Members {
		names = append(names, m.Name)
	}
	all, err := Expectations(spec.Expect, names)
	if err != nil {
		return fmt.Errorf("x-expect: %w", err)
	}
	if err := ambiguous(spec, all); err != nil {
		return err
	}
	// What is not selected now is judged when it is.
	all = slices.DeleteFunc(all, func(e Expectation) bool {
		return slices.Contains(spec.Disabled, e.From) || slices.Contains(spec.Disabled, e.To)
	})
	if engine == nil && slices.ContainsFunc(spec.Networks, func(n api.ProjectNetwork) bool { return n.External }) {
		return nil // who is on them, and what they may do, only the engine knows
	}
	bad := w.Violations(all)
	if engine == nil && len(bad) > 0 {
		bad = w.onEveryHost(bad, all)
	}
	if len(bad) == 0 {
		return nil
	}
	var lines []string
	for _, v := range bad {
		lines = append(lines, v.String())
	}
	return fmt.Errorf("x-expect does not hold:\n  %s", strings.Join(lines, "\n  "))
}

// onEveryHost leaves of the violations those that do not depend on whether an address that
// a zone lists is this host's.
func (w *World) onEveryHost(bad []Violation, all []Expectation) []Violation {
	for _, n := range w.Networks {
		prefixes, _ := Destinations(n.Zone)
		for _, p := range prefixes {
			w.Addresses = append(w.Addresses, p.Addr())
		}
	}
	there := w.Violations(all)
	return slices.DeleteFunc(bad, func(v Violation) bool {
		return !slices.ContainsFunc(there, func(o Violation) bool { return o.Text == v.Text && o.Who == v.Who })
	})
}

// ambiguous refuses sentences in which a word may be a service or what is outside.
func ambiguous(spec *api.ProjectSpec, all []Expectation) error {
	names := slices.Clone(spec.Disabled)
	for _, svc := range spec.Services {
		names = append(names, svc.Name)
	}
	for _, e := range all {
		for _, word := range []string{e.From, e.To} {
			if isOutside(word) && slices.Contains(names, word) {
				return fmt.Errorf("x-expect: %q: %s is a word of these sentences and a service of the project: give the service another name", e.Text, word)
			}
		}
	}
	return nil
}
