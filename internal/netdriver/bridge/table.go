package bridge

import (
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"

	"muelle/internal/linux/nft"
	"muelle/internal/netdriver"
)

// table is the shape of our nftables table:
//
//	set bridges     names of our bridges
//	set same        bridge . bridge: what enters and leaves by one bridge
//	set internal    bridges of internal networks
//	set separate    bridges whose containers do not talk to each other
//	set masquerade  bridges whose containers reach the world with the host's address
//	map ports           protocol . port → address . port, for every address of the host
//	map address_ports   address . protocol . port → address . port
//	set self            address . address: containers with published ports
//	ports6, address_ports6, self6   the same for IPv6
//	map shared          protocol . port → the chain that spreads it over several containers
//	sets of hostSets    the addresses of our bridges
//	sets of accessSets  gateway modes
type table struct {
	table                                           *nftables.Table
	bridges, same, internal, separate, masquerading *nftables.Set
	ports, addressPorts, self                       *nftables.Set
	ports6, addressPorts6, self6, shared            *nftables.Set
	forwarding                                      *nftables.Chain
	// zones are the sets of zones, nil where no bridge has one.
	zones *zoneTable
	// relays are nil where no network cares.
	relays *relayTable
	host   hostSets
	access accessSets
	// chains are those of shared ports that are in the kernel, each with its targets'.
	chains map[shareKey][]string
	// forwards6: the host forwards IPv6, and what comes from others is translated.
	forwards6 bool
}

func newTable(name string) *table {
	t := &table{table: &nftables.Table{Name: name, Family: nftables.TableFamilyINet}, chains: map[shareKey][]string{}}
	t.host, t.access = newHostSets(t.table), newAccessSets(t.table)
	t.forwarding = &nftables.Chain{Name: "forward", Table: t.table}
	names := func(name string) *nftables.Set {
		// The byte order is for those who list the table: names are text.
		return &nftables.Set{Table: t.table, Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	}
	t.bridges, t.internal, t.separate, t.masquerading = names("bridges"), names("internal"), names("separate"), names("masquerade")
	t.same = &nftables.Set{Table: t.table, Name: "same", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)}
	set := func(name string, key ...nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t.table, Name: name, Concatenation: true, KeyType: nftables.MustConcatSetType(key...)}
	}
	toMap := func(s *nftables.Set, data nftables.SetDatatype) *nftables.Set {
		s.IsMap, s.DataType = true, data
		return s
	}
	proto, port, ip, ip6 := nftables.TypeInetProto, nftables.TypeInetService, nftables.TypeIPAddr, nftables.TypeIP6Addr
	target, target6 := targetType(netip.IPv4Unspecified()), targetType(netip.IPv6Unspecified())
	t.ports, t.ports6 = toMap(set("ports", proto, port), target), toMap(set("ports6", proto, port), target6)
	t.addressPorts = toMap(set("address_ports", ip, proto, port), target)
	t.addressPorts6 = toMap(set("address_ports6", ip6, proto, port), target6)
	t.shared = toMap(set("shared", proto, port), nftables.TypeVerdict)
	t.self, t.self6 = set("self", ip, ip), set("self6", ip6, ip6)
	return t
}

// write adds sets, chains, rules and elements to the transaction.
func (t *table) write(c *nftables.Conn, bridges map[string]bridgeRules, ports map[portKey]netdriver.Mapping) error {
	for _, s := range append(t.access.all(), t.bridges, t.same, t.internal, t.separate, t.masquerading, t.ports, t.addressPorts, t.self,
		t.ports6, t.addressPorts6, t.self6, t.shared,
		t.host.gateways4, t.host.gateways6, t.host.own4, t.host.own6) {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	for _, b := range bridges {
		if err := t.eachSet(b, c.SetAddElements); err != nil {
			return err
		}
	}
	list := make([]netdriver.Mapping, 0, len(ports))
	for _, p := range ports {
		list = append(list, p)
	}
	if err := errors.Join(t.eachPort(list, c.SetAddElements), t.eachTarget(list, c.SetAddElements), t.share(c, ports, list)); err != nil {
		return err
	}
	t.raw(c)
	t.origin(c)
	t.guardHost(c)
	t.forward(c)
	t.translate(c)
	return nil
}

// eachSet calls f with the element of a bridge for every set that it belongs to.
func (t *table) eachSet(b bridgeRules, f func(*nftables.Set, []nftables.SetElement) error) error {
	name := nft.Name(b.name)
	for _, m := range []struct {
		in  bool
		set *nftables.Set
	}{{true, t.bridges}, {b.internal, t.internal}, {!b.icc, t.separate}, {b.masquerade, t.masquerading}} {
		if m.in {
			if err := f(m.set, []nftables.SetElement{{Key: name}}); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(t.host.eachGateway(b, f), t.access.each(b, f)); err != nil {
		return err
	}
	return f(t.same, []nftables.SetElement{{Key: append(append([]byte{}, name...), name...)}})
}

func (t *table) chain(c *nftables.Conn, name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) func(...nft.Expr) {
	accept := nftables.ChainPolicyAccept
	chain := c.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: kind, Hooknum: hook, Priority: &priority, Policy: &accept})
	return func(parts ...nft.Expr) {
		c.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: nft.Rule(parts...)})
	}
}

