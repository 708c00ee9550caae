package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network/hostfile"
	"muelle/internal/network/resolver"
	"muelle/internal/step"
)

// Change is what became of a running container's network side.
type Change struct {
	// Endpoints and Ports as in Sandbox.
	Endpoints map[string]*network.EndpointSettings
	Ports     network.PortMap
	// AddHosts and DropHosts are whole lines of the container's /etc/hosts that came
	// and went.
	AddHosts, DropHosts []byte
	// ResolvConf is the new content of its /etc/resolv.conf, OldResolvConf what it was
	// given before; both nil where nothing changed.
	ResolvConf, OldResolvConf []byte
}

// connection is one Connect or Disconnect under way.
type connection struct {
	s      *Service
	sb     *sandbox
	e      *endpoint
	keeper Keeper
	// before and after are the endpoints with the default route, or nil.
	before, after *endpoint
	// published and publishes are those that published ports lead to, or nil.
	published, publishes *endpoint
	joined               bool
	names                resolver.Sockets
	moved                *move
	out                  *Change
}

// Connect attaches a running container to a further network: interface, address,
// names, and, where the network is to be the way to the world from now on, default
// route and published ports. On error nothing has changed.
func (s *Service) Connect(ctx context.Context, ref, containerID string, settings *network.EndpointSettings, keeper Keeper) (*Change, error) {
	c := &connection{s: s, keeper: keeper, out: &Change{}}
	if err := c.find(ref, containerID, settings); err != nil {
		return nil, err
	}
	err := step.Run(ctx,
		step.Step{Name: "bring up network", Do: func(ctx context.Context) error { return s.bringUp(ctx, c.e.net) }},
		step.Step{Name: "assign address", Do: func(ctx context.Context) error { return s.assign(ctx, c.e) }, Undo: c.freeAddress},
		step.Step{Name: "resolver", Do: c.listen, Undo: c.deafen},
		step.Step{Name: "join", Do: c.join, Undo: c.part},
		step.Step{Name: "default route", Do: c.route, Undo: c.routeBack},
		step.Step{Name: "answers", Do: func(context.Context) error { return s.answerBy(c.sb, c.publishes, c.after) }},
		step.Step{Name: "ports", Do: c.movePorts, Undo: c.portsBack},
		step.Step{Name: "register", Do: c.register},
	)
	s.mu.Lock()
	c.e.net.pending--
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.finishPorts()
	s.publish(c.e.net, events.ActionConnect, map[string]string{"container": containerID})
	return c.out, nil
}

// find makes the endpoint and keeps its network from being removed.
func (c *connection) find(ref, containerID string, settings *network.EndpointSettings) error {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.findLocked(ref)
	if err != nil {
		return err
	}
	sb := s.sandboxes[containerID]
	if sb == nil {
		return errdefs.ErrFailedPrecondition.WithMessage("container " + containerID + " has no network of its own")
	}
	if sb.ns == nil || !n.attaches() {
		return errdefs.ErrInvalidArgument.WithMessage("cannot attach both user-defined and non-user-defined network-modes")
	}
	if slices.ContainsFunc(sb.endpoints, func(e *endpoint) bool { return e.net == n }) {
		return errdefs.ErrPermissionDenied.WithMessage("endpoint with name " + sb.name + " already exists in network " + n.Name)
	}
	if settings = settings.Copy(); settings == nil {
		settings = &network.EndpointSettings{}
	}
	c.sb, c.e = sb, &endpoint{id: id.New(), net: n, sandbox: sb, settings: settings}
	if err := c.e.check(); err != nil {
		return err
	}
	c.before = sb.way()
	all := append(slices.Clone(sb.endpoints), c.e)
	c.after = wayOf(all)
	c.published, c.publishes = sb.leading(), publisherOf(all, c.after)
	n.pending++
	return nil
}

func (c *connection) freeAddress(context.Context) error {
	if !c.joined { // else it is free when the interface is gone
		c.s.freeAddresses(c.e)
	}
	return nil
}

// listen makes the resolver's sockets for a container that had none: it was on
// networks only where nobody is found by name.
func (c *connection) listen(ctx context.Context) error {
	if !c.e.net.resolves() || c.sb.resolving {
		return nil
	}
	before := c.s.resolvConf(c.sb)
	err := netns.Do(c.sb.ns, func() (err error) { c.names, err = resolver.Listen(); return err })
	if err != nil {
		return err
	}
	if err := c.keeper.Hold(ctx, heldNames(c.names)); err != nil {
		c.names.Close()
		return err
	}
	c.out.OldResolvConf = before
	c.out.ResolvConf = c.s.resolvConf(&sandbox{spec: c.sb.spec, ns: c.sb.ns, endpoints: []*endpoint{c.e}})
	return nil
}

func (c *connection) deafen(ctx context.Context) error {
	if c.names[0] == nil {
		return nil
	}
	c.names.Close()
	return c.keeper.LetGo(ctx, resolver.Names[:])
}

// join plugs the container in; the default route is a step of its own.
func (c *connection) join(ctx context.Context) error {
	err := netns.Do(c.sb.ns, func() error {
		present, err := rtnl.Interfaces()
		if err != nil {
			return err
		}
		c.e.iface = c.e.freeName(present)
		if !rtnl.HasIPv6() {
			return nil
		}
		off := "1"
		if c.e.net.EnableIPv6 {
			off = "0"
		}
		return rtnl.Sysctl("ipv6/conf/default/disable_ipv6", off)
	})
	if err != nil {
		return err
	}
	if err := c.s.drivers[c.e.net.Driver].Join(ctx, c.s.driverView(c.e.net), c.e.driverView()); err != nil {
		return err
	}
	c.joined = true
	if err := c.e.setSysctls(); err != nil {
		return errors.Join(err, c.part(ctx))
	}
	return nil
}

