// Package zone shows who reaches whom: the matrix of services, ports, host, LAN and
// the world as the model has it, proved by attempts that are made inside the
// containers' network namespaces.
package zone

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/socket"
	"muelle/internal/network"
	"muelle/internal/policy"
	"muelle/internal/zone/exposure"
)

// Service makes the reports.
type Service struct {
	networks *network.Service
	pids     func(ctx context.Context, containerID string) ([]int, error)
}

// New makes a Service. Pids lists the processes of a running container, to find what one
// on the host's network listens on.
func New(networks *network.Service, pids func(ctx context.Context, containerID string) ([]int, error)) *Service {
	return &Service{networks: networks, pids: pids}
}

// Options of a report.
type Options struct {
	// Project restricts it to one; empty: all networks.
	Project string
	// Expect are sentences that must hold.
	Expect []string
	// Known are services that the sentences may speak of although none runs.
	Known  []string
	Verify bool
}

// scene is what a report is made of.
type scene struct {
	world *policy.World
	// containers of each member.
	containers map[string][]network.SandboxView
	// of gives the service of a member that is one of its replicas only.
	of        map[string]string
	networks  map[string]network.NetworkView
	listening map[string][]socket.Listener // by container
	filters   *filters
}

// Report gives who reaches whom. errdefs.ErrNotFound: nothing of the project runs.
func (s *Service) Report(ctx context.Context, o Options) (*api.ZoneReport, error) {
	sc, err := s.scene(ctx, o.Project, o.Verify)
	if err != nil {
		return nil, err
	}
	r := &api.ZoneReport{Project: o.Project, Verified: o.Verify}
	sc.describe(r)
	sc.cells(r)
	if o.Verify {
		if err := s.verify(ctx, sc, r); err != nil {
			return nil, err
		}
	}
	for i, c := range r.Cells {
		for _, t := range c.Tries {
			if t.Differs {
				r.Cells[i].Differs = true
				r.Violations++
			}
		}
	}
	sc.expect(r, o)
	return r, nil
}

// scene takes what runs, and the ports that it listens on.
func (s *Service) scene(ctx context.Context, project string, verify bool) (*scene, error) {
	all := s.networks.Snapshot()
	sc := &scene{world: &policy.World{}, containers: map[string][]network.SandboxView{}, of: map[string]string{}, networks: map[string]network.NetworkView{}, listening: map[string][]socket.Listener{}}
	wanted := map[string]bool{}
	for _, n := range all.Networks {
		sc.networks[n.ID] = n
		if project == "" || n.Project == project {
			wanted[n.ID] = true
		}
	}
	for _, sb := range all.Sandboxes {
		for _, e := range sb.Endpoints {
			if sb.Project == project && project != "" {
				wanted[e.Network] = true
			}
		}
	}
	for _, sb := range all.Sandboxes {
		in := project == "" || sb.Project == project
		for _, e := range sb.Endpoints {
			in = in || wanted[e.Network]
		}
		if in {
			name := memberName(sb, project)
			sc.containers[name] = append(sc.containers[name], sb)
			if err := s.listen(ctx, sc, sb); err != nil {
				return nil, err
			}
		}
	}
	if len(sc.containers) == 0 {
		if project == "" {
			return sc, nil
		}
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no container of project %q runs", project))
	}
	sc.split()
	if err := sc.besides(all, verify); err != nil {
		return nil, err
	}
	sc.build(project)
	var err error
	sc.world.Addresses, err = rtnl.GlobalAddresses()
	return sc, err
}

func memberName(sb network.SandboxView, project string) string {
	switch {
	case sb.Service == "":
		return policy.MemberName(sb.Name, "container")
	case sb.Project == project:
		return policy.MemberName(sb.Service, "service")
	}
	return sb.Project + "/" + sb.Service
}

// listen reads what a container listens on. One that ends meanwhile listens on nothing.
func (s *Service) listen(ctx context.Context, sc *scene, sb network.SandboxView) (err error) {
	if sb.Host {
		pids, err := s.pids(ctx, sb.ID)
		if err != nil {
			return nil
		}
		sc.listening[sb.ID], err = exposure.Listeners(pids)
		return err
	}
	ns, err := s.networks.NetNS(sb.ID)
	if err != nil {
		return nil
	}
	defer ns.Close()
	return netns.Do(ns, func() error {
		sc.listening[sb.ID], err = socket.Listeners()
		return err
	})
}

// split makes every replica a member where those of a service are not on the same
// networks: somebody has connected one of them alone.
func (sc *scene) split() {
	for _, name := range sc.names() {
		list := sc.containers[name]
		if !slices.ContainsFunc(list, func(sb network.SandboxView) bool { return place(sb) != place(list[0]) }) {
			continue
		}
		delete(sc.containers, name)
		for _, sb := range list {
			own := policy.MemberName(sb.Name, "container")
			if sc.containers[own] != nil {
				own = name + "(" + sb.Name + ")" // a service has that name
			}
			sc.containers[own], sc.of[own] = []network.SandboxView{sb}, name
		}
	}
}

