// Package rtnl speaks the few sentences of rtnetlink that container networks
// need: pairs of interfaces, bridges, addresses and routes. Functions act in the
// network namespace of the calling thread.
package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
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
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addrs {
		if err := netlink.AddrAdd(link, address(a)); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, name, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch on %s: %w", name, err)
	}
	for _, gw := range gateways {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("add default route via %s: %w", gw, err)
		}
	}
	return nil
}

// Bridge describes a bridge interface. Alias marks its owner.
type Bridge struct {
	Name, Alias string
	Addresses   []netip.Prefix
	MTU         int
	IPv6        bool
}

// AddBridge makes the bridge, or takes one of this name and alias that exists,
// and gives its index.
func AddBridge(b Bridge) (int, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.Name, b.MTU, bridgeMAC(b.Addresses)
	// A bridge whose ports change every second must not learn multicast groups.
	snooping := false
	err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping})
	existed := errors.Is(err, unix.EEXIST)
	if err != nil && !existed {
		return 0, fmt.Errorf("make bridge %s: %w", b.Name, err)
	}
	link, err := netlink.LinkByName(b.Name)
	if err != nil {
		return 0, fmt.Errorf("find bridge %s: %w", b.Name, err)
	}
	if existed && (link.Type() != "bridge" || link.Attrs().Alias != b.Alias) {
		return 0, fmt.Errorf("interface %s exists and belongs to somebody else: %w", b.Name, unix.EEXIST)
	}
	if err := settle(link, b); err != nil {
		if !existed {
			err = errors.Join(err, netlink.LinkDel(link))
		}
		return 0, err
	}
	return link.Attrs().Index, nil
}

func settle(link netlink.Link, b Bridge) error {
	if err := netlink.LinkSetAlias(link, b.Alias); err != nil {
		return fmt.Errorf("mark bridge %s: %w", b.Name, err)
	}
	have, err := netlink.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", b.Name, err)
	}
	want := map[string]bool{}
	for _, a := range b.Addresses {
		want[a.String()] = true
	}
	for _, a := range have {
		if !want[a.IPNet.String()] && !a.IP.IsLinkLocalUnicast() {
			if err := netlink.AddrDel(link, &a); err != nil {
				return fmt.Errorf("remove address %s from %s: %w", a.IPNet, b.Name, err)
			}
		}
	}
	for _, a := range b.Addresses {
		if err := netlink.AddrReplace(link, address(a)); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, b.Name, err)
		}
	}
	return nil
}

// address leaves out duplicate address detection: nobody else lives there, and a
// container must be able to bind its address at once.
func address(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	} else {
		a.Broadcast = net.IPv4zero
	}
	return a
}

// bridgeMAC is fixed from the beginning: a bridge without one takes its lowest
// port's, which changes as containers come and go.
func bridgeMAC(addrs []netip.Prefix) net.HardwareAddr {
	for _, a := range addrs {
		if a.Addr().Is4() {
			return MAC(a.Addr())
		}
	}
	return nil
}

// MAC derives a locally administered address from an IPv4 address, so that a
// reused address never meets a stale neighbour entry.
func MAC(a netip.Addr) net.HardwareAddr {
	b := a.As4()
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
	addrs, err := netlink.AddrList(link, unix.AF_UNSPEC)
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

// Isolate forbids a bridge's port to talk to other isolated ports.
func Isolate(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	return netlink.LinkSetIsolated(link, true)
}

// Hairpin lets a bridge's port send frames back where they came from.
func Hairpin(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	return netlink.LinkSetHairpin(link, true)
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
}

// Links lists the interfaces whose names start with prefix.
func Links(prefix string) ([]Link, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var links []Link
	for _, l := range all {
		if a := l.Attrs(); strings.HasPrefix(a.Name, prefix) {
			links = append(links, Link{Name: a.Name, Alias: a.Alias, Kind: l.Type(), Index: a.Index, Master: a.MasterIndex})
		}
	}
	return links, nil
}

// Route is a destination that the host reaches by an interface.
type Route struct {
	Prefix    netip.Prefix
	Interface string
}

// Routes lists the destinations of every table but the local one, default routes left out.
func Routes() ([]Route, error) {
	list, err := netlink.RouteListFiltered(unix.AF_UNSPEC, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
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
		if !ok || ones == 0 {
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
	list, err := netlink.RouteList(nil, unix.AF_INET)
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

// Sysctl writes a value below /proc/sys/net; name as in sysctl(8), with slashes.
func Sysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl net/%s: %w", name, err)
	}
	return nil
}

// SysctlIs tells whether a number below /proc/sys/net has the value; false if it is not there.
func SysctlIs(name string, value int) bool {
	data, err := os.ReadFile("/proc/sys/net/" + name)
	return err == nil && strings.TrimSpace(string(data)) == strconv.Itoa(value)
}

// HasIPv6 tells whether the kernel speaks IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}
