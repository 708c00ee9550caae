package rtnl

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interface is one of the calling thread's network namespace, as ip addr shows it.
type Interface struct {
	Name  string
	Index int
	// Peer is the index of a veth pair's other end, in whatever namespace it is.
	Peer      int
	MAC       string
	MTU       int
	State     string
	Addresses []netip.Prefix
}

// Addresses of the calling thread's network namespace, by the index of their interfaces,
// each with the network that it is in.
func Addresses() (map[int][]netip.Prefix, error) {
	all, err := addresses(nil, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	of := map[int][]netip.Prefix{}
	for _, addr := range all {
		if addr.IPNet == nil {
			continue
		}
		mask := addr.Mask
		if addr.Peer != nil {
			mask = addr.Peer.Mask // the other end's, on the same network
		}
		if ip, ok := netip.AddrFromSlice(addr.IP); ok {
			ones, _ := mask.Size()
			of[addr.LinkIndex] = append(of[addr.LinkIndex], netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	return of, nil
}

// Interfaces lists those of the calling thread's network namespace.
func Interfaces() ([]Interface, error) {
	found, err := links()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	// The kernel tells those of all interfaces, whichever is asked for.
	all, err := addresses(nil, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	of := map[int][]netip.Prefix{}
	for _, addr := range all {
		if ip, ok := netip.AddrFromSlice(addr.IP); ok {
			ones, _ := addr.Mask.Size()
			of[addr.LinkIndex] = append(of[addr.LinkIndex], netip.PrefixFrom(ip.Unmap(), ones))
		}
	}
	var list []Interface
	for _, l := range found {
		a := l.Attrs()
		i := Interface{Name: a.Name, Index: a.Index, Peer: a.ParentIndex, MAC: a.HardwareAddr.String(), MTU: a.MTU, State: strings.ToUpper(a.OperState.String()), Addresses: of[a.Index]}
		list = append(list, i)
	}
	return list, nil
}

// RouteText lists the routes of the calling thread's network namespace but for the
// local table, worded as ip route does.
func RouteText() ([]string, error) {
	found, err := routes(unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var list []string
	for _, r := range found {
		text := "default"
		if r.Dst != nil && !(r.Dst.IP.IsUnspecified() && isZero(r.Dst.Mask)) {
			text = r.Dst.String()
		}
		if r.Gw != nil {
			text += " via " + r.Gw.String()
		}
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			text += " dev " + l.Attrs().Name
		}
		if r.Src != nil {
			text += " src " + r.Src.String()
		}
		list = append(list, text)
	}
	return list, nil
}

func isZero(mask []byte) bool {
	for _, b := range mask {
		if b != 0 {
			return false
		}
	}
	return true
}

// GlobalAddresses are those of the calling thread's network namespace, without those that
// mean something on one link or on this host only.
func GlobalAddresses() (list []netip.Addr, err error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this host's addresses: %w", err)
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			list = append(list, p.Addr().Unmap())
		}
	}
	return list, nil
}
