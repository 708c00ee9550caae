package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
	"muelle/internal/netdriver"
	"muelle/internal/network/hostfile"
	"muelle/internal/network/port"
)

// Spare keeps the interfaces of endpoints that a running container is recorded to have
// although it could not be adopted. To be called before Adopted.
func (s *Service) Spare(endpoints map[string]*network.EndpointSettings) {
	for _, e := range endpoints {
		if e != nil && id.Valid(e.EndpointID) {
			s.bridge.Spare(netdriver.Endpoint{ID: e.EndpointID})
		}
	}
}

// Mend makes an adopted container's network side what its record says, after a daemon
// was killed while it changed that: interfaces, default route, published ports, and
// what the shim holds of them. gone are the endpoints that came or went and are not
// the container's. What cannot be had, such as a port that another has taken since, is
// told in the error; the rest is done all the same. To be called after Adopted.
func (s *Service) Mend(ctx context.Context, containerID string, gone map[string]*network.EndpointSettings, keeper Keeper) (*Change, error) {
	s.mu.RLock()
	sb := s.sandboxes[containerID]
	s.mu.RUnlock()
	if sb == nil || sb.ns == nil {
		return nil, nil
	}
	c := &connection{s: s, sb: sb, keeper: keeper, out: &Change{}, after: sb.way()}
	var errs []error
	for _, e := range sb.endpoints {
		if e.net.Driver != predefinedBridge || s.bridge.Plugged(e.driverView()) {
			continue
		}
		again := &connection{s: s, sb: sb, e: e, keeper: keeper, out: c.out}
		s.mu.Lock()
		e.gateway = false // the default route is set below
		s.mu.Unlock()
		errs = append(errs, again.join(ctx))
	}
	errs = append(errs, s.setDefaultRoute(sb, c.after), s.answerBy(sb, sb.publisher(), c.after), s.mendPorts(ctx, sb, keeper))
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, settings := range gone {
		n, err := s.findLocked(name)
		if err != nil || settings == nil {
			continue // no line of /etc/hosts was written without a network
		}
		e := &endpoint{id: settings.EndpointID, net: n, sandbox: sb, settings: settings}
		c.out.DropHosts = hostfile.Append(c.out.DropHosts, s.hostLines(sb, e))
	}
	c.settle()
	return c.out, errors.Join(errs...)
}

// mendPorts compares what the shim holds with what the container asks for.
func (s *Service) mendPorts(ctx context.Context, sb *sandbox, keeper Keeper) error {
	c := &portChange{s: s, sb: sb, way: sb.publisher(), keeper: keeper}
	var asked []port.Request
	if targetsOf(c.way).valid() {
		var err error
		if asked, err = requests(sb.spec); err != nil {
			return err
		}
	}
	var kept []port.Binding
	for _, b := range sb.reserved {
		if i := slices.IndexFunc(asked, func(r port.Request) bool { return r.Satisfied(b) }); i >= 0 {
			asked = slices.Delete(asked, i, i+1)
			kept = append(kept, b)
		} else {
			c.dropped = append(c.dropped, b)
		}
	}
	err := c.takeBack(ctx)
	if len(kept) > 0 {
		err = errors.Join(err, c.holdAgain(ctx, kept))
	}
	// One by one: that one port cannot be had does not keep the others closed.
	for _, r := range asked {
		one := &portChange{s: s, sb: sb, way: c.way, keeper: keeper, requests: []port.Request{r}}
		err = errors.Join(err, one.run(ctx))
		port.Close(one.bound)
		c.bound = append(c.bound, one.bound...)
	}
	c.register()
	return err
}

// holdAgain gives the shim again what it holds: its relays may lead elsewhere.
func (c *portChange) holdAgain(ctx context.Context, kept []port.Binding) error {
	all, err := (&connection{sb: c.sb, keeper: c.keeper}).heldBindings(ctx)
	if err != nil {
		return err
	}
	defer func() { port.Close(all) }()
	list := slices.DeleteFunc(slices.Clone(all), func(b port.Binding) bool {
		return !slices.ContainsFunc(kept, func(k port.Binding) bool { return k.Name() == b.Name() })
	})
	if err := c.keeper.LetGo(ctx, names(list)); err != nil {
		return err
	}
	to := targetsOf(c.way)
	for _, b := range list {
		if b.Relays() && !to.silent() {
			if err := c.s.ports.Hear(b); err != nil {
				return fmt.Errorf("open port %s: %w", b.Host, err)
			}
		}
	}
	if err := c.s.hold(ctx, c.keeper, c.sb, list, to); err != nil {
		return err
	}
	return c.s.bridge.Hairpin(c.way.driverView())
}
