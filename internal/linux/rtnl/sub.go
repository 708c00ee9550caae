package rtnl

import (
	"errors"
	"fmt"
	"math"
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

// Supports tells by unix.EOPNOTSUPP that the kernel lacks a kind of interface, its module
// included. It makes one of a kind that needs no other: call it where nobody sees that.
func Supports(kind string) error {
	a := netlink.NewLinkAttrs()
	// The kernel looks at the kind before it misses the parent. The library wants one.
	a.Name, a.ParentIndex = "mueprobe", math.MaxInt32
	link := &netlink.GenericLink{LinkAttrs: a, LinkType: kind}
	err := netlink.LinkAdd(link)
	switch {
	case err == nil:
		return netlink.LinkDel(link)
	case errors.Is(err, unix.EOPNOTSUPP):
		return err
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
	link, err := vlan(name, master, id)
	if err != nil {
		return err
	}
	return addOwned(link, alias)
}

// AddVLANIn is AddVLAN inside a namespace, where the interface stays off.
func AddVLANIn(ns *os.File, name, master string, id int) error {
	link, err := vlan(name, master, id)
	if err != nil {
		return err
	}
	link.Namespace = netlink.NsFd(int(ns.Fd()))
	return netlink.LinkAdd(link)
}

func vlan(name, master string, id int) (*netlink.Vlan, error) {
	parent, err := netlink.LinkByName(master)
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", master, err)
	}
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = name, parent.Attrs().Index
	return &netlink.Vlan{LinkAttrs: a, VlanId: id}, nil
}

// Occupied tells in words what else an interface carries, or is part of; empty where the
// calling thread's namespace shows nothing.
func Occupied(name string) (string, error) {
	all, err := links()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	at := map[int]netlink.Link{}
	var of netlink.Link
	for _, l := range all {
		if at[l.Attrs().Index] = l; l.Attrs().Name == name {
			of = l
		}
	}
	if of == nil {
		return "", nil
	}
	if m := at[of.Attrs().MasterIndex]; m != nil {
		return fmt.Sprintf("it is a part of the %s %s", m.Type(), m.Attrs().Name), nil
	}
	for _, l := range all {
		if k := l.Type(); l.Attrs().ParentIndex == of.Attrs().Index && (k == "macvlan" || k == "macvtap" || k == "ipvlan" || k == "ipvtap") {
			return fmt.Sprintf("the %s interface %s is on it", k, l.Attrs().Name), nil
		}
	}
	return "", nil
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
