package rtnl

import (
	"errors"
	"fmt"

	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SetDefaultRoutes replaces the default routes of the calling thread's network
// namespace by those via the gateways, through the interface with this hardware
// address. Without gateways none is left.
func SetDefaultRoutes(mac string, gateways []netip.Addr) error {
	routes, err := netlink.RouteList(nil, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	index := 0
	if len(gateways) > 0 {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list interfaces: %w", err)
		}
		for _, l := range links {
			if l.Attrs().HardwareAddr.String() == mac {
				index = l.Attrs().Index
			}
		}
		if index == 0 {
			return fmt.Errorf("no interface has the address %s", mac)
		}
	}
	for _, r := range routes {
		if r.Dst != nil && !(r.Dst.IP.IsUnspecified() && isZero(r.Dst.Mask)) || r.Gw == nil {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove default route via %s: %w", r.Gw, err)
		}
	}
	for _, gw := range gateways {
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: index, Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("set default route via %s: %w", gw, err)
		}
	}
	return nil
}
