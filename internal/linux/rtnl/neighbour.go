package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Introduce tells the kernel the hardware addresses of neighbours on an interface that it
// asked for in vain: it holds them for unreachable otherwise, and refuses connections with
// "no route to host", for up to three seconds after they could answer (mcast_solicit times
// retrans_time of arp(7)). What waits for an answer goes on its way.
func Introduce(name string, known map[netip.Addr]net.HardwareAddr) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := dump(func() ([]netlink.Neigh, error) { return h.NeighList(link.Attrs().Index, family) })
		if err != nil {
			errs = append(errs, fmt.Errorf("list neighbours on %s: %w", name, err))
		}
		for _, n := range list {
			to, _ := netip.AddrFromSlice(n.IP)
			mac := known[to.Unmap()]
			if mac == nil || n.State&(unix.NUD_INCOMPLETE|unix.NUD_FAILED) == 0 {
				continue
			}
			n.State, n.HardwareAddr = unix.NUD_STALE, mac
			if err := h.NeighSet(&n); err != nil {
				errs = append(errs, fmt.Errorf("introduce neighbour %s on %s: %w", to, name, err))
			}
		}
	}
	return errors.Join(errs...)
}
