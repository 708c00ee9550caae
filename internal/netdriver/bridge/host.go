package bridge

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"muelle/internal/linux/nft"
)

// hostSets hold the addresses of our bridges on this host:
//
//	gateways4, gateways6  address
//	own4, own6            bridge . address
type hostSets struct {
	gateways4, gateways6, own4, own6 *nftables.Set
}

func newHostSets(t *nftables.Table) hostSets {
	set := func(name string, types ...nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: t, Name: name, KeyType: types[0]}
		if len(types) > 1 {
			s.Concatenation, s.KeyType = true, nftables.MustConcatSetType(types...)
		}
		return s
	}
	return hostSets{
		gateways4: set("gateways4", nftables.TypeIPAddr), gateways6: set("gateways6", nftables.TypeIP6Addr),
		own4: set("own4", nftables.TypeIFName, nftables.TypeIPAddr), own6: set("own6", nftables.TypeIFName, nftables.TypeIP6Addr),
	}
}

func (h hostSets) eachGateway(b bridgeRules, f func(*nftables.Set, []nftables.SetElement) error) error {
	for _, a := range b.gateways {
		all, own := h.gateways4, h.own4
		if a.Is6() {
			all, own = h.gateways6, h.own6
		}
		if err := f(all, []nftables.SetElement{{Key: a.AsSlice()}}); err != nil {
			return err
		}
		if err := f(own, []nftables.SetElement{{Key: append(nft.Name(b.name), a.AsSlice()...)}}); err != nil {
			return err
		}
	}
	return nil
}

// holdsGateway tells whether an element is the address of a bridge, whichever.
func (h hostSets) holdsGateway(s *nftables.Set, e nftables.SetElement, bridges map[string]bridgeRules) bool {
	if s != h.gateways4 && s != h.gateways6 {
		return false
	}
	for _, b := range bridges {
		if slices.ContainsFunc(b.gateways, func(a netip.Addr) bool { return bytes.Equal(a.AsSlice(), e.Key) }) {
			return true
		}
	}
	return false
}

// guardHost: a bridge's address is for the containers on it and for this host, not
// for containers of other networks nor for other machines, whatever route they set.
// What is published has been translated before.
func (t *table) guardHost(c *nftables.Conn) {
	h := t.host
	rule := t.chain(c, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0)
	rule(nft.Established(), nft.Accept())
	rule(nft.IIFIn(t.bridges), nft.To4In(h.gateways4), nft.OwnAddress4(h.own4, true), nft.Drop())
	rule(nft.IIFIn(t.bridges), nft.To6In(h.gateways6), nft.OwnAddress6(h.own6, true), nft.Drop())
}

// guardGateways drops before any translation what comes for a bridge's address from
// an interface that is not ours.
func (t *table) guardGateways(rule func(...nft.Expr)) {
	foreign := append(nft.NotIIF("lo"), nft.IIFNotIn(t.bridges)...)
	rule(foreign, nft.To4In(t.host.gateways4), nft.Drop())
	rule(foreign, nft.To6In(t.host.gateways6), nft.Drop())
}
