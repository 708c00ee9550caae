package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/network"

	"muelle/internal/netdriver"
	"muelle/internal/netdriver/bridge"
	"muelle/internal/network/port"
)

// move leads the published ports of a running container to another address of it.
type move struct {
	// of the container before and after
	before, mappings []netdriver.Mapping
	bound            []port.Binding
	fresh            bool // bound was reserved now: nothing was published before
	from, to         targets
	shown, ports     network.PortMap
}

// movePorts follows the default route: ports are published through the network that
// leads to the world.
func (c *connection) movePorts(ctx context.Context) (err error) {
	if c.published == c.publishes {
		return nil
	}
	m := &move{before: c.sb.mappings, shown: c.sb.ports}
	m.from, m.to = targetsOf(c.published), targetsOf(c.publishes)
	switch {
	case m.to.valid() && m.from.valid():
		m.bound, err = c.heldBindings(ctx)
	case m.to.valid():
		m.fresh = true
		m.bound, err = c.reserveAgain(ctx)
	default:
		m.bound, err = c.heldBindings(ctx)
	}
	if err != nil {
		return err
	}
	c.moved = m
	m.ports = showPorts(c.sb.spec, nil)
	if m.to.valid() {
		m.mappings, m.ports = mappings(m.bound, m.to), showPorts(c.sb.spec, m.bound)
	}
	if err := c.lead(ctx, m.before, m.mappings, m.to, m.fresh); err != nil {
		return errors.Join(err, c.portsBack(ctx))
	}
	return nil
}

// lead makes the shim and the rules follow: what was withdrawn, what is published.
func (c *connection) lead(ctx context.Context, old, published []netdriver.Mapping, to targets, fresh bool) error {
	if len(c.moved.bound) == 0 {
		return nil
	}
	c.s.unlead(ctx, c.sb, old, true)
	if !fresh {
		if err := c.keeper.LetGo(ctx, names(c.moved.bound)); err != nil {
			return err
		}
	}
	if !to.valid() {
		return nil
	}
	if err := c.hear(to); err != nil {
		return err
	}
	if err := c.s.hold(ctx, c.keeper, c.sb, c.moved.bound, to); err != nil {
		return err
	}
	way := c.publishes
	if to == c.moved.from {
		way = c.published
	}
	if err := c.s.bridge.Hairpin(way.driverView()); err != nil {
		return err
	}
	return c.s.lead(ctx, c.sb, published)
}

// hear opens the relays that were closed on a network without translation.
func (c *connection) hear(to targets) error {
	for _, b := range c.moved.bound {
		if b.Relays() && !to.silent() && (targetsOf(c.published).silent() || targetsOf(c.publishes).silent()) {
			if err := c.s.ports.Hear(b); err != nil {
				return fmt.Errorf("open port %s: %w", b.Host, err)
			}
		}
	}
	return nil
}

// portsBack publishes as before.
func (c *connection) portsBack(ctx context.Context) error {
	if c.moved == nil {
		return nil
	}
	defer c.finishPorts()
	err := c.lead(ctx, c.moved.mappings, c.moved.before, c.moved.from, false)
	c.moved = nil
	return err
}

// finishPorts closes our copies of the sockets: the shim has its own.
func (c *connection) finishPorts() {
	if c.moved != nil {
		port.Close(c.moved.bound)
		c.sb.reserved = c.moved.bound
		c.moved.bound = nil
	}
}

// heldBindings asks the shim for the sockets that it holds for published ports.
func (c *connection) heldBindings(ctx context.Context) (list []port.Binding, err error) {
	if len(c.sb.reserved) == 0 {
		return nil, nil
	}
	held, err := c.keeper.Held(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the held ports: %w", err)
	}
	for name, f := range held {
		if b, ok := port.ParseName(name); ok {
			b.File = f
			list = append(list, b)
			continue
		}
		f.Close()
	}
	return list, nil
}

// reserveAgain reserves what the container asked for when it had no way to the world.
func (c *connection) reserveAgain(ctx context.Context) ([]port.Binding, error) {
	requests, err := requests(c.sb.spec)
	if err != nil {
		return nil, err
	}
	bound, failed, err := c.s.reserveAll(ctx, requests, bridge.HostBinding(c.publishes.net.Options))
	if err != nil {
		return nil, c.s.explainTaken(c.sb, c.publishes, requests[failed], err)
	}
	return bound, nil
}
