package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/netdriver"
	"muelle/internal/netdriver/bridge"
	"muelle/internal/network/port"
	"muelle/internal/runtime"
)

// lately is how long the shim of an ended container may still hold its ports.
const lately = 3 * time.Second

// way is the endpoint that published ports lead to.
func (sb *sandbox) way() *endpoint {
	for _, e := range sb.endpoints {
		if e.gateway {
			return e
		}
	}
	return nil
}

// reservePorts binds what is to be published. A container without a way to the
// world publishes nothing, as with Docker.
func (p *preparation) reservePorts(ctx context.Context) error {
	requests, err := requests(p.sb.spec)
	if err != nil {
		return err
	}
	way := p.sb.publisher()
	if way == nil && len(requests) > 0 {
		if err := p.sb.silenced(); err != nil {
			return err
		}
	}
	if !targetsOf(way).valid() {
		p.sb.ports = showPorts(p.sb.spec, nil)
		return nil
	}
	bound, failed, err := p.s.reserveAll(ctx, requests, bridge.HostBinding(way.net.Options))
	if err != nil {
		return p.s.explainTaken(p.sb, way, requests[failed], err)
	}
	p.bound, p.sb.reserved = bound, bound
	p.sb.ports = showPorts(p.sb.spec, p.bound)
	p.sb.mappings = mappings(p.bound, targetsOf(way))
	return nil
}

// requests lists what is to be published, in a stable order; ranges after fixed
// ports, so that they do not take those.
func requests(spec SandboxSpec) ([]port.Request, error) {
	list := make([]port.Request, 0, len(spec.Ports))
	for container, bindings := range spec.Ports {
		for _, b := range bindings {
			r, err := port.Parse(container, b)
			if err != nil {
				return nil, err
			}
			list = append(list, r)
		}
	}
	if spec.PublishAll {
		for container := range spec.Exposed {
			if len(spec.Ports[container]) == 0 {
				list = append(list, port.Request{Container: container})
			}
		}
	}
	owner := (&sandbox{spec: spec}).owner()
	// Those of one container's port keep their order.
	order := make([]ranked, len(list))
	for i := range list {
		list[i].Owner = owner
		order[i] = ranked{rank(&list[i]), i}
	}
	slices.SortFunc(order, func(a, b ranked) int { return cmp.Or(cmp.Compare(a.rank, b.rank), a.at-b.at) })
	sorted := make([]port.Request, len(list))
	for i, o := range order {
		sorted[i] = list[o.at]
	}
	return sorted, nil
}

type ranked struct {
	rank uint32
	at   int
}

// rank orders requests: those for one port each, ranges, any port; then by the
// container's port and the protocol.
func rank(r *port.Request) uint32 {
	n := uint32(r.Container.Num()) << 2
	switch r.Container.Proto() {
	case network.TCP:
		n++
	case network.UDP:
		n += 2
	}
	switch {
	case r.Start == 0:
		n += 1 << 20
	case r.Start != r.End:
		n += 1 << 19
	}
	return n
}

// together is how many ports are worth another processor: sockets are what
// publishing many ports costs.
const together = 64

// reserveAll reserves what is asked for, all or nothing, or tells the first request
// that failed. Those for one port each are independent of one another.
func (s *Service) reserveAll(ctx context.Context, requests []port.Request, dflt netip.Addr) (bound []port.Binding, failed int, err error) {
	single := slices.IndexFunc(requests, func(r port.Request) bool { return r.Start == 0 || r.Start != r.End })
	if single < 0 {
		single = len(requests)
	}
	if len(requests) > 0 {
		translations, err := s.bridge.Translations()
		if err != nil {
			s.log.Warn("ports that other rules translate are not known", "err", err)
		}
		if translations != nil {
			for i := range requests {
				requests[i].Elsewhere = translations.Of
			}
		}
	}
	results, errs := make([]port.Binding, len(requests)), make([]error, len(requests))
	reserve := func(from, to int) {
		for i := from; i < to && (i == from || errs[i-1] == nil); i++ {
			results[i], errs[i] = s.reserve(ctx, requests[i], dflt)
		}
	}
	var wg sync.WaitGroup
	size := max(together, (single+goruntime.GOMAXPROCS(0)-1)/goruntime.GOMAXPROCS(0))
	for from := 0; from < single; from += size {
		wg.Go(func() { reserve(from, min(from+size, single)) })
	}
	wg.Wait()
	if failed = slices.IndexFunc(errs, isSet); failed < 0 {
		reserve(single, len(requests))
		failed = slices.IndexFunc(errs, isSet)
	}
	if failed >= 0 {
		for i, b := range results {
			if b.File != nil {
				port.Close([]port.Binding{b})
				s.ports.Release([]port.Binding{b}, requests[i].Owner)
			}
		}
		return nil, failed, errs[failed]
	}
	return results, 0, nil
}

