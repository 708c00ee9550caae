package bridge

import (
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

// shareKey identifies such a chain.
type shareKey struct {
	protocol string
	port     uint16
}

func (k shareKey) chain() string { return "shared-" + k.protocol + "-" + strconv.Itoa(int(k.port)) }

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
		if shared(p) || t.chains[key] {
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
	if len(list) == 0 {
		if !t.chains[key] {
			return nil
		}
		delete(t.chains, key)
		err := c.SetDeleteElements(t.shared, element)
		c.FlushChain(chain)
		c.DelChain(chain)
		return err
	}
	c.AddChain(chain)
	c.FlushChain(chain)
	// An address of its own comes before all of them.
	slices.SortFunc(list, func(a, b netdriver.Mapping) int { return b.Host.Addr().Compare(a.Host.Addr()) })
	for _, m := range list {
		rule, err := t.spread(c, m)
		if err != nil {
			return err
		}
		c.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: rule})
	}
	if t.chains[key] {
		return nil
	}
	t.chains[key] = true
	return c.SetAddElements(t.shared, element)
}

// spread is the rule that gives what comes for a host's address to the targets.
func (t *table) spread(c *nftables.Conn, m netdriver.Mapping) (nft.Expr, error) {
	host, n := m.Host.Addr(), len(m.Targets)
	targets := &nftables.Set{Table: t.table, Anonymous: true, Constant: true, IsMap: true,
		KeyType: nftables.TypeInteger, KeyByteOrder: binaryutil.NativeEndian, DataType: targetType(host)}
	elements := make([]nftables.SetElement, 0, n)
	for i, target := range m.Targets {
		elements = append(elements, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(i)), Val: elementTarget(target)})
	}
	if err := c.AddSet(targets, elements); err != nil {
		return nil, err
	}
	match := nft.Rule(nft.IPv4(), nft.ToLocal())
	switch {
	case host.Is6() && host.IsUnspecified():
		match = nft.Rule(nft.IPv6(), nft.ToLocal())
	case host.Is6():
		match = nft.To6(host.AsSlice())
	case !host.IsUnspecified():
		match = nft.To(host.AsSlice())
	}
	by := map[bool]func(*nftables.Set, int) nft.Expr{false: nft.DNATByTurn, true: nft.DNATByTurn6}
	if m.Protocol == "udp" {
		by = map[bool]func(*nftables.Set, int) nft.Expr{false: nft.DNATBySource, true: nft.DNATBySource6}
	}
	return nft.Rule(match, by[host.Is6()](targets, n)), nil
}

func targetType(host netip.Addr) nftables.SetDatatype {
	if host.Is6() {
		return nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)
	}
	return nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)
}
