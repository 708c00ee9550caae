package bridge

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/nftables"

	"muelle/internal/linux/nft"
	"muelle/internal/netdriver"
)

// Gateway modes of one address family, as Docker names them.
const (
	modeNAT         = "nat"
	modeUnprotected = "nat-unprotected"
	modeRouted      = "routed"
	modeIsolated    = "isolated"
)

func checkMode(s string) error {
	switch s {
	case modeNAT, modeUnprotected, modeRouted, modeIsolated:
		return nil
	}
	return fmt.Errorf("want %s, %s, %s or %s", modeNAT, modeUnprotected, modeRouted, modeIsolated)
}

// access is how the world and a network's containers find each other, for IPv4 and
// for IPv6.
type access struct {
	modes [2]string
	// sources stand for the containers outside, where they are not the address of the
	// interface that packets leave by.
	sources [2]netip.Addr
	// trusted are interfaces of this host from which containers' published ports may be
	// asked for at the containers' own addresses.
	trusted []string
}

// addressless tells whether the bridge has no address of a family.
func (o options) addressless(six bool) bool {
	if six {
		return o.access.modes[1] == modeIsolated
	}
	return o.inhibit4 || o.access.modes[0] == modeIsolated
}

// Gateway tells whether a network's bridge is its containers' way out of a family.
func Gateway(opts map[string]string, six bool) bool {
	o, err := parse(opts)
	return err == nil && o.access.modes[index(six)] != modeIsolated
}

func index(six bool) int {
	if six {
		return 1
	}
	return 0
}

// Direct tells whether published ports of a family are at the container's own address:
// instead of at the host's, or for trusted interfaces as well.
func Direct(opts map[string]string, six bool) (instead, too bool) {
	o, err := parse(opts)
	if err != nil {
		return false, false
	}
	return o.access.modes[index(six)] == modeRouted, len(o.access.trusted) > 0
}

// own are the subnets' gateways that are addresses of the bridge.
func (o options) own(n netdriver.Network) (list []netip.Addr) {
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() && !o.addressless(s.Gateway.Is6()) {
			list = append(list, s.Gateway)
		}
	}
	return list
}

// accessSets, of which the second are for IPv6:
//
//	open, open6      bridges whose containers answer at their own addresses, every port
//	routed, routed6  bridges whose containers have addresses that the world routes to
//	source, source6  bridge → address that stands for its containers
//	trusted          interface . bridge
type accessSets struct {
	open, routed, source [2]*nftables.Set
	trusted              *nftables.Set
}

func newAccessSets(t *nftables.Table) (s accessSets) {
	for i, ip := range []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr} {
		suffix := []string{"", "6"}[i]
		s.open[i] = &nftables.Set{Table: t, Name: "open" + suffix, KeyType: nftables.TypeIFName}
		s.routed[i] = &nftables.Set{Table: t, Name: "routed" + suffix, KeyType: nftables.TypeIFName}
		s.source[i] = &nftables.Set{Table: t, Name: "source" + suffix, KeyType: nftables.TypeIFName, IsMap: true, DataType: ip}
	}
	s.trusted = &nftables.Set{Table: t, Name: "trusted", Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)}
	return s
}

func (s accessSets) all() []*nftables.Set {
	return []*nftables.Set{s.open[0], s.open[1], s.routed[0], s.routed[1], s.source[0], s.source[1], s.trusted}
}

func (s accessSets) each(b bridgeRules, f func(*nftables.Set, []nftables.SetElement) error) error {
	name := nft.Name(b.name)
	for i := range 2 {
		var err error
		switch b.access.modes[i] {
		case modeUnprotected:
			err = f(s.open[i], []nftables.SetElement{{Key: name}})
		case modeRouted:
			err = f(s.routed[i], []nftables.SetElement{{Key: name}})
		}
		if err == nil && b.access.sources[i].IsValid() && b.masquerade {
			err = f(s.source[i], []nftables.SetElement{{Key: name, Val: b.access.sources[i].AsSlice()}})
		}
		if err != nil {
			return err
		}
	}
	for _, from := range b.access.trusted {
		if err := f(s.trusted, []nftables.SetElement{{Key: append(nft.Name(from), name...)}}); err != nil {
			return err
		}
	}
	return nil
}

// admit lets the world in to containers' own addresses where their network says so;
// never the containers of other networks.
func (t *table) admit(rule func(...nft.Expr)) {
	outside := nft.IIFNotIn(t.bridges)
	for i, family := range []nft.Expr{nft.IPv4(), nft.IPv6()} {
		published := nft.ToPublished(t.addressPorts)
		echo := nft.L4Proto(nft.ProtoICMP)
		if i == 1 {
			published, echo = nft.ToPublished6(t.addressPorts6), nft.L4Proto(nft.ProtoICMPv6)
		}
		rule(outside, family, nft.OIFIn(t.access.open[i]), nft.Accept())
		rule(outside, family, nft.OIFIn(t.access.routed[i]), echo, nft.Accept())
		rule(outside, family, nft.OIFIn(t.access.routed[i]), published, nft.Accept())
		rule(outside, family, nft.PairIn(t.access.trusted), published, nft.Accept())
	}
}

// leave: containers with addresses that the world knows keep them, others get the one
// that their network names.
func (t *table) leave(rule func(...nft.Expr)) {
	outside := nft.OIFNotIn(t.bridges)
	rule(outside, nft.IPv4(), nft.IIFIn(t.access.routed[0]), nft.Return())
	rule(outside, nft.IPv6(), nft.IIFIn(t.access.routed[1]), nft.Return())
	rule(outside, nft.IPv4(), nft.SNATByIIF(t.access.source[0]))
	rule(outside, nft.IPv6(), nft.SNATByIIF6(t.access.source[1]))
}

func splitNames(s string) ([]string, error) {
	list := strings.Split(s, ":")
	for _, name := range list {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	return list, nil
}
