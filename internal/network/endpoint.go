package network

import (
	"context"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver/macvlan"
	"muelle/internal/network/address"
)

// assignAddresses gives every endpoint its addresses.
func (p *preparation) assignAddresses(ctx context.Context) error {
	for i, e := range p.sb.endpoints {
		if err := p.s.assign(ctx, e); err != nil {
			for _, done := range p.sb.endpoints[:i] {
				p.s.freeAddresses(done)
			}
			return err
		}
	}
	return nil
}

// freeAddresses gives back those of the endpoints that no driver has: the others'
// come back when their interfaces are gone.
func (p *preparation) freeAddresses(context.Context) error {
	for _, e := range p.sb.endpoints[p.joined:] {
		p.s.freeAddresses(e)
	}
	return nil
}

// assign takes the addresses for one endpoint. Those of a container that has just
// ended are free when its interface is gone, which is waited for only if needed.
func (s *Service) assign(ctx context.Context, e *endpoint) error {
	for {
		s.mu.Lock()
		err := e.takeAddresses()
		wait := e.net.cooling
		s.mu.Unlock()
		if err == nil || wait == nil || errdefs.IsInvalidArgument(err) {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takeAddresses fills the settings, all or nothing.
func (e *endpoint) takeAddresses() error {
	var asked network.EndpointIPAMConfig
	if e.settings.IPAMConfig != nil {
		asked = *e.settings.IPAMConfig
	}
	clear4, clear6 := netip.Addr{}, netip.Addr{}
	e.settings.IPAddress, e.settings.GlobalIPv6Address = clear4, clear6
	e.settings.Gateway, e.settings.IPv6Gateway = clear4, clear6
	e.settings.IPPrefixLen, e.settings.GlobalIPv6PrefixLen = 0, 0
	for _, want := range []struct {
		asked netip.Addr
		six   bool
	}{{asked.IPv4Address, false}, {asked.IPv6Address, true}} {
		i, a, err := e.take(want.asked, want.six)
		if err != nil {
			e.free()
			return err
		}
		if i < 0 {
			continue
		}
		c := e.net.IPAM.Config[i]
		if want.six {
			e.settings.GlobalIPv6Address, e.settings.GlobalIPv6PrefixLen, e.settings.IPv6Gateway = a, c.Subnet.Bits(), wayOut(c)
		} else {
			e.settings.IPAddress, e.settings.IPPrefixLen, e.settings.Gateway = a, c.Subnet.Bits(), wayOut(c)
		}
	}
	if e.net.Internal {
		e.settings.Gateway, e.settings.IPv6Gateway = netip.Addr{}, netip.Addr{}
	}
	e.settings.NetworkID, e.settings.EndpointID = e.net.ID, e.id
	for _, a := range []netip.Addr{e.settings.IPAddress, e.settings.GlobalIPv6Address} {
		if len(e.settings.MacAddress) == 0 && a.IsValid() {
			e.settings.MacAddress = network.HardwareAddr(rtnl.MAC(a))
		}
	}
	if e.net.Driver == macvlan.IPVlan {
		e.settings.MacAddress = nil // the parent's
	}
	e.setNames()
	return nil
}

// take reserves the address asked for, or one of the first subnet of the family
// that has any; -1 where the network has no such subnet and none was asked for.
func (e *endpoint) take(asked netip.Addr, six bool) (int, netip.Addr, error) {
	var last error
	for i, sub := range e.net.subnets {
		if sub.Prefix().Addr().Is6() != six {
			continue
		}
		if !asked.IsValid() {
			a, err := sub.Next()
			if err == nil {
				return i, a, nil
			}
			last = err
			continue
		}
		if err := sub.Take(asked); err == nil || !errdefs.IsInvalidArgument(err) {
			return i, asked, err
		} else {
			last = err
		}
	}
	if last == nil && asked.IsValid() {
		last = errdefs.ErrInvalidArgument.WithMessage("invalid address " + asked.String() + ": It does not belong to any of this network's subnets")
	}
	return -1, netip.Addr{}, last
}

// free gives the addresses back. Called with the lock held.
func (e *endpoint) free() {
	for _, a := range []netip.Addr{e.settings.IPAddress, e.settings.GlobalIPv6Address} {
		if sub := e.net.subnetOf(a); sub != nil {
			sub.Free(a)
		}
	}
}

func (n *net) subnetOf(a netip.Addr) *address.Subnet {
	for _, sub := range n.subnets {
		if a.IsValid() && sub.Prefix().Contains(a) {
			return sub
		}
	}
	return nil
}

func (s *Service) freeAddresses(e *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.free()
}

// leave detaches an endpoint; its addresses are free when the interface is gone,
// for until then it answers for them.
func (s *Service) leave(e *endpoint) {
	n := e.net
	s.mu.Lock()
	n.leaving++
	if n.cooling == nil {
		n.cooling = make(chan struct{})
	}
	s.mu.Unlock()
	s.drivers[n.Driver].Leave(s.driverView(n), e.driverView(), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.free()
		close(n.cooling)
		n.cooling = nil
		if n.leaving--; n.leaving > 0 {
			n.cooling = make(chan struct{})
		}
	})
}

// prefixes are an endpoint's addresses with their networks' sizes.
func prefixes(s *network.EndpointSettings) (list []netip.Prefix) {
	if s.IPAddress.IsValid() {
		list = append(list, netip.PrefixFrom(s.IPAddress, s.IPPrefixLen))
	}
	if s.GlobalIPv6Address.IsValid() {
		list = append(list, netip.PrefixFrom(s.GlobalIPv6Address, s.GlobalIPv6PrefixLen))
	}
	return list
}
