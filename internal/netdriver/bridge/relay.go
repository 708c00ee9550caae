package bridge

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/nft"
	"muelle/internal/netdriver"
)

// What comes by IPv6 and is not translated (to [::1] or a link-local address, to a
// container without IPv6, from others where the host forwards no IPv6) reaches the
// socket that holds the port, whose process relays it: then the container sees this
// host. Who may use a relay is therefore decided at the input hook.

// Chains that a relayed port leads to, by the zone of its containers.
const (
	relayOpen = "relay-open" // no zone says anything
	relayLAN  = "relay-lan"
	relayShut = "relay-shut" // to all but this host
)

// relayTable are the maps of relayed ports, there while a network is internal or has a
// zone that says who it publishes to:
//
//	relays      protocol . port → chain, on every address
//	relays_at   address . protocol . port → chain
//	relays_own  bridge . protocol . port: the zone that it leads to
//	relays_held protocol . port: those that lead to zones
type relayTable struct{ all, at, own, held *nftables.Set }

func (r *relayTable) sets() []*nftables.Set { return []*nftables.Set{r.all, r.at, r.own, r.held} }

func newRelayTable(t *nftables.Table) *relayTable {
	set := func(name string, verdicts bool, key ...nftables.SetDatatype) *nftables.Set {
		s := &nftables.Set{Table: t, Name: name, Concatenation: true, KeyType: nftables.MustConcatSetType(key...), IsMap: verdicts}
		if verdicts {
			s.DataType = nftables.TypeVerdict
		} else if key[0].Name == nftables.TypeIFName.Name {
			s.KeyByteOrder = binaryutil.NativeEndian
		}
		return s
	}
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	return &relayTable{
		all: set("relays", true, proto, port), at: set("relays_at", true, nftables.TypeIP6Addr, proto, port),
		own:  set("relays_own", false, nftables.TypeIFName, proto, port),
		held: set("relays_held", false, proto, port),
	}
}

// relaysMatter tells whether any network cares who uses relays.
func (f *firewall) relaysMatter() bool {
	return slices.ContainsFunc(sortedBridges(f.bridges), bridgeRules.caresForRelays)
}

func (b bridgeRules) caresForRelays() bool { return b.internal || b.zone.zone.Publish != "" }

