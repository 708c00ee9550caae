package network

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
	"muelle/internal/network/port"
	"muelle/internal/network/resolver"
)

// Release gives back name, addresses and host ports of a container before it
// returns; interfaces and rules go after it. Unknown ids are no error.
func (s *Service) Release(ctx context.Context, containerID string) error {
	s.mu.Lock()
	sb := s.sandboxes[containerID]
	if sb == nil {
		s.mu.Unlock()
		return nil
	}
	s.dropLocked(sb)
	s.noteEnded(sb.reserved)
	s.mu.Unlock()
	s.resolver.Remove(sb.id)
	s.unlead(context.WithoutCancel(ctx), sb, sb.mappings, false)
	s.ports.Release(sb.reserved, sb.owner())
	s.sharing.leave(sb)
	for _, e := range sb.endpoints {
		s.leave(e)
		s.publish(e.net, events.ActionDisconnect, map[string]string{"container": sb.id})
	}
	sb.close()
	return nil
}

// Adopt takes over a running container after a restart of the daemon. In the
// spec, Endpoints[].Settings are those that Prepare gave (addresses, endpoint id,
// MAC); held are the descriptors of Sandbox.Held by name (runtime.Task.Held),
// netns that of its namespace. Adopt owns the files from then on, also on error.
func (s *Service) Adopt(ctx context.Context, spec SandboxSpec, held map[string]*os.File, netns *os.File) error {
	sb := newSandbox(spec)
	sb.ns = netns
	own, resolving := resolver.SocketsOf(held)
	var bound []port.Binding
	for name, f := range held {
		if b, ok := port.ParseName(name); ok {
			b.File = f
			bound = append(bound, b)
			continue
		}
		f.Close()
	}
	err := errors.Join(s.adoptPorts(sb, bound), s.adoptEndpoints(ctx, sb))
	if way := sb.publisher(); way != nil {
		sb.mappings = mappings(bound, targetsOf(way))
		err = errors.Join(err, s.lead(ctx, sb, sb.mappings))
	}
	if sb.publisher() == nil {
		bound = nil // a zone was changed before the daemon ended
	}
	sb.ports = showPorts(spec, bound)
	s.mu.Lock()
	s.sandboxes[sb.id] = sb
	for _, e := range sb.endpoints {
		e.net.endpoints[e.id] = e
		e.list()
	}
	s.mu.Unlock()
	if resolving {
		s.mu.Lock()
		sb.resolving = true
		s.mu.Unlock()
		return errors.Join(err, s.resolver.Add(sb.id, own))
	}
	return err
}

// adoptPorts closes our duplicates of the sockets, which the shim holds; those that
// further replicas may share are kept.
func (s *Service) adoptPorts(sb *sandbox, bound []port.Binding) (err error) {
	s.sharing.join(sb)
	sb.reserved = bound
	for _, b := range bound {
		if sb.owner() != "" {
			err = errors.Join(err, s.ports.Adopt(b, sb.owner()))
		}
		b.File.Close()
	}
	return err
}

func (s *Service) adoptEndpoints(ctx context.Context, sb *sandbox) error {
	s.mu.RLock()
	specs, err := s.ordered(sb.spec)
	s.mu.RUnlock()
	if err != nil {
		return fmt.Errorf("adopt networks of container %s: %w", sb.name, err)
	}
	var errs []error
	for _, es := range specs {
		n, err := s.find(es.Network)
		settings := es.Settings.Copy()
		if settings == nil {
			settings = &network.EndpointSettings{}
		}
		if err == nil && n.attaches() && (!id.Valid(settings.EndpointID) || !settings.IPAddress.IsValid() && !settings.GlobalIPv6Address.IsValid()) {
			err = errdefs.ErrInvalidArgument.WithMessage("its addresses are not recorded")
		}
		if err == nil {
			err = s.bringUp(ctx, n)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("adopt network %s of container %s: %w", es.Network, sb.name, err))
			continue
		}
		sb.endpoints = append(sb.endpoints, s.adoptEndpoint(sb, n, settings))
	}
	return errors.Join(append(errs, sb.arrange())...)
}

func (s *Service) adoptEndpoint(sb *sandbox, n *net, settings *network.EndpointSettings) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &endpoint{id: settings.EndpointID, net: n, sandbox: sb, settings: settings}
	for _, p := range prefixes(settings) {
		if sub := n.subnetOf(p.Addr()); sub != nil {
			if err := sub.Take(p.Addr()); err != nil {
				s.log.Error("address of a running container is in use twice", "container", sb.name, "network", n.Name, "address", p.Addr(), "err", err)
			}
		}
	}
	e.setNames()
	if n.Driver == predefinedBridge {
		s.bridge.Adopt(n.driverView(), e.driverView())
	}
	return e
}
