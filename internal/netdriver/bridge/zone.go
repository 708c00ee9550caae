package bridge

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
	"muelle/internal/netdriver"
	"muelle/internal/policy"
)

// zoneRules is what a network's zone makes of its bridge.
type zoneRules struct {
	zone    api.Zone
	subnets []netip.Prefix
	// gates are the host's addresses in the subnets.
	gates []netip.Addr
}

// zoned tells whether the bridge needs rules that others do not.
func (z zoneRules) zoned() bool { return z.zone.Publish != "" || policy.Restricted(z.zone) }

func (z zoneRules) has(a netip.Addr) bool {
	return slices.ContainsFunc(z.subnets, func(p netip.Prefix) bool { return p.Contains(a) })
}

func zoneOf(n netdriver.Network) zoneRules {
	z := zoneRules{zone: n.Zone}
	for _, s := range n.Subnets {
		z.subnets = append(z.subnets, s.Prefix)
		if s.Gateway.IsValid() {
			z.gates = append(z.gates, s.Gateway)
		}
	}
	return z
}

// hostNames stand for this host in a list of destinations.
var hostNames = []string{"host.docker.internal", "host.muelle.internal"}

// zoneTable are the sets of zones; of two, the second is for IPv6:
//
//	publish_none, publish_host, publish_lan  bridges by who may reach their published ports
//	publish_said   bridges of which this host reaches published ports only
//	admitted       address . protocol . port: containers' ports that are published
//	lan            interface . prefix: what is on the links of this host
//	egress_some    bridges that may send to what the next sets have only
//	egress_own     bridge . prefix: the subnets of the bridge
//	egress_gate    bridge . address: this host, where it was not asked for
//	egress_static  bridge . prefix: addresses asked for
//	egress_names   bridge . address, until: what names asked for stand for
//	lookups        protocol . port of name servers
type zoneTable struct {
	none, host, lanOnly, said, some             *nftables.Set
	lookups                                     *nftables.Set
	admitted, lan, own, gate, static, following [2]*nftables.Set
}

func (z *zoneTable) sets() []*nftables.Set {
	all := []*nftables.Set{z.none, z.host, z.lanOnly, z.said, z.some, z.lookups}
	for _, pair := range [][2]*nftables.Set{z.admitted, z.lan, z.own, z.gate, z.static, z.following} {
		all = append(all, pair[0], pair[1])
	}
	return all
}

func newZoneTable(t *nftables.Table) *zoneTable {
	name, proto, port := nftables.TypeIFName, nftables.TypeInetProto, nftables.TypeInetService
	names := func(s string) *nftables.Set {
		return &nftables.Set{Table: t, Name: s, KeyType: name, KeyByteOrder: binaryutil.NativeEndian}
	}
	concat := func(s string, key ...nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: s, Concatenation: true, KeyType: nftables.MustConcatSetType(key...)}
	}
	z := &zoneTable{
		none: names("publish_none"), host: names("publish_host"), lanOnly: names("publish_lan"), said: names("publish_said"), some: names("egress_some"),
		lookups: concat("lookups", proto, port),
	}
	for i, ip := range []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr} {
		suffix := []string{"", "6"}[i]
		z.admitted[i] = concat("admitted"+suffix, ip, proto, port)
		z.lan[i] = concat("lan"+suffix, name, ip)
		z.own[i] = concat("egress_own"+suffix, name, ip)
		z.gate[i] = concat("egress_gate"+suffix, name, ip)
		z.static[i] = concat("egress_static"+suffix, name, ip)
		for _, s := range []*nftables.Set{z.own[i], z.static[i], z.lan[i]} {
			s.Interval = true
			inWords(&s.KeyType)
		}
		z.following[i] = concat("egress_names"+suffix, name, ip)
		z.following[i].HasTimeout = true
	}
	return z
}

// inWords has the kernel take a key of intervals for fields of four bytes, in which a
// prefix is a range each, and leaves its type to who reads the table. With fields of 16
// bytes Linux before 6.15 (and 6.1.134, 5.10.236) does not look at their sixth byte on
// processors with AVX2: "nft_set_pipapo: fix incorrect avx2 match of 5th field octet".
func inWords(key *nftables.SetDatatype) {
	words := make([]string, key.Bytes/4)
	for i := range words {
		words[i] = nftables.TypeIPAddr.Name
	}
	key.Name = strings.Join(words, " . ")
}

