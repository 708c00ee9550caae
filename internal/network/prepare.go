package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"muelle/internal/id"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network/port"
	"muelle/internal/network/resolver"
	"muelle/internal/runtime"
	"muelle/internal/step"
)

// Names of the resolver's sockets in Sandbox.Held; those of ports are port.Binding's.
const (
	heldUDP = "dns-udp"
	heldTCP = "dns-tcp"
)

// preparation is one Prepare under way.
type preparation struct {
	s        *Service
	sb       *sandbox
	out      *Sandbox
	udp, tcp *os.File
	bound    []port.Binding
	joined   int // endpoints that the drivers know
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
		step.Step{Name: "join networks", Do: p.join, Undo: p.leave},
		step.Step{Name: "set sysctls", Do: p.setSysctls},
		step.Step{Name: "write files", Do: p.writeFiles},
		step.Step{Name: "publish ports", Do: p.publish, Undo: p.unpublish},
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
	return nil
}

// ordered gives the attachments, the network mode's first, the rest by name.
func (s *Service) ordered(spec SandboxSpec) ([]EndpointSpec, error) {
	mode := spec.Mode
	if mode == "" {
		mode = predefinedBridge
	}
	first, err := s.findLocked(mode)
	if err != nil {
		return nil, err
	}
	list := []EndpointSpec{{Network: first.ID}}
	seen := map[string]bool{first.ID: true}
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
	if a := e.settings.IPAddress; a.Is4() && e.settings.MacAddress.String() == rtnl.MAC(a).String() {
		e.settings.MacAddress = nil
	}
	return nil
}

// arrange names the interfaces and chooses the endpoint with the default route:
// of the highest priority, then the first by name, among those with a way out.
func (sb *sandbox) arrange() error {
	var way *endpoint
	for i, e := range sb.endpoints {
		if e.net.Driver != "bridge" {
			if len(sb.endpoints) > 1 {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("conflicting options: cannot attach both user-defined and non-user-defined network-modes: %s", e.net.Name))
			}
			continue
		}
		e.iface = fmt.Sprintf("eth%d", i)
		if e.net.Internal || len(e.net.IPAM.Config) == 0 {
			continue
		}
		if way == nil || e.settings.GwPriority > way.settings.GwPriority ||
			e.settings.GwPriority == way.settings.GwPriority && e.net.Name < way.net.Name {
			way = e
		}
	}
	if way != nil {
		way.gateway = true
	}
	return nil
}

func (p *preparation) forgetNetworks(context.Context) error {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	for _, e := range p.sb.endpoints {
		e.net.pending--
	}
	return nil
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
	if p.sb.endpoints[0].net.Driver == "host" {
		return nil
	}
	ns, err := netns.New(func() (err error) {
		if err := rtnl.LoopbackUp(); err != nil {
			return err
		}
		if !p.sb.hasIPv6() && rtnl.HasIPv6() {
			if err := rtnl.Sysctl("ipv6/conf/default/disable_ipv6", "1"); err != nil {
				return err
			}
		}
		if p.sb.resolves() {
			p.udp, p.tcp, err = resolver.Listen()
		}
		return err
	})
	p.sb.ns = ns
	return err
}

func (p *preparation) closeNamespace(context.Context) error {
	for _, f := range []*os.File{p.udp, p.tcp, p.sb.ns} {
		if f != nil {
			f.Close()
		}
	}
	return nil
}

func (p *preparation) join(ctx context.Context) error {
	for _, e := range p.sb.endpoints {
		if err := p.s.drivers[e.net.Driver].Join(ctx, p.s.driverView(e.net), e.driverView()); err != nil {
			return errors.Join(err, p.leave(ctx))
		}
		p.joined++
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
	return p.s.bridge.Publish(ctx, p.sb.mappings)
}

func (p *preparation) unpublish(context.Context) error {
	p.s.bridge.Unpublish(p.sb.mappings)
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
	if p.udp != nil {
		udp, err := duplicate(p.udp)
		if err != nil {
			return errors.Join(err, out.NetNS.Close())
		}
		tcp, err := duplicate(p.tcp)
		if err != nil {
			return errors.Join(err, udp.Close(), out.NetNS.Close())
		}
		out.Held = []runtime.Held{{Name: heldUDP, File: udp}, {Name: heldTCP, File: tcp}}
	}
	out.Held = append(out.Held, p.heldPorts()...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sandboxes[sb.id] = sb
	for _, e := range sb.endpoints {
		e.net.pending--
		e.net.endpoints[e.id] = e
		e.list()
	}
	if p.udp != nil {
		if err := s.resolver.Add(sb.id, p.udp, p.tcp); err != nil {
			s.dropLocked(sb)
			for _, e := range sb.endpoints {
				e.net.pending++
			}
			return errors.Join(err, out.Close())
		}
	}
	view := sb.view()
	view.NetNS, view.Held, view.Hosts, view.ResolvConf = out.NetNS, out.Held, p.out.Hosts, p.out.ResolvConf
	p.out = view
	return nil
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
