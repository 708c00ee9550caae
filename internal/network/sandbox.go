package network

import (
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/moby/moby/api/types/network"

	"muelle/internal/netdriver"
	"muelle/internal/network/port"
)

// sandbox is the live form of a container's network side, guarded by Service.mu.
type sandbox struct {
	id, name  string
	spec      SandboxSpec
	endpoints []*endpoint // in the order of interfaces
	// ns is our own descriptor of the namespace; nil for the host's.
	ns       *os.File
	mappings []netdriver.Mapping
	// reserved are the bindings, without files.
	reserved []port.Binding
	ports    network.PortMap
	// resolving: our resolver has sockets in the namespace.
	resolving bool
	// readiness, by which a name means others where this one is unhealthy or about to be
	// stopped.
	readiness atomic.Int32
	// asked counts, at most once each, the names whose absence was explained.
	asked sync.Map
}

func newSandbox(spec SandboxSpec) *sandbox {
	sb := &sandbox{id: spec.ID, name: strings.TrimPrefix(spec.Name, "/"), spec: spec}
	if !spec.Ready {
		sb.readiness.Store(int32(notReady))
	}
	return sb
}

func (sb *sandbox) close() {
	if sb.ns != nil {
		sb.ns.Close()
	}
}

// resolves tells whether the sandbox has our resolver.
func (sb *sandbox) resolves() bool {
	return slices.ContainsFunc(sb.endpoints, func(e *endpoint) bool { return e.net.resolves() })
}

// outside tells whether there is a way to the world.
func (sb *sandbox) outside() bool {
	return slices.ContainsFunc(sb.endpoints, func(e *endpoint) bool { return e.gateway })
}

func (sb *sandbox) hasIPv6() bool {
	return slices.ContainsFunc(sb.endpoints, func(e *endpoint) bool { return e.net.EnableIPv6 })
}

// called tells whether a name is one of the container's.
func (sb *sandbox) called(name string) bool {
	if strings.EqualFold(sb.name, name) || strings.EqualFold(sb.spec.Service, name) {
		return true
	}
	return slices.ContainsFunc(sb.endpoints, func(e *endpoint) bool { return slices.Contains(e.names, name) })
}

// explain tells whether the absence of a name is to be explained now; a container
// that asks for ever new names does not fill the memory.
func (sb *sandbox) explain(name string) bool {
	_, known := sb.asked.LoadOrStore(name, true)
	return !known
}

func (sb *sandbox) networkNames() (names []string) {
	for _, e := range sb.endpoints {
		names = append(names, e.net.Name)
	}
	return names
}

// view is what inspect shows, without files.
func (sb *sandbox) view() *Sandbox {
	v := &Sandbox{ID: sb.id, Endpoints: map[string]*network.EndpointSettings{}, Ports: maps.Clone(sb.ports)}
	for _, e := range sb.endpoints {
		v.Endpoints[e.net.Name] = e.settings.Copy()
	}
	return v
}

// Sandbox gives a running container's sandbox as inspect shows it, without files.
func (s *Service) Sandbox(containerID string) (*Sandbox, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sb := s.sandboxes[containerID]
	if sb == nil {
		return nil, false
	}
	return sb.view(), true
}

// driverView is what the driver is told of an endpoint.
func (e *endpoint) driverView() netdriver.Endpoint {
	d := netdriver.Endpoint{
		ID: e.id, Container: e.sandbox.id, NetNS: e.sandbox.ns, Interface: e.iface,
		MAC: []byte(e.settings.MacAddress),
	}
	d.Addresses = append(prefixes(e.settings), e.linkLocal()...)
	d.Publishes = len(e.sandbox.mappings) > 0 && e == e.sandbox.publisher()
	if e.gateway {
		// Of several subnets of a family the container has an address in one.
		for _, c := range e.net.IPAM.Config {
			in := c.Subnet.Contains(e.settings.IPAddress) || c.Subnet.Contains(e.settings.GlobalIPv6Address)
			if gw := wayOut(c); in && gw.IsValid() {
				d.Gateways = append(d.Gateways, gw)
			}
		}
	}
	return d
}

// showPorts is what inspect shows of ports: every exposed one, with its bindings
// where it is published.
func showPorts(spec SandboxSpec, bound []port.Binding) network.PortMap {
	m := make(network.PortMap, max(len(spec.Exposed), len(spec.Ports)))
	for p := range spec.Exposed {
		m[p] = nil
	}
	for p := range spec.Ports {
		m[p] = nil
	}
	room := make([]network.PortBinding, 0, 2*len(bound))
	for _, b := range bound {
		before := len(room)
		room = appendShown(room, b)
		if list := m[b.Container]; list != nil {
			m[b.Container] = append(list, room[before:]...)
		} else {
			m[b.Container] = room[before:len(room):len(room)]
		}
	}
	return m
}