// writeZones adds what zones need to the table, where any bridge has one.
func (f *firewall) writeZones(c *nftables.Conn, t *table) error {
	if !f.zoned() {
		return nil
	}
	z := newZoneTable(t.table)
	t.zones = z
	for _, s := range z.sets() {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	var errs []error
	for _, b := range sortedBridges(f.bridges) {
		errs = append(errs, z.eachBridge(b, c.SetAddElements))
	}
	errs = append(errs, z.addLAN(c, f.lan), f.writeNames(c, z), c.SetAddElements(z.lookups, lookupPorts()))
	ports := make([]netdriver.Mapping, 0, len(f.ports))
	for _, p := range f.ports {
		ports = append(ports, p)
	}
	errs = append(errs, f.eachAdmitted(z, ports, c.SetAddElements))
	z.leaving(t, c)
	z.local(t, c)
	return errors.Join(errs...)
}

// zoned tells whether any bridge has a zone.
func (f *firewall) zoned() bool {
	return slices.ContainsFunc(sortedBridges(f.bridges), func(b bridgeRules) bool { return b.zone.zoned() })
}

func sortedBridges(all map[string]bridgeRules) (list []bridgeRules) {
	for _, b := range all {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b bridgeRules) int { return strings.Compare(a.name, b.name) })
	return list
}

// eachBridge calls f with the elements of a bridge.
func (z *zoneTable) eachBridge(b bridgeRules, f func(*nftables.Set, []nftables.SetElement) error) error {
	name := nft.Name(b.name)
	r := b.zone
	var errs []error
	for _, m := range []struct {
		in  bool
		set *nftables.Set
	}{
		{r.zone.Publish == api.ZoneNone, z.none}, {r.zone.Publish == api.ZoneHost, z.host}, {r.zone.Publish == api.ZoneLAN, z.lanOnly},
		{r.zone.Publish != "", z.said}, {policy.Restricted(r.zone), z.some},
	} {
		if m.in {
			errs = append(errs, f(m.set, []nftables.SetElement{{Key: name}}))
		}
	}
	if !policy.Restricted(r.zone) {
		return errors.Join(errs...)
	}
	static, names := policy.Destinations(r.zone)
	asked := slices.ContainsFunc(names, func(n string) bool { return slices.Contains(hostNames, n) })
	for i := range 2 {
		var own, gates, wanted []nftables.SetElement
		for _, p := range disjoint(r.subnets, i == 1) {
			own = append(own, prefixElement(name, p))
		}
		for _, p := range disjoint(static, i == 1) {
			wanted = append(wanted, prefixElement(name, p))
		}
		for _, a := range r.gates {
			if a.Is6() == (i == 1) && !asked && !slices.ContainsFunc(static, func(p netip.Prefix) bool { return p.Contains(a) }) {
				gates = append(gates, nftables.SetElement{Key: slices.Concat(name, a.AsSlice())})
			}
		}
		for set, elements := range map[*nftables.Set][]nftables.SetElement{z.own[i]: own, z.gate[i]: gates, z.static[i]: wanted} {
			if len(elements) > 0 {
				errs = append(errs, f(set, elements))
			}
		}
	}
	return errors.Join(errs...)
}

// prefixElement is name . prefix in a set of intervals.
func prefixElement(name []byte, p netip.Prefix) nftables.SetElement {
	return nftables.SetElement{Key: slices.Concat(name, p.Masked().Addr().AsSlice()), KeyEnd: slices.Concat(name, last(p).AsSlice())}
}

// last is the highest address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// disjoint gives the prefixes of one family without those that others cover: the
// kernel refuses intervals that overlap.
func disjoint(list []netip.Prefix, six bool) (out []netip.Prefix) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if d := a.Bits() - b.Bits(); d != 0 {
			return d
		}
		return a.Addr().Compare(b.Addr())
	})
	for _, p := range list {
		p = p.Masked()
		if p.Addr().Is6() == six && !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(p) }) {
			out = append(out, p)
		}
	}
	return out
}

func (z *zoneTable) addLAN(c *nftables.Conn, lan []rtnl.Neighbourhood) error {
	links := map[string][]netip.Prefix{}
	for _, n := range lan {
		links[n.Interface] = append(links[n.Interface], n.Prefix)
	}
	var errs []error
	for i := range 2 {
		var elements []nftables.SetElement
		for _, name := range slices.Sorted(maps.Keys(links)) {
			for _, p := range disjoint(links[name], i == 1) {
				elements = append(elements, prefixElement(nft.Name(name), p))
			}
		}
		if len(elements) > 0 {
			errs = append(errs, c.SetAddElements(z.lan[i], elements))
		}
	}
	return errors.Join(errs...)
}

// lookupPorts are DNS and DNS over TLS.
func lookupPorts() (list []nftables.SetElement) {
	for _, proto := range []string{"tcp", "udp"} {
		for _, port := range []uint16{53, 853} {
			list = append(list, nftables.SetElement{Key: service(proto, port)})
		}
	}
	return list
}

