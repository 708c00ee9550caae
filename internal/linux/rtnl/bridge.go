package rtnl

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Bridge describes a bridge interface. Alias marks its owner.
type Bridge struct {
	Name, Alias string
	// Reserved: nobody else makes interfaces of such a name.
	Reserved  bool
	Addresses []netip.Prefix
	MTU       int
	IPv6      bool
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
	if existed {
		if err := checkOwner(link, b); err != nil {
			return 0, err
		}
	}
	if err := settle(link, b); err != nil {
		if !existed {
			err = errors.Join(err, netlink.LinkDel(link))
		}
		return 0, err
	}
	return link.Attrs().Index, nil
}

// BridgeIndex is the index of a bridge; errdefs.ErrFailedPrecondition where the name is
// no bridge's.
func BridgeIndex(name string) (int, error) {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find bridge %s: %w", name, err)
	}
	if link.Type() != "bridge" {
		return 0, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("interface %s is no bridge but a %s", name, link.Type()))
	}
	return link.Attrs().Index, nil
}

// CheckBridge gives errdefs.ErrFailedPrecondition where an interface of that name
// exists and is somebody else's.
func CheckBridge(b Bridge) error {
	link, err := netlink.LinkByName(b.Name)
	if IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", b.Name, err)
	}
	return checkOwner(link, b)
}

// checkOwner takes a bridge with the alias, and one that AddBridge was killed over: the
// kernel takes an alias only once the interface is there.
func checkOwner(link netlink.Link, b Bridge) error {
	a := link.Attrs()
	mac := bridgeMAC(b.Addresses)
	unmarked := a.Alias == "" && a.Flags&net.FlagUp == 0 && (b.Reserved || mac != nil && bytes.Equal(a.HardwareAddr, mac))
	if link.Type() == "bridge" && (a.Alias == b.Alias || unmarked) {
		return nil
	}
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("interface %s exists and belongs to somebody else", a.Name))
}

func settle(link netlink.Link, b Bridge) error {
	if err := netlink.LinkSetAlias(link, b.Alias); err != nil {
		return fmt.Errorf("mark bridge %s: %w", b.Name, err)
	}
	if b.MTU > 0 && link.Attrs().MTU != b.MTU {
		if err := netlink.LinkSetMTU(link, b.MTU); err != nil {
			return fmt.Errorf("set MTU of bridge %s: %w", b.Name, err)
		}
	}
	have, err := addresses(link, unix.AF_UNSPEC)
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

// bridgeMAC is fixed from the beginning: a bridge without one takes its lowest
// port's, which changes as containers come and go.
func bridgeMAC(addrs []netip.Prefix) net.HardwareAddr {
	for _, a := range addrs {
		if a.Addr().Is4() {
			return MAC(a.Addr())
		}
	}
	for _, a := range addrs {
		return MAC(a.Addr())
	}
	return nil
}

// Isolate forbids a bridge's port to talk to other isolated ports.
func Isolate(name string) error { return SetIsolated(name, true) }

// SetIsolated makes a bridge's port isolated, or no longer so.
func SetIsolated(name string, on bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	return netlink.LinkSetIsolated(link, on)
}

// Hairpin lets a bridge's port send frames back where they came from.
func Hairpin(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	return netlink.LinkSetHairpin(link, true)
}
