package rtnl

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// OnLink lists the prefixes that are reached without a gateway through the interfaces
// that take accepts: what is on the host's links. Link-local and multicast ones are
// left out.
func OnLink(take func(name string) bool) ([]netip.Prefix, error) {
	found, err := links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	taken := map[int]bool{}
	for _, l := range found {
		taken[l.Attrs().Index] = l.Attrs().Flags&unix.IFF_LOOPBACK == 0 && take(l.Attrs().Name)
	}
	var list []netip.Prefix
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all, err := routes(family)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range all {
			if r.Dst == nil || len(r.Gw) > 0 || r.Via != nil || len(r.MultiPath) > 0 || r.Type != unix.RTN_UNICAST || !taken[r.LinkIndex] {
				continue
			}
			addr, ok := netip.AddrFromSlice(r.Dst.IP)
			bits, _ := r.Dst.Mask.Size()
			addr = addr.Unmap()
			if !ok || bits == 0 || addr.IsLinkLocalUnicast() || addr.IsMulticast() {
				continue
			}
			list = append(list, netip.PrefixFrom(addr, bits).Masked())
		}
	}
	return list, nil
}
