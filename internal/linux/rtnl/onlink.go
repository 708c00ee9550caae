package rtnl

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Neighbourhood is a prefix on the link of an interface.
type Neighbourhood struct {
	Interface string
	Prefix    netip.Prefix
}

// OnLink lists the prefixes that are reached without a gateway through the interfaces
// that take accepts: what is on the host's links. Link-local and multicast ones are
// left out.
func OnLink(take func(name string) bool) ([]Neighbourhood, error) {
	found, err := links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	taken := map[int]string{}
	for _, l := range found {
		if l.Attrs().Flags&unix.IFF_LOOPBACK == 0 && take(l.Attrs().Name) {
			taken[l.Attrs().Index] = l.Attrs().Name
		}
	}
	var list []Neighbourhood
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := routes(family)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range all {
			if r.Dst == nil || len(r.Gw) > 0 || r.Via != nil || len(r.MultiPath) > 0 || r.Type != unix.RTN_UNICAST || taken[r.LinkIndex] == "" {
				continue
			}
			addr, ok := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			addr = addr.Unmap()
			if !ok || bits < leastOnLink(addr) || addr.IsLinkLocalUnicast() || addr.IsMulticast() {
				continue
			}
			list = append(list, Neighbourhood{taken[r.LinkIndex], netip.PrefixFrom(addr, bits).Masked()})
		}
	}
	return list, nil
}

// leastOnLink is the shortest prefix that can be a link's: shorter ones, as 0.0.0.0/1,
// are how VPNs take the world.
func leastOnLink(a netip.Addr) int {
	if a.Is4() {
		return 8
	}
	return 16
}
