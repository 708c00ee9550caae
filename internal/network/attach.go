package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
	"muelle/internal/linux/rtnl"
)

// findNetworks makes the endpoints, the one of the network mode first, and keeps
// their networks from being removed.
func (p *preparation) findNetworks(context.Context) error {
	s, sb := p.s, p.sb
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sandboxes[sb.id] != nil {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s has a network sandbox already", sb.name))
	}
	specs, err := s.ordered(sb.spec)
	if err != nil {
		return err
	}
	for _, es := range specs {
		n, err := s.findLocked(es.Network)
		if err != nil {
			return err
		}
		settings := es.Settings.Copy()
		if settings == nil {
			settings = &network.EndpointSettings{}
		}
		e := &endpoint{id: id.New(), net: n, sandbox: sb, settings: settings}
		if err := e.check(); err != nil {
			return err
		}
		sb.endpoints = append(sb.endpoints, e)
	}
	if err := sb.arrange(); err != nil {
		return err
	}
	for _, e := range sb.endpoints {
		e.net.pending++
	}
	s.sharing.join(sb)
	return nil
}

// ordered gives the attachments, the network mode's first, the rest by name.
func (s *Service) ordered(spec SandboxSpec) ([]EndpointSpec, error) {
	mode := spec.Mode
	if mode == "" {
		mode = predefinedBridge
	}
	first, err := s.findLocked(mode)
	var list []EndpointSpec
	seen := map[string]bool{}
	if !spec.Detached || slices.ContainsFunc(spec.Endpoints, func(e EndpointSpec) bool { n, _ := s.findLocked(e.Network); return n != nil && n == first }) {
		if err != nil {
			return nil, err
		}
		list = append(list, EndpointSpec{Network: first.ID})
		seen[first.ID] = true
	}
	rest := slices.Clone(spec.Endpoints)
	slices.SortFunc(rest, func(a, b EndpointSpec) int { return strings.Compare(a.Network, b.Network) })
	for _, es := range rest {
		n, err := s.findLocked(es.Network)
		if err != nil {
			return nil, err
		}
		switch {
		case n == first:
			list[0].Settings = es.Settings
		case !seen[n.ID]:
			seen[n.ID] = true
			list = append(list, EndpointSpec{Network: n.ID, Settings: es.Settings})
		}
	}
	return list, nil
}

// check refuses settings that the network cannot fulfil, in Docker's words.
func (e *endpoint) check() error {
	invalid := errdefs.ErrInvalidArgument
	static := e.settings.IPAMConfig != nil && (e.settings.IPAMConfig.IPv4Address.IsValid() || e.settings.IPAMConfig.IPv6Address.IsValid())
	switch {
	case e.net.ConfigOnly:
		return errdefs.ErrPermissionDenied.WithMessage("cannot create endpoint on configuration-only network")
	case static && (predefined(e.net.Name)):
		return invalid.WithMessage("invalid endpoint settings:\nuser specified IP address is supported on user defined networks only")
	case static && e.net.Chosen:
		return invalid.WithMessage("invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with user configured subnets")
	case len(e.settings.Aliases) > 0 && predefined(e.net.Name):
		return invalid.WithMessage("invalid endpoint settings:\nnetwork-scoped aliases are only supported for user-defined networks")
	case len(e.settings.Links) > 0 && !e.net.resolves():
		return errdefs.ErrNotImplemented.WithMessage("links on network " + e.net.Name + " are not supported: use a user-defined network")
	}
	// A generated address of a former run is not what somebody asked for.
	for _, a := range []netip.Addr{e.settings.IPAddress, e.settings.GlobalIPv6Address} {
		if a.IsValid() && e.settings.MacAddress.String() == rtnl.MAC(a).String() {
			e.settings.MacAddress = nil
		}
	}
	return e.checkOptions()
}

// arrange names the interfaces and chooses the endpoint with the default route.
func (sb *sandbox) arrange() error {
	taken := map[string]bool{}
	for i, e := range sb.endpoints {
		if e.net.attaches() {
			prefix, name := e.ifname()
			if name == "" {
				name = fmt.Sprint(prefix, i)
			}
			if taken[name] {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("two interfaces of the container are to be called %q", name))
			}
			e.iface, taken[name] = name, true
		} else if len(sb.endpoints) > 1 {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("conflicting options: cannot attach both user-defined and non-user-defined network-modes: %s", e.net.Name))
		}
	}
	if way := wayOf(sb.endpoints); way != nil {
		way.gateway = true
	}
	return nil
}

// wayOf chooses the endpoint with the default route: of the highest priority, then
// the first by name, among those with a way out; nil where there is none.
func wayOf(endpoints []*endpoint) *endpoint {
	var out []*endpoint
	for _, e := range endpoints {
		if e.net.attaches() && !e.net.Internal && len(e.net.IPAM.Config) > 0 {
			out = append(out, e)
		}
	}
	return first(out)
}

// first is the endpoint of the highest priority, or the first by name among equals.
func first(endpoints []*endpoint) (way *endpoint) {
	for _, e := range endpoints {
		if way == nil || e.settings.GwPriority > way.settings.GwPriority ||
			e.settings.GwPriority == way.settings.GwPriority && e.net.Name < way.net.Name {
			way = e
		}
	}
	return way
}

func (p *preparation) forgetNetworks(context.Context) error {
	p.s.sharing.leave(p.sb)
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for _, e := range p.sb.endpoints {
		e.net.pending--
	}
	return nil
}
