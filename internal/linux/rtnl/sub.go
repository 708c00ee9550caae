package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sub is an interface on top of another, made inside NetNS.
type Sub struct {
	Name, Parent string
	NetNS        *os.File
	MAC          net.HardwareAddr
	Mode, Flag   string
}

func (s Sub) attrs() (netlink.LinkAttrs, error) {
	parent, err := netlink.LinkByName(s.Parent)
	if err != nil {
		return netlink.LinkAttrs{}, fmt.Errorf("find interface %s: %w", s.Parent, err)
	}
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex, a.HardwareAddr, a.Namespace = s.Name, parent.Attrs().Index, s.MAC, netlink.NsFd(int(s.NetNS.Fd()))
	return a, nil
}

// AddMacvlan makes a macvlan interface: mode bridge, private, vepa or passthru.
func AddMacvlan(s Sub) error {
	a, err := s.attrs()
	if err != nil {
		return err
	}
	mode := map[string]netlink.MacvlanMode{
		"bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE, "vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
	}[s.Mode]
	return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: mode})
}

// AddIPVlan makes an ipvlan interface: mode l2, l3 or l3s, flag bridge, private or vepa.
func AddIPVlan(s Sub) error {
	a, err := s.attrs()
	if err != nil {
		return err
	}
	mode := map[string]netlink.IPVlanMode{"l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S}[s.Mode]
	flag := map[string]netlink.IPVlanFlag{"private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA}[s.Flag]
	return netlink.LinkAdd(&netlink.IPVlan{LinkAttrs: a, Mode: mode, Flag: flag})
}

// SupportsSub tells by an error whether the kernel lacks a kind of interface on top of
// another: it looks at the kind before it misses the other.
func SupportsSub(kind string) error {
	var link netlink.Link = &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "mueprobe"}, LinkType: kind}
	err := netlink.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	if err == nil {
		return netlink.LinkDel(link)
	}
	return nil
}

// AddDummy makes an interface that leads nowhere, and switches it on.
func AddDummy(name, alias string) error {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return addOwned(&netlink.Dummy{LinkAttrs: a}, alias)
}

// AddVLAN makes an interface for one VLAN of another's link, and switches it on.
func AddVLAN(name, master string, id int, alias string) error {
	parent, err := netlink.LinkByName(master)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", master, err)
	}
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = name, parent.Attrs().Index
	return addOwned(&netlink.Vlan{LinkAttrs: a, VlanId: id}, alias)
}

func addOwned(l netlink.Link, alias string) error {
	name := l.Attrs().Name
	if err := netlink.LinkAdd(l); err != nil {
		return fmt.Errorf("make interface %s: %w", name, err)
	}
	if err := errors.Join(netlink.LinkSetAlias(l, alias), netlink.LinkSetUp(l)); err != nil {
		return errors.Join(fmt.Errorf("set up interface %s: %w", name, err), netlink.LinkDel(l))
	}
	return nil
}

// ConfigureRouted is Configure for an interface without neighbours: the default
// routes, where wanted, are the interface itself.
func ConfigureRouted(name string, addrs []netip.Prefix, world bool) error {
	if err := Configure(name, addrs); err != nil || !world {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addrs {
		all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if a.Addr().Is6() {
			all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Scope: unix.RT_SCOPE_LINK}); err != nil {
			return fmt.Errorf("add default route through %s: %w", name, err)
		}
	}
	return nil
}

// DeleteAt removes the interface of that name, unless it has other addresses: the
// container may have renamed its interfaces. One that is not there is no error.
func DeleteAt(name string, addrs []netip.Prefix) error {
	all, err := Interfaces()
	if err != nil {
		return err
	}
	for _, i := range all {
		for _, a := range i.Addresses {
			for _, want := range addrs {
				if a == want && i.Name != "lo" {
					return Delete(i.Name)
				}
			}
		}
	}
	for _, i := range all {
		if i.Name == name && len(i.Addresses) == 0 {
			return Delete(name)
		}
	}
	return nil
}
