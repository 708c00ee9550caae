package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network/port"
	"muelle/internal/network/resolver"
	"muelle/internal/runtime"
	"muelle/internal/step"
)

// preparation is one Prepare under way.
type preparation struct {
	s      *Service
	sb     *sandbox
	out    *Sandbox
	names  resolver.Sockets // none: names are not resolved
	bound  []port.Binding
	held   []runtime.Held // of bound, unless they go with the rest
	joined int            // endpoints that the drivers know
}

// Prepare makes the network side of a container: namespace, endpoints, names,
// ports. On error nothing is left.
func (s *Service) Prepare(ctx context.Context, spec SandboxSpec) (*Sandbox, error) {
	if err := s.Adopted(ctx); err != nil {
		return nil, err
	}
	p := &preparation{s: s, sb: newSandbox(spec)}
	err := step.Run(ctx,
		step.Step{Name: "find networks", Do: p.findNetworks, Undo: p.forgetNetworks},
		step.Together("host and namespace",
			step.Step{Name: "bring up networks", Do: p.bringUp},
			step.Step{Name: "make namespace", Do: p.makeNamespace, Undo: p.closeNamespace}),
		step.Step{Name: "assign addresses", Do: p.assignAddresses, Undo: p.freeAddresses},
		step.Step{Name: "reserve ports", Do: p.reservePorts, Undo: p.closePorts},
		step.Together("interfaces and rules",
			step.Step{Name: "join networks", Do: p.join, Undo: p.leave},
			step.Step{Name: "publish ports", Do: p.publish, Undo: p.unpublish},
			step.Step{Name: "hand over ports", Do: p.handOver}),
		step.Step{Name: "set sysctls", Do: p.setSysctls},
		step.Step{Name: "write files", Do: p.writeFiles},
		step.Step{Name: "register", Do: p.register},
	)
	if err != nil {
		return nil, err
	}
	for _, e := range p.sb.endpoints {
		s.publish(e.net, events.ActionConnect, map[string]string{"container": spec.ID})
	}
	return p.out, nil
}

func (p *preparation) bringUp(ctx context.Context) error {
	for _, e := range p.sb.endpoints {
		if err := p.s.bringUp(ctx, e.net); err != nil {
			return err
		}
	}
	return nil
}

// makeNamespace makes the namespace with its loopback and, where names are
// resolved, the resolver's sockets. Interfaces without an address of IPv6 shall not
// give themselves one.
func (p *preparation) makeNamespace(context.Context) error {
	if len(p.sb.endpoints) > 0 && p.sb.endpoints[0].net.Driver == predefinedHost {
		return nil
	}
	ns, err := netns.NewIn(p.sb.spec.UserNS, func() (err error) {
		if err := rtnl.LoopbackUp(); err != nil {
			return err
		}
		if !p.sb.hasIPv6() && rtnl.HasIPv6() {
			if err := rtnl.Sysctl("ipv6/conf/default/disable_ipv6", "1"); err != nil {
				return err
			}
		}
		if p.sb.resolves() {
			p.names, err = resolver.Listen()
		}
		return err
	})
	p.sb.ns = ns
	return err
}

func (p *preparation) closeNamespace(context.Context) error {
	p.names.Close()
	if p.sb.ns != nil {
		p.sb.ns.Close()
	}
	return nil
}

func (p *preparation) join(ctx context.Context) error {
	for _, e := range p.sb.endpoints {
		if err := p.s.drivers[e.net.Driver].Join(ctx, p.s.driverView(e.net), e.driverView()); err != nil {
			return errors.Join(err, p.leave(ctx))
		}
		p.joined++
		if err := e.setSysctls(); err != nil {
			return errors.Join(err, p.leave(ctx))
		}
	}
	if err := p.s.answerBy(p.sb, p.sb.publisher(), p.sb.way()); err != nil {
		return errors.Join(err, p.leave(ctx))
	}
	return nil
}

