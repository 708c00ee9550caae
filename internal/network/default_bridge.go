package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
	"muelle/internal/linux/rtnl"
)

// DefaultBridge is what daemon.json says of the predefined network bridge. Of lists
// there is at most one of each address family.
type DefaultBridge struct {
	// None: there is no such network (bridge: none).
	None bool
	// Interface is a bridge of the host's, with addresses of its own, to be used
	// instead of one that Muelle makes (bridge).
	Interface string
	// Addresses of the bridge with their prefix lengths (bip, bip6).
	Addresses []netip.Prefix
	// Ranges that containers' addresses are taken from (fixed-cidr, fixed-cidr-v6).
	Ranges []netip.Prefix
	// Gateways of the containers where it is not the bridge (default-gateway,
	// default-gateway-v6).
	Gateways []netip.Addr
	IPv6     bool
	// Options are driver options (icc, ip-masq, ip, mtu).
	Options map[string]string
}

// Names under which Docker keeps gateways that are not the bridge itself.
const (
	auxGateway4 = "DefaultGatewayIPv4"
	auxGateway6 = "DefaultGatewayIPv6"
)

func auxGateway(subnet netip.Prefix) string {
	if subnet.Addr().Is6() {
		return auxGateway6
	}
	return auxGateway4
}

// wayOut is where the default route of a subnet's containers leads.
func wayOut(c network.IPAMConfig) netip.Addr {
	if a := c.AuxAddress[auxGateway(c.Subnet)]; a.IsValid() {
		return a
	}
	return c.Gateway
}

// family picks the one of the address family.
func family[T any](list []T, six bool, of func(T) netip.Addr) (found T, ok bool) {
	i := slices.IndexFunc(list, func(v T) bool { return of(v).Is6() == six })
	if i < 0 {
		return found, false
	}
	return list[i], true
}

func itself(a netip.Addr) netip.Addr { return a }

// predefineBridge makes the network bridge what the configuration wants. Where its
// subnets stay, its id does; so do the containers on it.
func (s *Service) predefineBridge(old *net) error {
	want := s.o.DefaultBridge
	if old != nil && (want.None || (old.Borrowed || want.Interface != "") && (!old.Borrowed || old.Interface != want.Interface)) {
		if err := s.forget(old); err != nil {
			return err
		}
		old = nil
	}
	if want.None {
		return nil
	}
	r := &record{Network: network.Network{
		Name: predefinedBridge, ID: id.New(), Created: now(), Scope: "local", Driver: "bridge", EnableIPv4: true, EnableIPv6: want.IPv6,
		IPAM: network.IPAM{Driver: "default"}, Labels: map[string]string{},
		Options: map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           "true",
			"com.docker.network.bridge.enable_ip_masquerade": "true",
			"com.docker.network.bridge.host_binding_ipv4":    "0.0.0.0",
		},
	}, Borrowed: want.Interface != ""}
	maps.Copy(r.Network.Options, want.Options)
	if want.Interface != "" {
		r.Network.Options["com.docker.network.bridge.name"] = want.Interface
	}
	if err := s.bridgeSubnets(r, old); err != nil {
		return fmt.Errorf("network bridge: %w", err)
	}
	if old != nil && sameSubnets(old.IPAM.Config, r.IPAM.Config) {
		r.Network.ID, r.Network.Created = old.ID, old.Created
	} else if old != nil {
		if err := s.forget(old); err != nil {
			return err
		}
	}
	return s.keepPredefined(r, old)
}

// keepPredefined saves one of the predefined networks unless it is as it was.
func (s *Service) keepPredefined(r *record, old *net) error {
	n, err := newNet(r)
	if err != nil {
		return fmt.Errorf("network %s: %w", r.Network.Name, err)
	}
	if n.Interface, err = s.drivers[r.Network.Driver].Check(n.driverView()); err != nil {
		return fmt.Errorf("network %s: %w", r.Network.Name, err)
	}
	if n.Interface != "" {
		n.Options["com.docker.network.bridge.name"] = n.Interface
	}
	if old == nil || !sameRecord(&old.record, &n.record) {
		if err := s.save(n, false); err != nil {
			return err
		}
	}
	s.networks[n.ID] = n
	return nil
}

func (s *Service) forget(n *net) error {
	delete(s.networks, n.ID)
	return s.records.Delete(n.ID)
}

func sameSubnets(a, b []network.IPAMConfig) bool {
	return slices.EqualFunc(a, b, func(a, b network.IPAMConfig) bool { return a.Subnet == b.Subnet && a.Gateway == b.Gateway })
}

