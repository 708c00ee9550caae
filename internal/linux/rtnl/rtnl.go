// Package rtnl speaks the few sentences of rtnetlink that container networks
// need: pairs of interfaces, bridges, addresses and routes. Functions act in the
// network namespace of the calling thread.
package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LoopbackUp switches the loopback interface on.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("switch on loopback: %w", err)
	}
	return nil
}

// Configure gives an interface its addresses, switches it on and, where gateways
// are given, sets default routes through it.
func Configure(name string, addrs []netip.Prefix, gateways ...netip.Addr) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE) // one socket for all of it
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := h.AddrAdd(link, address(a)); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, name, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch on %s: %w", name, err)
	}
	for _, gw := range gateways {
		if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("add default route via %s: %w", gw, err)
		}
	}
	return nil
}

func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	} else {
		a.Broadcast = net.IPv4zero
	}
	return a
}

// MAC derives a locally administered address from an address, of IPv6 from its end, so
// that a reused address never meets a stale neighbour entry.
func MAC(a netip.Addr) net.HardwareAddr {
	b := a.AsSlice()[a.BitLen()/8-4:]
	return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
}

// Up switches an interface on.
func Up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch on %s: %w", name, err)
	}
	return nil
}

// DropAddresses takes all addresses, and so the routes, from an interface, which
// takes effect at once, unlike Delete.
func DropAddresses(name string) error {
	link, err := netlink.LinkByName(name)
	if IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	addrs, err := addresses(link, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s from %s: %w", a.IPNet, name, err)
		}
	}
	return nil
}

// Delete removes an interface; one that is not there is no error.
func Delete(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if IsNotFound(err) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// Exists tells whether there is an interface of that name.
func Exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// IsNotFound tells whether an interface was missing.
func IsNotFound(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}

// Link is an interface as far as we look at others'.
type Link struct {
	Name, Alias, Kind string
	Index, Master     int
	// Parent is the index of the interface that it is on top of, or of a pair's other end.
	Parent int
}

// Links lists the interfaces whose names start with prefix.
func Links(prefix string) ([]Link, error) {
	all, err := links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var links []Link
	for _, l := range all {
		if a := l.Attrs(); strings.HasPrefix(a.Name, prefix) {
			links = append(links, Link{Name: a.Name, Alias: a.Alias, Kind: l.Type(), Index: a.Index, Master: a.MasterIndex, Parent: a.ParentIndex})
		}
	}
	return links, nil
}
