package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/netdriver"
	"muelle/internal/netdriver/bridge"
	"muelle/internal/network/port"
	"muelle/internal/runtime"
	"muelle/internal/step"
)

// Keeper keeps the sockets of published ports beyond the daemon's life: the
// container's runtime.Task.
type Keeper interface {
	Hold(ctx context.Context, more []runtime.Held) error
	LetGo(ctx context.Context, names []string) error
	// Held gives duplicates, which the caller closes.
	Held(ctx context.Context) (map[string]*os.File, error)
}

// portChange is one ChangePorts under way.
type portChange struct {
	s        *Service
	sb       *sandbox
	way      *endpoint
	keeper   Keeper
	requests []port.Request
	// taken back, and new
	dropped, bound []port.Binding
}

// ChangePorts publishes and takes back ports of a running container, all or
// nothing, and gives what Sandbox.Ports shows from then on. In drop stand bindings
// as Sandbox.Ports shows them; what is dropped is free before add is reserved.
// Connections through a dropped port end. errdefs.ErrFailedPrecondition: the
// container has no network whose ports could be published. errdefs.ErrConflict: a
// port is taken.
func (s *Service) ChangePorts(ctx context.Context, containerID string, add, drop network.PortMap, keeper Keeper) (network.PortMap, error) {
	s.mu.RLock()
	sb := s.sandboxes[containerID]
	s.mu.RUnlock()
	if sb == nil {
		return nil, errdefs.ErrFailedPrecondition.WithMessage("container " + containerID + " has no network of its own")
	}
	c := &portChange{s: s, sb: sb, way: sb.publisher(), keeper: keeper}
	if !targetsOf(c.way).valid() {
		return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
			"container %s is on no network through which ports can be published (it is on %v): connect it to a bridge network that is not internal", sb.name, sb.networkNames()))
	}
	var err error
	if c.requests, err = requests(SandboxSpec{Ports: add, Project: sb.spec.Project, Service: sb.spec.Service}); err != nil {
		return nil, err
	}
	if c.dropped, err = c.find(drop); err != nil {
		return nil, err
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	port.Close(c.bound) // the shim has its own
	return c.register(), nil
}

func (c *portChange) run(ctx context.Context) error {
	return step.Run(ctx,
		step.Step{Name: "take back", Do: c.takeBack, Undo: c.restore},
		step.Step{Name: "reserve", Do: c.reserve, Undo: c.closeNew},
		step.Step{Name: "hand over", Do: c.handOver, Undo: c.letGo},
		step.Step{Name: "publish", Do: c.publish},
	)
}

// Asked takes note of what a container asks to publish from now on, for the time when
// it gets a way to the world, or another one.
func (s *Service) Asked(containerID string, ports network.PortMap, exposed network.PortSet, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sb := s.sandboxes[containerID]; sb != nil {
		sb.spec.Ports, sb.spec.Exposed, sb.spec.PublishAll = ports, exposed, all
	}
}

// find gives the bindings that are to go. One that stands for both families goes
// whole.
func (c *portChange) find(drop network.PortMap) (list []port.Binding, err error) {
	c.s.mu.RLock()
	defer c.s.mu.RUnlock()
	going := func(p network.Port, b network.PortBinding) bool { return slices.Contains(drop[p], b) }
	for p, bindings := range drop {
		for _, b := range bindings {
			if !slices.Contains(c.sb.ports[p], b) {
				return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("container %s does not publish %s:%s:%s", c.sb.name, b.HostIP, b.HostPort, p))
			}
		}
	}
	for _, r := range c.sb.reserved {
		all := shown(r)
		i := slices.IndexFunc(all, func(b network.PortBinding) bool { return going(r.Container, b) })
		if i < 0 {
			continue
		}
		if stays := slices.IndexFunc(all, func(b network.PortBinding) bool { return !going(r.Container, b) }); stays >= 0 {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("container %s publishes %s:%s and %s:%s as one: take back both",
				c.sb.name, all[i].HostIP, all[i].HostPort, all[stays].HostIP, all[stays].HostPort))
		}
		list = append(list, r)
	}
	return list, nil
}

func (c *portChange) mappings(list []port.Binding) []netdriver.Mapping {
	return mappings(list, targetsOf(c.way))
}