func sameRecord(a, b *record) bool {
	return a.Network.ID == b.Network.ID && a.Chosen == b.Chosen && a.Borrowed == b.Borrowed && a.EnableIPv6 == b.EnableIPv6 &&
		maps.Equal(a.Options, b.Options) &&
		slices.EqualFunc(a.IPAM.Config, b.IPAM.Config, func(a, b network.IPAMConfig) bool {
			return a.Subnet == b.Subnet && a.Gateway == b.Gateway && a.IPRange == b.IPRange && maps.Equal(a.AuxAddress, b.AuxAddress)
		})
}

// bridgeSubnets gives the record its subnets: what is asked for, what the borrowed
// interface has, what the network had before, or one that is free, in this order.
func (s *Service) bridgeSubnets(r *record, old *net) error {
	for _, six := range []bool{false, true} {
		if six && !s.o.DefaultBridge.IPv6 {
			break
		}
		c, chosen, err := s.bridgeSubnet(six, old)
		if err != nil {
			return err
		}
		r.Chosen = chosen && !s.o.DefaultBridge.IPv6
		want := s.o.DefaultBridge
		if sub, ok := family(want.Ranges, six, netip.Prefix.Addr); ok && sub != c.Subnet {
			if !c.Subnet.Contains(sub.Addr()) || sub.Bits() < c.Subnet.Bits() {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("fixed-cidr %s is not in the bridge's subnet %s", sub, c.Subnet))
			}
			c.IPRange, r.Chosen = sub.Masked(), false
		}
		if gw, ok := family(want.Gateways, six, itself); ok {
			if !c.Subnet.Contains(gw) {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("default-gateway %s is not in the bridge's subnet %s", gw, c.Subnet))
			}
			r.Chosen = false
			if gw != c.Gateway {
				c.AuxAddress = map[string]netip.Addr{auxGateway(c.Subnet): gw}
			}
		}
		r.Network.IPAM.Config = append(r.Network.IPAM.Config, c)
	}
	return nil
}

// bridgeSubnet gives the subnet of one address family; chosen where nobody named it.
func (s *Service) bridgeSubnet(six bool, old *net) (c network.IPAMConfig, chosen bool, err error) {
	want := s.o.DefaultBridge
	sub, ranged := family(want.Ranges, six, netip.Prefix.Addr)
	if p, ok := family(want.Addresses, six, netip.Prefix.Addr); ok {
		return network.IPAMConfig{Subnet: p.Masked(), Gateway: p.Addr()}, false, nil
	}
	if want.Interface != "" {
		p, err := borrowedAddress(want.Interface, six, sub)
		return network.IPAMConfig{Subnet: p.Masked(), Gateway: p.Addr()}, false, err
	}
	if old != nil {
		kept, ok := family(old.IPAM.Config, six, func(c network.IPAMConfig) netip.Addr { return c.Subnet.Addr() })
		if ok && (!ranged || kept.Subnet.Contains(sub.Addr()) && kept.Subnet.Bits() <= sub.Bits()) {
			return network.IPAMConfig{Subnet: kept.Subnet, Gateway: kept.Gateway}, old.Chosen, nil
		}
	}
	// As Docker: a range alone is the bridge's subnet.
	if ranged {
		sub = sub.Masked()
		return network.IPAMConfig{Subnet: sub, Gateway: sub.Addr().Next()}, false, nil
	}
	if six {
		c, err = s.chooseIPv6()
	} else {
		c, err = s.chooseSubnet()
	}
	return c, true, err
}

// borrowedAddress is the first address of the host's bridge, in the range if there is one.
func borrowedAddress(name string, six bool, in netip.Prefix) (netip.Prefix, error) {
	all, err := rtnl.Interfaces()
	if err != nil {
		return netip.Prefix{}, err
	}
	i := slices.IndexFunc(all, func(i rtnl.Interface) bool { return i.Name == name })
	if i < 0 {
		return netip.Prefix{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("bridge device with non default bridge name %s must be created manually", name))
	}
	for _, p := range all[i].Addresses {
		if p.Addr().Is6() == six && !p.Addr().IsLinkLocalUnicast() && (!in.IsValid() || p.Contains(in.Addr())) {
			return p, nil
		}
	}
	return netip.Prefix{}, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("bridge %s has no fitting address: give it one (ip addr add ADDRESS/BITS dev %s)", name, name))
}

// checkDefaults refuses default options that a driver would refuse for every network.
func (s *Service) checkDefaults() error {
	for name, opts := range s.o.NetworkOptions {
		driver := s.drivers[name]
		if driver == nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("default-network-opts: there is no network driver %q", name))
		}
		n := net{record: record{Network: network.Network{ID: id.New(), Options: opts}}}
		if _, err := driver.Check(n.driverView()); err != nil {
			return fmt.Errorf("default-network-opts: %w", err)
		}
	}
	return nil
}

// withDefaults adds the driver's default options to those asked for.
func (s *Service) withDefaults(driver string, asked map[string]string) map[string]string {
	all := copyOf(s.o.NetworkOptions[driver])
	maps.Copy(all, asked)
	return all
}
