package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"

	"muelle/internal/cli/runflags"
)

// ipamFlags are the address management's.
type ipamFlags struct {
	driver                     string
	subnets, ranges, gateways  []string
	auxAddresses, ipamOptsFlag runflags.Map
}

// config gives each range, gateway and auxiliary address to the subnet that it lies
// in.
func (i *ipamFlags) config() (*network.IPAM, error) {
	if len(i.subnets) < len(i.ranges) || len(i.subnets) < len(i.gateways) {
		return nil, errors.New("every ip-range or gateway must have a corresponding subnet")
	}
	out := &network.IPAM{Driver: i.driver, Options: i.ipamOptsFlag.Values, Config: []network.IPAMConfig{}}
	for _, s := range i.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet: invalid CIDR address: %s", s)
		}
		for _, c := range out.Config {
			if c.Subnet.Overlaps(p) {
				return nil, errors.New("multiple overlapping subnet configuration is not supported")
			}
		}
		out.Config = append(out.Config, network.IPAMConfig{Subnet: p})
	}
	of := func(a netip.Addr) *network.IPAMConfig {
		n := slices.IndexFunc(out.Config, func(c network.IPAMConfig) bool { return c.Subnet.Contains(a) })
		if n < 0 {
			return nil
		}
		return &out.Config[n]
	}
	for _, r := range i.ranges {
		p, err := netip.ParsePrefix(r)
		if err != nil {
			return nil, fmt.Errorf("invalid CIDR address: %s", r)
		}
		c := of(p.Addr())
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for range %s", r)
		}
		if c.IPRange.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", r, c.IPRange, c.Subnet)
		}
		c.IPRange = p
	}
	for _, g := range i.gateways {
		addr, err := netip.ParseAddr(g)
		if err != nil {
			return nil, fmt.Errorf("no matching subnet for gateway %s", g)
		}
		c := of(addr)
		if c == nil {
			return nil, fmt.Errorf("no matching subnet for gateway %s", g)
		}
		if c.Gateway.IsValid() {
			return nil, fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", g, c.Gateway, c.Subnet)
		}
		c.Gateway = addr
	}
	for k, v := range i.auxAddresses.Values {
		addr, err := netip.ParseAddr(v)
		if err != nil || of(addr) == nil {
			return nil, fmt.Errorf("no matching subnet for aux-address %s", v)
		}
		c := of(addr)
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[k] = addr
	}
	return out, nil
}