func (c *portChange) takeBack(ctx context.Context) error {
	if len(c.dropped) == 0 {
		return nil
	}
	c.s.unlead(ctx, c.sb, c.mappings(c.dropped), true)
	if err := c.keeper.LetGo(ctx, names(c.dropped)); err != nil {
		return errors.Join(fmt.Errorf("take back published ports: %w", err), c.s.lead(ctx, c.sb, c.mappings(c.dropped)))
	}
	c.s.ports.Release(c.dropped, c.sb.owner())
	return nil
}

// restore publishes again what was taken back.
func (c *portChange) restore(ctx context.Context) error {
	var again []port.Binding
	defer func() { port.Close(again) }()
	for _, b := range c.dropped {
		r := port.Request{Container: b.Container, Host: b.Host.Addr(), Start: b.Host.Port(), End: b.Host.Port(), Owner: c.sb.owner()}
		if b.Both {
			r.Host = netip.Addr{}
		}
		bound, err := c.s.ports.Reserve(r, netip.IPv4Unspecified())
		if err != nil {
			return fmt.Errorf("publish %s again: %w", b.Name(), err)
		}
		again = append(again, bound)
	}
	if err := c.s.hold(ctx, c.keeper, c.sb, again, targetsOf(c.way)); err != nil {
		return err
	}
	return c.s.lead(ctx, c.sb, c.mappings(again))
}

func (c *portChange) reserve(ctx context.Context) error {
	bound, failed, err := c.s.reserveAll(ctx, c.requests, bridge.HostBinding(c.way.net.Options))
	if err != nil {
		return c.s.explainTaken(c.sb, c.way, c.requests[failed], err)
	}
	c.bound = bound
	return nil
}

func (c *portChange) closeNew(context.Context) error {
	port.Close(c.bound)
	c.s.ports.Release(c.bound, c.sb.owner())
	return nil
}

func (c *portChange) handOver(ctx context.Context) error {
	if len(c.bound) == 0 {
		return nil
	}
	return c.s.hold(ctx, c.keeper, c.sb, c.bound, targetsOf(c.way))
}

func (c *portChange) letGo(ctx context.Context) error { return c.keeper.LetGo(ctx, names(c.bound)) }

func (c *portChange) publish(ctx context.Context) error {
	if len(c.bound) == 0 {
		return nil
	}
	if err := c.s.bridge.Hairpin(c.way.driverView()); err != nil {
		return err
	}
	return c.s.lead(ctx, c.sb, c.mappings(c.bound))
}

// register makes the change what inspect, the resolver of conflicts and Release see.
func (c *portChange) register() network.PortMap {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	sb := c.sb
	gone := c.mappings(c.dropped)
	sb.mappings = slices.DeleteFunc(slices.Clone(sb.mappings), func(m netdriver.Mapping) bool { return slices.ContainsFunc(gone, m.Equal) })
	sb.mappings = append(sb.mappings, c.mappings(c.bound)...)
	sb.reserved = slices.DeleteFunc(slices.Clone(sb.reserved), func(b port.Binding) bool {
		return slices.ContainsFunc(c.dropped, func(d port.Binding) bool { return d.Name() == b.Name() })
	})
	sb.reserved = append(sb.reserved, c.bound...)
	ports := network.PortMap{}
	for p, bindings := range sb.ports {
		ports[p] = slices.DeleteFunc(slices.Clone(bindings), func(b network.PortBinding) bool {
			return slices.ContainsFunc(c.dropped, func(d port.Binding) bool { return d.Container == p && slices.Contains(shown(d), b) })
		})
	}
	for _, b := range c.bound {
		ports[b.Container] = append(ports[b.Container], shown(b)...)
	}
	sb.ports = ports
	return sb.view().Ports
}

// shown is a binding as inspect shows it.
func shown(b port.Binding) []network.PortBinding { return appendShown(nil, b) }

func appendShown(list []network.PortBinding, b port.Binding) []network.PortBinding {
	number := strconv.Itoa(int(b.Host.Port()))
	if b.Both {
		list = append(list, network.PortBinding{HostIP: netip.IPv4Unspecified(), HostPort: number})
	}
	return append(list, network.PortBinding{HostIP: b.Host.Addr(), HostPort: number})
}

func names(list []port.Binding) []string {
	out := make([]string, 0, len(list))
	for _, b := range list {
		out = append(out, b.Name())
	}
	return out
}