// freeName is the name asked for, or the first ethN that there is not.
func (e *endpoint) freeName(present []rtnl.Interface) string {
	prefix, name := e.ifname()
	if name != "" {
		return name
	}
	for i := 0; ; i++ {
		name := fmt.Sprint(prefix, i)
		if !slices.ContainsFunc(present, func(l rtnl.Interface) bool { return l.Name == name }) {
			return name
		}
	}
}

func (c *connection) part(context.Context) error {
	err := c.s.unplug(c.e)
	c.s.leave(c.e)
	return err
}

// route makes after's gateways those of the container.
func (c *connection) route(context.Context) error {
	if c.before == c.after {
		return nil
	}
	return c.s.setDefaultRoute(c.sb, c.after)
}

func (c *connection) routeBack(context.Context) error {
	if c.before == c.after {
		return nil
	}
	return c.s.setDefaultRoute(c.sb, c.before)
}

// setDefaultRoute leaves a container with the default routes through one of its
// endpoints, or with none.
func (s *Service) setDefaultRoute(sb *sandbox, way *endpoint) error {
	var gateways []netip.Addr
	var mac string
	if way != nil {
		mac = way.settings.MacAddress.String()
		for _, c := range way.net.IPAM.Config {
			if gw := wayOut(c); gw.IsValid() {
				gateways = append(gateways, gw)
			}
		}
	}
	return netns.Do(sb.ns, func() error {
		if way == nil || mac != "" {
			return rtnl.SetDefaultRoutes(mac, gateways)
		}
		present, err := rtnl.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range present {
			if slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == way.settings.IPAddress }) {
				mac = i.MAC
			}
		}
		return rtnl.SetDefaultRoutes(mac, gateways)
	})
}

// register makes the endpoint known to everybody.
func (c *connection) register(context.Context) error {
	s, sb := c.s, c.sb
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.names[0] != nil {
		// The resolver owns the files from here on.
		own := c.names
		c.names = resolver.Sockets{}
		if err := s.resolver.Add(sb.id, own); err != nil {
			return errors.Join(err, c.keeper.LetGo(context.Background(), resolver.Names[:]))
		}
		sb.resolving = true
	}
	// What stood for "no network" goes with the first one.
	sb.endpoints = append(slices.DeleteFunc(slices.Clone(sb.endpoints), func(e *endpoint) bool {
		if !e.net.attaches() {
			delete(e.net.endpoints, e.id)
			return true
		}
		return false
	}), c.e)
	c.e.net.endpoints[c.e.id] = c.e
	c.e.list()
	c.settle()
	c.out.AddHosts = hostfile.Append(nil, s.hostLines(sb, c.e))
	return nil
}

// settle takes over the change of way and ports, and what inspect shows. Called with
// the lock held.
func (c *connection) settle() {
	for _, e := range c.sb.endpoints {
		e.gateway = e == c.after
	}
	if c.moved != nil {
		c.sb.mappings, c.sb.ports = c.moved.mappings, c.moved.ports
	}
	view := c.sb.view()
	c.out.Endpoints, c.out.Ports = view.Endpoints, view.Ports
}

// Disconnect detaches a running container from a network. What was published through
// it is published through the next network with a way to the world, or no more.
func (s *Service) Disconnect(ctx context.Context, ref, containerID string, keeper Keeper) (*Change, error) {
	c := &connection{s: s, keeper: keeper, out: &Change{}}
	s.mu.RLock()
	n, err := s.findLocked(ref)
	sb := s.sandboxes[containerID]
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	if sb == nil || sb.ns == nil {
		return nil, errdefs.ErrFailedPrecondition.WithMessage("container " + containerID + " has no network of its own to disconnect it from")
	}
	i := slices.IndexFunc(sb.endpoints, func(e *endpoint) bool { return e.net == n })
	if i < 0 {
		return nil, errdefs.ErrPermissionDenied.WithMessage("container " + containerID + " is not connected to network " + n.Name)
	}
	c.sb, c.e, c.before = sb, sb.endpoints[i], sb.way()
	rest := slices.Delete(slices.Clone(sb.endpoints), i, i+1)
	c.after = wayOf(rest)
	c.published, c.publishes = sb.leading(), publisherOf(rest, c.after)
	err = step.Run(ctx,
		step.Step{Name: "default route", Do: c.route, Undo: c.routeBack},
		step.Step{Name: "answers", Do: func(context.Context) error { return s.answerBy(c.sb, c.publishes, c.after) }},
		step.Step{Name: "ports", Do: c.movePorts, Undo: c.portsBack},
		step.Step{Name: "unplug", Do: func(context.Context) error { return s.unplug(c.e) }},
	)
	if err != nil {
		return nil, err
	}
	c.finishPorts()
	s.mu.Lock()
	sb.endpoints = rest
	delete(n.endpoints, c.e.id)
	c.e.unlist()
	c.settle()
	c.out.DropHosts = hostfile.Append(nil, s.hostLines(sb, c.e))
	s.mu.Unlock()
	s.leave(c.e)
	s.publish(n, events.ActionDisconnect, map[string]string{"container": containerID})
	return c.out, nil
}