// place is where a container is: its networks, and the one that leads out.
func place(sb network.SandboxView) string {
	var keys []string
	for _, e := range sb.Endpoints {
		keys = append(keys, fmt.Sprint(e.Network, e.Gateway))
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

// build makes the model's world.
func (sc *scene) build(project string) {
	used := map[string]bool{}
	for _, name := range sc.names() {
		m := policy.Member{Name: name, Of: sc.of[name]}
		for _, sb := range sc.containers[name] {
			m.Host = m.Host || sb.Host
			for _, e := range sb.Endpoints {
				n := sc.networks[e.Network]
				if n.Driver == "host" || n.Driver == "null" {
					continue
				}
				used[n.ID] = true
				if !slices.Contains(m.Networks, n.ID) {
					m.Networks = append(m.Networks, n.ID)
				}
				if e.Gateway {
					m.Way = n.ID
				}
			}
		}
		m.Ports = sc.ports(sc.containers[name])
		sc.world.Members = append(sc.world.Members, m)
	}
	for id := range used {
		n := sc.networks[id]
		known := policy.NewNetwork(id, shownName(n, project), n.Driver, n.Options, n.Zone)
		known.Internal, known.IPv6, known.NoIPv4 = n.Internal, n.IPv6, !n.IPv4
		known.TrustsLAN, known.TrustsInternet = false, false
		for _, name := range known.Trusted {
			lan, internet := sc.filters.Leads(name)
			known.TrustsLAN, known.TrustsInternet = known.TrustsLAN || lan, known.TrustsInternet || internet
		}
		for _, sub := range n.Subnets {
			if sub.Gateway.IsValid() && known.Here(sub.Gateway.Is6()) {
				known.Gateways = append(known.Gateways, sub.Gateway)
			}
		}
		sc.world.Networks = append(sc.world.Networks, known)
	}
	slices.SortFunc(sc.world.Networks, func(a, b policy.Network) int { return strings.Compare(a.Name, b.Name) })
}

func shownName(n network.NetworkView, project string) string {
	if project != "" && n.Project == project && n.Key != "" {
		return n.Key
	}
	return n.Name
}

func (sc *scene) names() []string {
	var list []string
	for name := range sc.containers {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// firstEphemeral: a UDP socket above it that nobody exposes is a client's.
const firstEphemeral = 32768

// ports are what the containers of one member listen on, expose or publish.
func (sc *scene) ports(containers []network.SandboxView) []policy.Port {
	type key struct {
		protocol string
		number   uint16
	}
	found := map[key]*policy.Port{}
	at := func(protocol string, number uint16) *policy.Port {
		k := key{protocol, number}
		if found[k] == nil {
			found[k] = &policy.Port{Protocol: protocol, Number: number}
		}
		return found[k]
	}
	for _, sb := range containers {
		through := ""
		for _, e := range sb.Endpoints {
			if e.Publishes {
				through = e.Network
			}
		}
		for p := range sb.Ports {
			at(string(p.Proto()), p.Num())
		}
		for _, m := range sb.Mappings {
			for _, target := range m.Targets {
				if through == "" || !ownAddress(sb, target.Addr()) {
					continue
				}
				known := at(m.Protocol, target.Port())
				pub := policy.Publication{Host: m.Host, Network: through, Own: m.Host == target}
				if !slices.Contains(known.Published, pub) {
					known.Published = append(known.Published, pub)
				}
			}
		}
		for _, l := range sc.listening[sb.ID] {
			if l.Addr.Addr().IsLoopback() || l.Proto == "udp" && l.Addr.Port() >= firstEphemeral {
				continue
			}
			at(l.Proto, l.Addr.Port())
		}
	}
	var list []policy.Port
	for k, p := range found {
		p.Local = sc.onlyLocal(containers, k.protocol, k.number)
		slices.SortFunc(p.Published, func(a, b policy.Publication) int { return a.Host.Compare(b.Host) })
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b policy.Port) int {
		if a.Number != b.Number {
			return int(a.Number) - int(b.Number)
		}
		return strings.Compare(a.Protocol, b.Protocol)
	})
	return list
}

func ownAddress(sb network.SandboxView, a netip.Addr) bool {
	return slices.ContainsFunc(sb.Endpoints, func(e network.EndpointView) bool {
		return slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == a })
	})
}

// onlyLocal tells whether a port is listened on, and on loopback addresses only.
func (sc *scene) onlyLocal(containers []network.SandboxView, protocol string, number uint16) bool {
	local := false
	for _, sb := range containers {
		for _, l := range sc.listening[sb.ID] {
			if l.Proto == protocol && l.Addr.Port() == number {
				if !l.Addr.Addr().IsLoopback() {
					return false
				}
				local = true
			}
		}
	}
	return local
}

// hears tells whether a container takes what comes for one address and port, or, where
// the address is unspecified, for any of its family but loopback ones.
func (sc *scene) hears(container, protocol string, at netip.AddrPort) bool {
	return slices.ContainsFunc(sc.listening[container], func(l socket.Listener) bool {
		a := l.Addr.Addr()
		switch {
		case l.Proto != protocol || l.Addr.Port() != at.Port():
			return false
		case a == netip.IPv6Unspecified(), a == at.Addr():
			return true // [::] hears IPv4 as well, as a rule
		case a == netip.IPv4Unspecified():
			return at.Addr().Is4()
		}
		return at.Addr().IsUnspecified() && a.Is4() == at.Addr().Is4() && !a.IsLoopback()
	})
}

// listens tells whether a container takes what comes for a port.
func (sc *scene) listens(container, protocol string, number uint16) bool {
	return slices.ContainsFunc(sc.listening[container], func(l socket.Listener) bool {
		return l.Proto == protocol && l.Addr.Port() == number && !l.Addr.Addr().IsLoopback()
	})
}