func isSet(err error) bool { return err != nil }

// reserve waits a moment for a port whose container has just ended: its shim may
// be about to close it.
func (s *Service) reserve(ctx context.Context, r port.Request, dflt netip.Addr) (port.Binding, error) {
	for {
		bound, err := s.ports.Reserve(r, dflt)
		var taken *port.TakenError
		if err == nil || !errors.As(err, &taken) || !s.endedLately(taken) {
			return bound, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return port.Binding{}, ctx.Err()
		}
	}
}

func (s *Service) endedLately(e *port.TakenError) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.ended[endedPort{e.Proto, e.Host.Port()}]
	return ok && time.Since(at) < lately
}

// endedPort is a port of a container that has ended.
type endedPort struct {
	proto network.IPProtocol
	port  uint16
}

// noteEnded remembers ports, and forgets those of long ago.
func (s *Service) noteEnded(ports []port.Binding) {
	maps.DeleteFunc(s.ended, func(_ endedPort, at time.Time) bool { return time.Since(at) >= lately })
	for _, b := range ports {
		s.ended[endedPort{b.Container.Proto(), b.Host.Port()}] = time.Now()
	}
}

// explainTaken words a failure as Docker does, and says who has the port.
func (s *Service) explainTaken(sb *sandbox, way *endpoint, r port.Request, err error) error {
	prefix := fmt.Sprintf("driver failed programming external connectivity on endpoint %s (%s): ", sb.name, way.id)
	var taken *port.TakenError
	if !errors.As(err, &taken) {
		return fmt.Errorf("%s%w", prefix, err)
	}
	if other := s.publisherOf(taken); other != "" {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("%sBind for %s failed: port is already allocated (by container %s)", prefix, taken.Host, other))
	}
	text := fmt.Sprintf("%sfailed to bind host port for %s:%s:%d/%s: address already in use", prefix, taken.Host, targetsOf(way).first(), r.Container.Num(), taken.Proto)
	switch holder := port.Holder(taken); {
	case taken.By != "":
		text += " (by " + taken.By + ")"
	case holder != "":
		text += " (by process " + holder + s.containerOf(holder) + ")"
	}
	return errdefs.ErrConflict.WithMessage(text)
}

// containerOf says for which container a process, "name (pid 1)", has a port: one of
// ours that shares the host's network, or the one that a proxy of Docker's leads to.
func (s *Service) containerOf(process string) string {
	name, pid, _ := strings.Cut(strings.TrimSuffix(process, ")"), " (pid ")
	if name == "docker-proxy" {
		data, err := os.ReadFile("/proc/" + pid + "/cmdline")
		args := strings.Split(string(data), "\x00")
		if i := slices.Index(args, "-container-ip"); err == nil && i >= 0 && i+1 < len(args) {
			return " for Docker's container at " + args[i+1]
		}
		return ""
	}
	groups, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return ""
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, sb := range s.sandboxes {
		if strings.Contains(string(groups), id) {
			return " of container " + sb.name
		}
	}
	return ""
}

func (s *Service) publisherOf(e *port.TakenError) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sb := range s.sandboxes {
		for _, b := range sb.reserved {
			if b.Container.Proto() == e.Proto && b.Host.Port() == e.Host.Port() && slices.ContainsFunc(b.Hosts(), func(h netip.AddrPort) bool {
				return port.Overlap(h.Addr(), e.Host.Addr())
			}) {
				return sb.name
			}
		}
	}
	return ""
}