// leaving holds what begins in a zone against where it was addressed to, before that
// is translated: the host's own addresses and its published ports are no way out either.
func (z *zoneTable) leaving(t *table, c *nftables.Conn) {
	rule := t.chain(c, "zone-egress", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150)
	rule(nft.IIFIn(z.some), nft.Invalid(), nft.Drop())
	// Neighbour discovery is not tracked, wherever it is sent: to a far address it would carry data out.
	discovery := nft.Rule(nft.IIFIn(z.some), nft.Untracked(), nft.L4Proto(unix.IPPROTO_ICMPV6))
	for _, near := range []nft.Expr{nft.ToLinkLocal6(), nft.ToGroup6(), nft.IIFToIn(z.own[1], true)} {
		rule(discovery, near, nft.Accept())
	}
	for i := range 2 {
		six := i == 1
		from := nft.Rule(nft.IIFIn(z.some), nft.Begins())
		rule(from, nft.IIFToIn(z.gate[i], six), nft.Drop())
		// Whoever answers for a name does not open this host by it.
		rule(from, nft.Family(six), nft.ToLocal(), nft.IIFToNotIn(z.own[i], six), nft.IIFToNotIn(z.static[i], six), nft.Drop())
		rule(from, nft.IIFToNotIn(z.own[i], six), nft.ServiceIn(z.lookups), nft.Drop())
		rule(from, nft.IIFToNotIn(z.own[i], six), nft.IIFToNotIn(z.static[i], six), nft.IIFToNotIn(z.following[i], six), nft.Drop())
	}
}

// published are the rules of the forward chain: into a zone comes from outside what
// its publish allows.
func (z *zoneTable) published(t *table, rule func(...nft.Expr)) {
	for _, s := range []*nftables.Set{z.none, z.host} {
		rule(nft.OIFIn(s), nft.PairNotIn(t.same), nft.Drop())
	}
	for i := range 2 {
		rule(nft.OIFIn(z.lanOnly), nft.PairNotIn(t.same), nft.IIFFromNotIn(z.lan[i], i == 1), nft.Drop())
	}
	// An address of the LAN that a container pretends to have.
	rule(nft.OIFIn(z.lanOnly), nft.PairNotIn(t.same), nft.IIFIn(t.bridges), nft.Drop())
}

// local is what this host sends into zones. In the output hook a translated packet
// still has the interface that it would have left by without.
func (z *zoneTable) local(t *table, c *nftables.Conn) {
	rule := t.chain(c, "zone-local", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, 90)
	fresh := nft.Rule(nft.Fresh(), nft.FromLocal())
	rule(nft.OIFIn(z.none), fresh, nft.Drop())
	for i := range 2 {
		rule(nft.OIFIn(z.said), fresh, nft.NotTranslated(), nft.ToServiceNotIn(z.admitted[i], i == 1), nft.Drop())
	}
	// A zone may have no way back to the address that the host chose.
	nat := t.chain(c, "zone-return", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 95)
	nat(nft.OIFIn(z.said), nft.FromLocal(), nft.Translated(), nft.Masquerade())
}

// eachAdmitted calls g with the services of containers in zones that the mappings
// lead to.
func (f *firewall) eachAdmitted(z *zoneTable, ports []netdriver.Mapping, g func(*nftables.Set, []nftables.SetElement) error) error {
	lists := map[*nftables.Set]map[string]bool{}
	note := func(s *nftables.Set, key []byte) {
		if lists[s] == nil {
			lists[s] = map[string]bool{}
		}
		lists[s][string(key)] = true
	}
	for _, p := range ports {
		for _, target := range p.Targets {
			if f.zoneOfTarget(target.Addr()) == "" {
				continue
			}
			i := 0
			if target.Addr().Is6() {
				i = 1
			}
			note(z.admitted[i], slices.Concat(target.Addr().AsSlice(), service(p.Protocol, target.Port())))
		}
	}
	for set, keys := range lists {
		var elements []nftables.SetElement
		for key := range keys {
			elements = append(elements, nftables.SetElement{Key: []byte(key)})
		}
		for part := range slices.Chunk(elements, chunk) {
			if err := g(set, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// changeAdmitted follows a change of published ports; f.ports is what shall be.
func (f *firewall) changeAdmitted(c *nftables.Conn, removed, added []netdriver.Mapping) error {
	z := f.t.zones
	if z == nil {
		return nil
	}
	e := &elementChange{c, map[string]bool{}}
	all := make([]netdriver.Mapping, 0, len(f.ports))
	for _, p := range f.ports {
		all = append(all, p)
	}
	return errors.Join(f.eachAdmitted(z, all, e.note), f.eachAdmitted(z, removed, e.remove), f.eachAdmitted(z, added, c.SetAddElements))
}

// service is protocol . port as sets have it.
func service(protocol string, port uint16) []byte {
	return []byte{ruleset.Protocol(protocol), 0, 0, 0, byte(port >> 8), byte(port), 0, 0}
}
