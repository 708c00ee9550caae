package rtnl

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route is a destination that the host reaches by an interface.
type Route struct {
	Prefix    netip.Prefix
	Interface string
}

// Routes lists the destinations of every table but the local one, default routes left out.
func Routes() ([]Route, error) {
	list, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	names := map[int]string{}
	var routes []Route
	for _, r := range list {
		if r.Dst == nil || r.Table == unix.RT_TABLE_LOCAL {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		// Default routes, also in halves as VPNs set them, stand in nobody's way.
		if !ok || ones < 4 {
			continue
		}
		name, known := names[r.LinkIndex]
		if !known && r.LinkIndex > 0 {
			if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				name = l.Attrs().Name
			}
			names[r.LinkIndex] = name
		}
		routes = append(routes, Route{Prefix: netip.PrefixFrom(addr.Unmap(), ones), Interface: name})
	}
	return routes, nil
}

// DefaultMTU is that of the interface with the default route, or 1500.
func DefaultMTU() int {
	list, err := routes(unix.AF_INET)
	if err != nil {
		return 1500
	}
	for _, r := range list {
		if r.Dst != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil && l.Attrs().MTU > 0 {
			return l.Attrs().MTU
		}
	}
	return 1500
}
