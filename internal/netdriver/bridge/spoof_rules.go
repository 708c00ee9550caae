package bridge

import (
	"github.com/google/nftables"

	"muelle/internal/linux/nft"
)

// Names of the guard's chains. Its priority is before that of every translation.
const (
	spoofChain    = "ingress"
	spoofPriority = -400
)

// rules writes the guard's chains. What most frames are is accepted by the first
// two rules; the rest is looked at one by one.
func (t *spoofTable) rules(c *nftables.Conn, prefix string) {
	accept, priority := nftables.ChainPolicyAccept, nftables.ChainPriority(spoofPriority)
	base := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: &priority, Policy: &accept})
	}
	to := func(ch *nftables.Chain) func(...nft.Expr) {
		return func(parts ...nft.Expr) {
			c.AddRule(&nftables.Rule{Table: t.table, Chain: ch, Exprs: nft.Rule(parts...)})
		}
	}
	arp := c.AddChain(&nftables.Chain{Name: "from-arp", Table: t.table})
	four := c.AddChain(&nftables.Chain{Name: "from-ipv4", Table: t.table})
	six := c.AddChain(&nftables.Chain{Name: "from-ipv6", Table: t.table})

	rule := to(base(spoofChain, nftables.ChainHookPrerouting))
	rule(nft.NotIIFPrefix(prefix), nft.Accept())
	// Addresses are the engine's to give: nobody else answers who asks for one.
	rule(nft.EtherType(nft.EtherIPv4), nft.L4Proto(nft.ProtoUDP), nft.FromPort(67), nft.ToPort(68), nft.IIFIn(t.guarded), nft.Drop())
	rule(nft.EtherType(nft.EtherIPv4), nft.PlainIPv4(), nft.SourceIn4(t.ipv4), nft.Accept())
	rule(nft.EtherType(nft.EtherIPv6), nft.NextHeader6(nft.ProtoTCP), nft.SourceIn6(t.ipv6), nft.Accept())
	rule(nft.IIFNotIn(t.guarded), nft.Accept())
	rule(nft.EtherSourceNotIn(t.macs), nft.Drop())
	rule(nft.EtherType(nft.EtherIPv4), nft.Goto(four.Name))
	rule(nft.EtherType(nft.EtherIPv6), nft.Goto(six.Name))
	rule(nft.EtherType(nft.EtherARP), nft.Goto(arp.Name))
	// The kernel takes off tags of no VLAN one after the other; what is inside the second nobody has looked at.
	rule(nft.EtherType(nft.EtherVLAN), nft.Drop())
	rule(nft.EtherType(nft.EtherQinQ), nft.Drop())

	t.arpRules(to(arp))
	t.ipv4Rules(to(four))
	t.ipv6Rules(to(six))

	// Frames to the addresses of bridges themselves go past the first chain, to the
	// port's own interface, which would heed a router's advertisement.
	in := to(base("local-group", nftables.ChainHookInput))
	in(nft.IIFPrefix(prefix), nft.ToBridgeGroup(), nft.Drop())
}

// arpRules: an answer or question speaks for the sender's own address; one without
// address is how it is found out whether somebody has it (RFC 5227).
func (t *spoofTable) arpRules(rule func(...nft.Expr)) {
	rule(nft.NotARPOfIPv4(), nft.Drop())
	rule(nft.ARPSenderIn(t.ipv4), nft.Accept())
	rule(nft.ARPSenderZero(), nft.ARPHardwareIn(t.macs), nft.Accept())
	rule(nft.Drop())
}

// ipv4Rules: no source routes; no address only where one is asked for by DHCP.
func (t *spoofTable) ipv4Rules(rule func(...nft.Expr)) {
	rule(nft.HasOption4(nft.OptionLSRR), nft.Drop())
	rule(nft.HasOption4(nft.OptionSSRR), nft.Drop())
	rule(nft.SourceIn4(t.ipv4), nft.Accept())
	rule(nft.SourceZero4(), nft.L4Proto(nft.ProtoUDP), nft.ToPort(67), nft.Accept())
	rule(nft.Drop())
}

// ipv6Rules: no routing headers; containers are no routers; who advertises an
// address has it; no source only for duplicate address detection and group reports.
func (t *spoofTable) ipv6Rules(rule func(...nft.Expr)) {
	rule(nft.HasExtension6(nft.ExtRouting), nft.Drop())
	rule(nft.ICMPv6(nft.RouterAdvertisement), nft.Drop())
	rule(nft.ICMPv6(nft.Redirect), nft.Drop())
	rule(nft.ICMPv6(nft.NeighborAdvertisement), nft.TargetNotIn6(t.ipv6), nft.Drop())
	rule(nft.L4Proto(nft.ProtoUDP), nft.FromPort(547), nft.ToPort(546), nft.Drop())
	rule(nft.SourceIn6(t.ipv6), nft.Accept())
	rule(nft.SourceZero6(), nft.ICMPv6(nft.NeighborSolicitation), nft.TargetIn6(t.ipv6), nft.Accept())
	rule(nft.SourceZero6(), nft.ICMPv6(nft.GroupReport), nft.Accept())
	rule(nft.SourceZero6(), nft.ICMPv6(nft.GroupReport2), nft.Accept())
	rule(nft.Drop())
}
