package network

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/netdriver"
)

// Snapshot is what there is at one moment, in values that the caller may keep:
// networks by name, sandboxes by the container's name.
type Snapshot struct {
	Networks  []NetworkView
	Sandboxes []SandboxView
}

// NetworkView is one network.
type NetworkView struct {
	ID, Name string
	// Project and Key are Compose's, from labels, or empty.
	Project, Key string
	Driver       string
	// Interface is its bridge on the host, there while Up.
	Interface string
	Up        bool
	Internal  bool
	IPv6      bool
	// Predefined: containers do not find each other by name here.
	Predefined bool
	IPv4       bool
	// Options are the driver's.
	Options map[string]string
	Zone    api.Zone
	// Between: containers of the network reach each other, by zone or driver option.
	Between bool
	Subnets []netdriver.Subnet
}

// SandboxView is one running container's network side.
type SandboxView struct {
	ID, Name string // the container's
	// Project and Service are Compose's, or empty.
	Project, Service string
	// Host: it is in the host's namespace.
	Host bool
	// Ready: it gets new connections by names and ports that it shares with others.
	Ready     bool
	Endpoints []EndpointView
	// Mappings are its published ports, with targets of the other family where a relay serves.
	Mappings []netdriver.Mapping
	// Ports as inspect shows: every exposed port, with bindings where published.
	Ports network.PortMap
}

// EndpointView is one attachment of a sandbox.
type EndpointView struct {
	ID string
	// Network is the network's id.
	Network   string
	Interface string // inside
	MAC       string
	Addresses []netip.Prefix
	Names     []string
	// Gateway: the default route goes here. Publishes: published ports lead here.
	Gateway, Publishes bool
}

// Snapshot copies networks and sandboxes.
func (s *Service) Snapshot() Snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all Snapshot
	for _, n := range s.networks {
		all.Networks = append(all.Networks, n.snapshot())
	}
	for _, sb := range s.sandboxes {
		all.Sandboxes = append(all.Sandboxes, sb.snapshot())
	}
	slices.SortFunc(all.Networks, func(a, b NetworkView) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(all.Sandboxes, func(a, b SandboxView) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (n *net) snapshot() NetworkView {
	d := n.driverView()
	bridge := ""
	if n.Driver == predefinedBridge {
		bridge = n.Interface // that of other drivers is a link of the host's
	}
	return NetworkView{
		ID: n.ID, Name: n.Name, Project: n.Labels[api.LabelProject], Key: n.Labels[api.LabelNetwork],
		Driver: n.Driver, Interface: bridge, Up: len(n.endpoints) > 0, Internal: n.Internal, IPv6: n.EnableIPv6,
		Predefined: predefined(n.Name),
		IPv4:       n.EnableIPv4, Options: maps.Clone(n.Options),
		Zone: d.Zone, Between: n.between(), Subnets: d.Subnets,
	}
}

func (sb *sandbox) snapshot() SandboxView {
	v := SandboxView{
		ID: sb.id, Name: sb.name, Project: sb.spec.Project, Service: sb.spec.Service, Host: sb.ns == nil, Ready: readiness(sb.readiness.Load()) == isReady,
		Mappings: slices.Clone(sb.mappings), Ports: maps.Clone(sb.ports),
	}
	for i := range v.Mappings {
		v.Mappings[i].Targets = slices.Clone(v.Mappings[i].Targets)
	}
	publishes := sb.publisher()
	for _, e := range sb.endpoints {
		v.Endpoints = append(v.Endpoints, EndpointView{
			ID: e.id, Network: e.net.ID, Interface: e.iface, MAC: e.settings.MacAddress.String(),
			Addresses: prefixes(e.settings), Names: slices.Clone(e.names), Gateway: e.gateway, Publishes: e == publishes,
		})
	}
	return v
}

// NetNS duplicates the descriptor of a container's network namespace, which the
// caller closes; nil for the host's.
func (s *Service) NetNS(containerID string) (*os.File, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sb := s.sandboxes[containerID]
	switch {
	case sb == nil:
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no network of its own", containerID))
	case sb.ns == nil:
		return nil, nil
	}
	return duplicate(sb.ns)
}
