package bridge

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"muelle/internal/linux/nft"
	"muelle/internal/netdriver"
)

// A port that several containers share has a chain of its own, reached through the map
// "shared" (protocol . port → goto): a rule for each of its addresses of the host gives
// every new connection to the next target in turn. Datagrams go by a hash of where they
// come from, so that a client's stay together beyond the time that a flow is tracked.
//
// Each target has a chain too, which translates. Where a container ends while no daemon is
// there, its shim empties that (see Farewell): what comes back from it is given to the
// first target whose chain is not empty. A daemon that starts writes all of it anew.

// shareKey identifies such a chain.
type shareKey struct {
	protocol string
	port     uint16
}

func (k shareKey) chain() string { return "shared-" + k.protocol + "-" + strconv.Itoa(int(k.port)) }

// target is the name of a target's chain; one of IPv6 is written in hexadecimal digits.
func (k shareKey) target(t netip.AddrPort) string {
	addr := t.Addr().String()
	if t.Addr().Is6() {
		addr = hex.EncodeToString(t.Addr().AsSlice())
	}
	return k.chain() + "-" + addr + "-" + strconv.Itoa(int(t.Port()))
}

func (k shareKey) element() nftables.SetElement {
	m := netdriver.Mapping{Protocol: k.protocol, Host: netip.AddrPortFrom(netip.IPv4Unspecified(), k.port)}
	return nftables.SetElement{Key: elementKey(m), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: k.chain()}}
}

func shared(m netdriver.Mapping) bool { return len(m.Targets) > 1 && !relayed(m) }

// share writes the chains of the changed ports anew; ports is what shall be published.
func (t *table) share(c *nftables.Conn, ports map[portKey]netdriver.Mapping, changed []netdriver.Mapping) error {
	want := map[shareKey][]netdriver.Mapping{}
	for _, p := range changed {
		key := shareKey{p.Protocol, p.Host.Port()}
		if shared(p) || t.chains[key] != nil {
			want[key] = nil
		}
	}
	if len(want) == 0 {
		return nil
	}
	for _, p := range ports {
		key := shareKey{p.Protocol, p.Host.Port()}
		if _, ok := want[key]; ok && shared(p) {
			want[key] = append(want[key], p)
		}
	}
	for key, list := range want {
		if err := t.writeShare(c, key, list); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) writeShare(c *nftables.Conn, key shareKey, list []netdriver.Mapping) error {
	chain := &nftables.Chain{Name: key.chain(), Table: t.table}
	element := []nftables.SetElement{key.element()}
	before, written := t.chains[key]
	var err error
	if len(list) == 0 {
		if !written {
			return nil
		}
		delete(t.chains, key)
		err = c.SetDeleteElements(t.shared, element)
	} else {
		c.AddChain(chain)
	}
	c.FlushChain(chain)
	// An address of its own comes before all of them.
	slices.SortFunc(list, func(a, b netdriver.Mapping) int { return b.Host.Addr().Compare(a.Host.Addr()) })
	targets := t.writeTargets(c, key, list)
	for _, m := range list {
		if err := t.spread(c, chain, key, m); err != nil {
			return err
		}
	}
	for _, name := range before {
		if !slices.Contains(targets, name) {
			c.FlushChain(&nftables.Chain{Name: name, Table: t.table})
			c.DelChain(&nftables.Chain{Name: name, Table: t.table})
		}
	}
	if len(list) == 0 {
		c.DelChain(chain)
		return err
	}
	t.chains[key] = targets
	if written {
		return nil
	}
	return c.SetAddElements(t.shared, element)
}

// writeTargets writes the chains of all targets of a shared port, and gives their names.
func (t *table) writeTargets(c *nftables.Conn, key shareKey, list []netdriver.Mapping) (names []string) {
	for _, m := range list {
		for _, target := range m.Targets {
			name := key.target(target)
			if slices.Contains(names, name) {
				continue
			}
			names = append(names, name)
			chain := c.AddChain(&nftables.Chain{Name: name, Table: t.table})
			c.FlushChain(chain)
			to := nft.Rule(nft.IPv4(), nft.DNAT(target.Addr().AsSlice(), target.Port()))
			if target.Addr().Is6() {
				to = nft.Rule(nft.IPv6(), nft.DNAT6(target.Addr().AsSlice(), target.Port()))
			}
			c.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: to})
		}
	}
	return names
}

// spread writes the rules that give what comes for a host's address to the targets: each
// in turn, and where that one has ended, the first that has not.
func (t *table) spread(c *nftables.Conn, chain *nftables.Chain, key shareKey, m netdriver.Mapping) error {
	host, n := m.Host.Addr(), len(m.Targets)
	turns := &nftables.Set{Table: t.table, Anonymous: true, Constant: true, IsMap: true,
		KeyType: nftables.TypeInteger, KeyByteOrder: binaryutil.NativeEndian, DataType: nftables.TypeVerdict}
	elements := make([]nftables.SetElement, 0, n)
	for i, target := range m.Targets {
		elements = append(elements, nftables.SetElement{
			Key: binaryutil.NativeEndian.PutUint32(uint32(i)), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: key.target(target)},
		})
	}
	if err := c.AddSet(turns, elements); err != nil {
		return err
	}
	by := nft.ByTurn(turns, n)
	switch {
	case m.Protocol == "udp" && host.Is6():
		by = nft.BySource6(turns, n)
	case m.Protocol == "udp":
		by = nft.BySource(turns, n)
	}
	c.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: nft.Rule(forHost(host), by)})
	for _, target := range m.Targets {
		c.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: nft.Rule(forHost(host), nft.Jump(key.target(target)))})
	}
	return nil
}

// forHost matches what comes for an address of the host, or for any of a family.
func forHost(host netip.Addr) nft.Expr {
	switch {
	case host.Is6() && host.IsUnspecified():
		return nft.Rule(nft.IPv6(), nft.ToLocal())
	case host.Is6():
		return nft.To6(host.AsSlice())
	case !host.IsUnspecified():
		return nft.To(host.AsSlice())
	}
	return nft.Rule(nft.IPv4(), nft.ToLocal())
}

func targetType(host netip.Addr) nftables.SetDatatype {
	if host.Is6() {
		return nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)
	}
	return nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
}
