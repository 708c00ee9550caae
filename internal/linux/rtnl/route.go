package rtnl

import (
	"fmt"
	"net/netip"
	"slices"

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
	names, err := newNames()
	if err != nil {
		return nil, err
	}
	defer names.close()
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
		routes = append(routes, Route{Prefix: netip.PrefixFrom(addr.Unmap(), ones), Interface: names.of(r.LinkIndex)})
	}
	return routes, nil
}

// names are those of interfaces by their index, each asked for by one ioctl: a link's
// whole description costs thirty times as much.
type names struct {
	fd    int
	known map[int]string
}

func newNames() (*names, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("ask for names of interfaces: %w", err)
	}
	return &names{fd: fd, known: map[int]string{0: ""}}, nil
}

// of gives the name of an interface, or none when it is gone.
func (n *names) of(index int) string {
	name, known := n.known[index]
	if !known {
		if request, err := unix.NewIfreq(""); err == nil {
			request.SetUint32(uint32(index))
			if unix.IoctlIfreq(n.fd, unix.SIOCGIFNAME, request) == nil {
				name = request.Name()
			}
		}
		n.known[index] = name
	}
	return name
}

func (n *names) close() { unix.Close(n.fd) }

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

// DefaultInterfaces names those that default routes of IPv4 and IPv6 go through, each
// once, also routes in halves as VPNs set them.
func DefaultInterfaces() ([]string, error) {
	var names []string
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		list, err := routes(family)
		if err != nil {
			return nil, err
		}
		for _, r := range list {
			if r.Dst != nil {
				if ones, _ := r.Dst.Mask.Size(); ones > 1 {
					continue
				}
			}
			hops := []int{r.LinkIndex}
			for _, m := range r.MultiPath {
				hops = append(hops, m.LinkIndex)
			}
			for _, index := range hops {
				l, err := netlink.LinkByIndex(index)
				if err == nil && !slices.Contains(names, l.Attrs().Name) {
					names = append(names, l.Attrs().Name)
				}
			}
		}
	}
	return names, nil
}