// raw: with route_localnet on the bridges, 127.0.0.0/8 stays the host's own. Before
// connection tracking the answers of published ports still carry the bridge's address.
func (t *table) raw(c *nftables.Conn) {
	rule := t.chain(c, "raw-prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300)
	rule(nft.IIFIn(t.bridges), nft.ToLoopback(), nft.Drop())
	rule(nft.IIFIn(t.bridges), nft.FromLoopback(), nft.Drop())
	t.guardGateways(rule)
}

// origin: nobody from elsewhere speaks as a container. Where a packet comes in, because
// before Linux 5.19 the route back can be asked for nowhere else.
func (t *table) origin(c *nftables.Conn) {
	rule := t.chain(c, "origin", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150)
	rule(nft.Established(), nft.Accept())
	rule(nft.NotIIF("lo"), nft.IIFNotIn(t.bridges), nft.ClaimsRouteTo(t.bridges), nft.Drop())
}

// forward: inside a network everything (unless separate), into a network only what
// was published, out of it everything unless internal, and nothing between two.
func (t *table) forward(c *nftables.Conn) {
	rule := t.chain(c, t.forwarding.Name, nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	// An error about somebody else's connection, from another network than its own: between
	// two networks there are only those to published ports.
	rule(nft.IIFIn(t.bridges), nft.OIFIn(t.bridges), nft.PairNotIn(t.same), nft.Related(), nft.NotTranslated(), nft.Drop())
	rule(nft.IIFIn(t.bridges), nft.Established(), nft.Accept())
	rule(nft.OIFIn(t.bridges), nft.Established(), nft.Accept())
	if t.zones != nil {
		t.zones.published(t, rule)
	}
	rule(nft.PairIn(t.same), nft.IIFIn(t.separate), nft.Drop())
	rule(nft.PairIn(t.same), nft.Accept())
	rule(nft.IIFIn(t.internal), nft.Drop())
	rule(nft.OIFIn(t.internal), nft.Drop())
	rule(nft.OIFIn(t.bridges), nft.Translated(), nft.Accept())
	t.admit(rule)
	rule(nft.OIFIn(t.bridges), nft.Drop())
	// What is not tracked is not translated: it would leave with the container's own address.
	rule(nft.IIFIn(t.masquerading), nft.Invalid(), nft.Drop())
	rule(nft.IIFIn(t.bridges), nft.Accept())
}

// translate: what comes from outside for 127.0.0.1 is not translated, wherever
// somebody set route_localnet (a port published on 127.0.0.1 is this host's alone).
func (t *table) translate(c *nftables.Conn) {
	pre := t.chain(c, "prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100)
	pre(nft.NotIIF("lo"), nft.ToLoopback(), nft.Return())
	if !t.forwards6 {
		// What could not be forwarded is the relay's.
		pre(nft.IPv6(), nft.Return())
	}
	t.destinations(pre)
	out := t.chain(c, "output", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100)
	t.destinations(out)
	post := t.chain(c, "postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100)
	post(nft.OIFIn(t.bridges), nft.FromLoopback(), nft.Masquerade())
	// This host asks at a bridge's address for a port of a container on another, that may be
	// on this one too: by which the answer would go, from an address that is none of it.
	post(nft.OIFIn(t.bridges), nft.From4In(t.host.gateways4), nft.Translated(), nft.Masquerade())
	post(nft.OIFIn(t.bridges), nft.From6In(t.host.gateways6), nft.Translated(), nft.Masquerade())
	// A container that asks for a published port, of its own network or of a container that
	// is on its network too, by which the answer would go: it must come back this way.
	post(nft.IIFIn(t.bridges), nft.OIFIn(t.bridges), nft.Translated(), nft.Masquerade())
	// Frames translated inside a bridge (bridge-nf-call-iptables) come without iifname:
	// there the answer finds its way, unless the container asked for itself.
	post(nft.BetweenIn(t.self), nft.Translated(), nft.Masquerade())
	post(nft.BetweenIn6(t.self6), nft.Translated(), nft.Masquerade())
	t.leave(post)
	post(nft.IIFIn(t.masquerading), nft.OIFNotIn(t.bridges), nft.Masquerade())
}

// destinations are the published ports. From ::1 and link-local addresses of IPv6 no
// packet can be sent on: there the relay that holds the port answers.
func (t *table) destinations(rule func(...nft.Expr)) {
	rule(nft.To6(netip.IPv6Loopback().AsSlice()), nft.Return())
	rule(nft.ToLinkLocal6(), nft.Return())
	rule(nft.VerdictByPort(t.shared))
	rule(nft.IPv4(), nft.DNATByAddress(t.addressPorts))
	rule(nft.IPv4(), nft.ToLocal(), nft.DNATByPort(t.ports))
	rule(nft.IPv6(), nft.DNATByAddress6(t.addressPorts6))
	rule(nft.IPv6(), nft.ToLocal(), nft.DNATByPort6(t.ports6))
}

// guardChains exist where we switched forwarding on; so the next daemon, or another
// instance that leaves later, knows.
var guardChains = [2]string{"forwarding-guard", "forwarding-guard6"}

// guard keeps this host from becoming a router of a family for others because of us.
// What comes from the forced has always been sent on.
func (t *table) guard(c *nftables.Conn, family int, docker bool, forced []string) {
	rule := t.chain(c, guardChains[family], nftables.ChainTypeFilter, nftables.ChainHookForward, 10)
	rule(nft.IIFIn(t.bridges), nft.Accept())
	rule(nft.OIFIn(t.bridges), nft.Accept())
	prefixes := []string{"mue"} // other instances
	if docker {
		prefixes = append(prefixes, "docker", "br-")
	}
	for _, p := range prefixes {
		rule(nft.IIFPrefix(p), nft.Accept())
		rule(nft.OIFPrefix(p), nft.Accept())
	}
	for _, name := range forced {
		rule(nft.IIF(name), nft.Accept())
	}
	rule(nft.Family(family == 1), nft.Drop())
}