// targets are the addresses of a container that ports may lead to.
type targets struct {
	v4, v6 netip.Addr
	// instead: ports of a family are published at the container's own address, not at
	// the host's; too: there as well.
	instead4, instead6, too bool
}

func targetsOf(way *endpoint) (t targets) {
	if way != nil {
		t.v4, t.v6 = way.settings.IPAddress, way.settings.GlobalIPv6Address
		t.instead4, t.too = bridge.Direct(way.net.Options, false)
		t.instead6, _ = bridge.Direct(way.net.Options, true)
	}
	return t
}

func (t targets) valid() bool { return t.v4.IsValid() || t.v6.IsValid() }

// silent: no port of the host leads there.
func (t targets) silent() bool { return t.instead4 || !t.v4.IsValid() && t.instead6 }

func (t targets) first() netip.Addr {
	if t.v4.IsValid() {
		return t.v4
	}
	return t.v6
}

// mappings are where the bindings lead. What the kernel cannot translate, as IPv6 to a
// container without it, is relayed.
func mappings(bound []port.Binding, to targets) (list []netdriver.Mapping) {
	list = make([]netdriver.Mapping, 0, 2*len(bound))
	room := make([]netip.AddrPort, 0, 2*len(bound))
	one := func(target netip.Addr, b port.Binding) []netip.AddrPort {
		room = append(room, netip.AddrPortFrom(target, b.Container.Num()))
		return room[len(room)-1 : len(room) : len(room)]
	}
	for _, b := range bound {
		for _, host := range b.Hosts() {
			target := to.v4
			if host.Addr().Is6() {
				target = to.v6
			}
			relay := b.Relays() && host.Addr().Is6() && to.v4.IsValid() && (!target.IsValid() || to.instead6) && !to.instead4
			if relay {
				list = append(list, netdriver.Mapping{
					Protocol: string(b.Container.Proto()), Host: host,
					Targets: one(to.v4, b),
				})
			}
			if !target.IsValid() {
				continue
			}
			m := netdriver.Mapping{
				Protocol: string(b.Container.Proto()), Host: host,
				Targets: one(target, b),
			}
			instead := target.Is4() && to.instead4 || target.Is6() && to.instead6
			if !instead {
				list = append(list, m)
			}
			if m.Host = m.Targets[0]; (instead || to.too) && !slices.ContainsFunc(list, m.Same) {
				list = append(list, m)
			}
		}
	}
	return list
}

// heldPorts hands the sockets over, those of IPv6 with what to relay to: where the port
// is published by IPv4 as well, to that, where the kernel spreads what replicas share. To
// a container that is published at its own address instead there is no relay.
func (s *Service) heldPorts(sb *sandbox, bound []port.Binding, to targets) ([]runtime.Held, error) {
	held := make([]runtime.Held, 0, len(bound))
	for _, b := range bound {
		h := runtime.Held{Name: b.Name(), File: b.File, Datagram: b.Container.Proto() == network.UDP, Messages: b.Container.Proto() == network.SCTP}
		switch {
		case !b.Relays():
		case to.silent():
			if err := s.ports.Deafen(b); err != nil {
				return nil, fmt.Errorf("close port %s: %w", b.Host, err)
			}
		case b.Both && to.v4.IsValid():
			h.RelayTo = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), b.Host.Port())
		default:
			h.RelayTo = netip.AddrPortFrom(to.first(), b.Container.Num())
		}
		if sb.owner() != "" {
			h.Farewell = s.bridge.Farewell(mappings([]port.Binding{b}, to))
		}
		held = append(held, h)
	}
	return held, nil
}

// hold hands the sockets of published ports to the container's shim.
func (s *Service) hold(ctx context.Context, keeper Keeper, sb *sandbox, bound []port.Binding, to targets) error {
	held, err := s.heldPorts(sb, bound, to)
	if err != nil {
		return err
	}
	return keeper.Hold(ctx, held)
}

func (p *preparation) closePorts(context.Context) error {
	port.Close(p.bound)
	p.s.ports.Release(p.bound, p.sb.owner())
	return nil
}