// leave hands the addresses to the drivers, which give them back when the
// interfaces are gone.
func (p *preparation) leave(context.Context) error {
	for _, e := range p.sb.endpoints[:p.joined] {
		p.s.leave(e)
	}
	return nil
}

func (p *preparation) setSysctls(context.Context) error {
	for name, value := range p.sb.spec.Sysctls {
		path, ok := strings.CutPrefix(strings.ReplaceAll(name, ".", "/"), "net/")
		if !ok || p.sb.ns == nil {
			continue // the runtime's
		}
		if strings.Contains(path, "..") || strings.Contains(name, "/") {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid sysctl %q", name))
		}
		if err := netns.Do(p.sb.ns, func() error { return rtnl.Sysctl(path, value) }); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
	}
	return nil
}

func (p *preparation) publish(ctx context.Context) error {
	return p.s.lead(ctx, p.sb, p.sb.mappings)
}

func (p *preparation) unpublish(ctx context.Context) error {
	p.s.unlead(context.WithoutCancel(ctx), p.sb, p.sb.mappings, false)
	return nil
}

// handOver has many sockets held ahead of the rest: that takes about as long as to
// publish them. Whoever has them is gone after a start that fails.
func (p *preparation) handOver(ctx context.Context) (err error) {
	way := p.sb.publisher()
	if way == nil || p.sb.spec.Hold == nil || len(p.bound) < together {
		return nil
	}
	if p.held, err = p.s.heldPorts(p.sb, p.bound, targetsOf(way)); err != nil {
		return err
	}
	if err := p.sb.spec.Hold(ctx, p.held); err != nil {
		return fmt.Errorf("hold published ports: %w", err)
	}
	for i := range p.held {
		p.held[i].There = true
	}
	return nil
}

// register makes the sandbox known and hands out its descriptors. Nothing after it
// may fail.
func (p *preparation) register(context.Context) error {
	sb, s := p.sb, p.s
	out := &Sandbox{}
	if sb.ns != nil {
		var err error
		if out.NetNS, err = duplicate(sb.ns); err != nil {
			return err
		}
	}
	for _, h := range heldNames(p.names) {
		var err error
		if h.File, err = duplicate(h.File); err != nil {
			return errors.Join(err, out.Close())
		}
		out.Held = append(out.Held, h)
	}
	if way := sb.publisher(); way != nil && p.held == nil {
		var err error
		if p.held, err = s.heldPorts(sb, p.bound, targetsOf(way)); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	out.Held = append(out.Held, p.held...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandboxes[sb.id] = sb
	for _, e := range sb.endpoints {
		e.net.pending--
		e.net.endpoints[e.id] = e
		e.list()
	}
	if p.names[0] != nil {
		if err := s.resolver.Add(sb.id, p.names); err != nil {
			s.dropLocked(sb)
			for _, e := range sb.endpoints {
				e.net.pending++
			}
			return errors.Join(err, out.Close())
		}
		sb.resolving = true
	}
	view := sb.view()
	view.NetNS, view.Held, view.Hosts, view.ResolvConf = out.NetNS, out.Held, p.out.Hosts, p.out.ResolvConf
	p.out = view
	return nil
}

// heldNames are the resolver's sockets for Sandbox.Held; those of ports are port.Binding's.
func heldNames(own resolver.Sockets) (list []runtime.Held) {
	for i, f := range own {
		if f != nil {
			list = append(list, runtime.Held{Name: resolver.Names[i], File: f})
		}
	}
	return list
}

// dropLocked takes a sandbox out of all indexes.
func (s *Service) dropLocked(sb *sandbox) {
	delete(s.sandboxes, sb.id)
	for _, e := range sb.endpoints {
		delete(e.net.endpoints, e.id)
		e.unlist()
	}
}

func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate %s: %w", f.Name(), err)
	}
	// A file that Go's poller does not know, whatever its flags.
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil && flags&unix.O_NONBLOCK != 0 {
		_ = unix.SetNonblock(fd, false)
		defer func() { _ = unix.SetNonblock(fd, true) }()
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
