package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// answerTable is the routing table of the interface with index 0.
const answerTable = 7000

// AnswerBy makes what leaves the calling thread's network namespace from the
// addresses leave by the interface with the hardware address, through the gateways,
// whatever the default route is. It may be called again.
func AnswerBy(mac string, addrs []netip.Prefix, gateways []netip.Addr) error {
	all, err := links()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range all {
		if l.Attrs().HardwareAddr.String() == mac {
			return answerBy(l.Attrs().Index, addrs, gateways)
		}
	}
	return fmt.Errorf("no interface has the address %s", mac)
}

func answerBy(index int, addrs []netip.Prefix, gateways []netip.Addr) error {
	table := answerTable + index
	for _, a := range addrs {
		link := &netlink.Route{LinkIndex: index, Table: table, Dst: ipNet(a.Masked()), Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteReplace(link); err != nil {
			return fmt.Errorf("add route to %s: %w", a.Masked(), err)
		}
		rule := netlink.NewRule()
		rule.Src, rule.Table, rule.Family = ipNet(netip.PrefixFrom(a.Addr(), a.Addr().BitLen())), table, unix.AF_INET
		if a.Addr().Is6() {
			rule.Family = unix.AF_INET6
		}
		if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule for %s: %w", a.Addr(), err)
		}
	}
	for _, gw := range gateways {
		r := &netlink.Route{LinkIndex: index, Table: table, Gw: gw.AsSlice()}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("add default route via %s: %w", gw, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