// writeRelays adds maps and rules, after the table's other sets.
func (f *firewall) writeRelays(c *nftables.Conn, t *table) error {
	if !f.relaysMatter() {
		return nil
	}
	r := newRelayTable(t.table)
	t.relays = r
	for _, name := range []string{relayOpen, relayLAN, relayShut} {
		c.AddChain(&nftables.Chain{Name: name, Table: t.table})
	}
	for _, s := range r.sets() {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	t.relayChains(c)
	ports := make([]netdriver.Mapping, 0, len(f.ports))
	for _, p := range f.ports {
		ports = append(ports, p)
	}
	return f.eachRelay(r, ports, c.SetAddElements)
}

func (t *table) relayChains(c *nftables.Conn) {
	rule := t.chain(c, "relay-input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0)
	// What comes in by another interface than lo is nobody's of this host, whatever its source.
	// Nor is what connection tracking makes nothing of, as of SCTP that was ended and goes on.
	outside := nft.Rule(nft.Family(true), nft.Begins(), nft.NotIIF("lo"))
	rule(outside, nft.IIFServiceIn(t.relays.own), nft.Accept())
	rule(outside, nft.VerdictByAddressPort6(t.relays.at))
	rule(outside, nft.VerdictByPort(t.relays.all))
	// A connection that was ended begins anew with nothing that the relay sends.
	out := t.chain(c, "relay-output", nftables.ChainTypeFilter, nftables.ChainHookOutput, 0)
	out(nft.Family(true), nft.Fresh(), nft.L4Proto(unix.IPPROTO_TCP), nft.FromServiceIn(t.relays.held), nft.Drop())
	out(nft.Family(true), nft.Begins(), nft.L4Proto(unix.IPPROTO_SCTP), nft.FromServiceIn(t.relays.held), nft.Drop())
	in := func(chain string, parts ...nft.Expr) {
		c.AddRule(&nftables.Rule{Table: t.table, Chain: &nftables.Chain{Name: chain, Table: t.table}, Exprs: nft.Rule(parts...)})
	}
	// A relay is no way out of an internal network, as a translated port is none.
	in(relayOpen, nft.IIFIn(t.internal), nft.Drop())
	// Other networks' containers are not on the LAN.
	in(relayLAN, nft.IIFIn(t.bridges), nft.Drop())
	in(relayLAN, nft.FromLinkLocal6(), nft.Accept())
	if t.zones != nil {
		in(relayLAN, nft.IIFFromNotIn(t.zones.lan[1], true), nft.Drop())
	}
	in(relayShut, nft.Drop())
}

// eachRelay calls g with the elements of the mappings that a relay may serve.
func (f *firewall) eachRelay(r *relayTable, ports []netdriver.Mapping, g func(*nftables.Set, []nftables.SetElement) error) error {
	elements := map[*nftables.Set][]nftables.SetElement{}
	seen := map[string]bool{}
	note := func(s *nftables.Set, key []byte) {
		if id := s.Name + "\x00" + string(key); !seen[id] {
			seen[id] = true
			elements[s] = append(elements[s], nftables.SetElement{Key: key})
		}
	}
	for _, p := range ports {
		host := p.Host.Addr()
		if !host.Is6() || host.IsLoopback() || len(p.Targets) == 0 {
			continue
		}
		chain, zone := relayOpen, f.zoneOfTarget(p.Targets[0].Addr())
		switch {
		case zone == "":
		case f.bridges[zone].zone.zone.Publish == api.ZoneLAN:
			chain = relayLAN
		case f.bridges[zone].zone.zone.Publish != api.ZoneAny:
			chain = relayShut
		}
		m := r.all
		if !host.IsUnspecified() {
			m = r.at
		}
		elements[m] = append(elements[m], nftables.SetElement{Key: elementKey(p), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}})
		if zone != "" {
			note(r.held, service(p.Protocol, p.Host.Port()))
			note(r.own, slices.Concat(nft.Name(zone), service(p.Protocol, p.Host.Port())))
		}
	}
	return inPortions(elements, g)
}

// zoneOfTarget is the bridge with a zone that says who it publishes to that an address
// is on, or empty.
func (f *firewall) zoneOfTarget(a netip.Addr) string {
	for _, b := range f.bridges {
		if b.zone.zone.Publish != "" && b.zone.has(a) {
			return b.name
		}
	}
	return ""
}

// relayed tells whether a mapping is served by a relay only: its containers have no
// address of the family.
func relayed(m netdriver.Mapping) bool {
	return slices.ContainsFunc(m.Targets, func(t netip.AddrPort) bool { return t.Addr().Is4() != m.Host.Addr().Is4() })
}

// elementChange is a change of a set whose elements several mappings may have in common.
type elementChange struct {
	c    *nftables.Conn
	left map[string]bool
}

func (e *elementChange) note(s *nftables.Set, list []nftables.SetElement) error {
	for _, x := range list {
		e.left[s.Name+"\x00"+string(x.Key)] = true
	}
	return nil
}

func (e *elementChange) remove(s *nftables.Set, list []nftables.SetElement) error {
	list = slices.DeleteFunc(list, func(x nftables.SetElement) bool { return e.left[s.Name+"\x00"+string(x.Key)] })
	if len(list) == 0 {
		return nil
	}
	return e.c.SetDeleteElements(s, list)
}

// changeRelays follows a change of published ports; f.ports is what shall be.
func (f *firewall) changeRelays(c *nftables.Conn, removed, added []netdriver.Mapping) error {
	r := f.t.relays
	if r == nil {
		return nil
	}
	e := &elementChange{c, map[string]bool{}}
	all := make([]netdriver.Mapping, 0, len(f.ports))
	for _, p := range f.ports {
		all = append(all, p)
	}
	return errors.Join(f.eachRelay(r, all, e.note), f.eachRelay(r, removed, e.remove), f.eachRelay(r, added, c.SetAddElements))
}
