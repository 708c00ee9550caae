package nft

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Numbers of protocols in frames and packets, from the IANA's registries.
const (
	EtherIPv4 = 0x0800
	EtherARP  = 0x0806
	EtherVLAN = 0x8100
	EtherIPv6 = 0x86dd
	EtherQinQ = 0x88a8

	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58

	OptionLSRR = 131
	OptionSSRR = 137
	ExtRouting = 43

	GroupReport           = 131
	NeighborSolicitation  = 135
	RouterAdvertisement   = 134
	NeighborAdvertisement = 136
	Redirect              = 137
	GroupReport2          = 143
)

// Words of the registers behind an interface's name (sixteen bytes) and a hardware
// address (eight with padding).
const (
	reg2Ether   = reg2
	reg2Address = unix.NFT_REG32_00 + 6
)

// NotIIFPrefix is iifname != "prefix*".
func NotIIFPrefix(prefix string) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte(prefix)}}
}

// IIFNotIn is iifname != @set.
func IIFNotIn(set *nftables.Set) Expr { return metaIn(expr.MetaKeyIIFNAME, set, true) }

// EtherType is meta protocol type: what is in the frame, behind one VLAN tag.
func EtherType(t uint16) Expr {
	return Expr{meta(expr.MetaKeyPROTOCOL, reg1), equal(reg1, binary.BigEndian.AppendUint16(nil, t))}
}

// L4Proto is meta l4proto p.
func L4Proto(p byte) Expr { return Expr{meta(expr.MetaKeyL4PROTO, reg1), equal(reg1, []byte{p})} }

// Goto continues in another chain and does not come back.
func Goto(chain string) Expr { return Expr{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}} }

func link(offset, size uint32, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: size}
}

func transport(offset, size uint32, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}
}

// sender loads iifname . ether saddr, and an address of the network header.
func sender(set *nftables.Set, invert bool, address ...expr.Any) Expr {
	e := Expr{meta(expr.MetaKeyIIFNAME, reg1), link(6, 6, reg2Ether)}
	return append(append(e, address...), lookup(set, reg1, 0, invert))
}

// EtherSourceNotIn is iifname . ether saddr != @set.
func EtherSourceNotIn(set *nftables.Set) Expr { return sender(set, true) }

// SourceIn4 is iifname . ether saddr . ip saddr @set.
func SourceIn4(set *nftables.Set) Expr { return sender(set, false, network(12, 4, reg2Address)) }

// SourceIn6 is iifname . ether saddr . ip6 saddr @set.
func SourceIn6(set *nftables.Set) Expr { return sender(set, false, network(8, 16, reg2Address)) }

// TargetIn6 is iifname . ether saddr . icmpv6 taddr @set.
func TargetIn6(set *nftables.Set) Expr { return sender(set, false, transport(8, 16, reg2Address)) }

// TargetNotIn6 is the opposite of TargetIn6.
func TargetNotIn6(set *nftables.Set) Expr { return sender(set, true, transport(8, 16, reg2Address)) }

// PlainIPv4 is a header without options.
func PlainIPv4() Expr { return Expr{network(0, 1, reg1), equal(reg1, []byte{0x45})} }

// NextHeader6 is ip6 nexthdr p: nothing between the header and the protocol.
func NextHeader6(p byte) Expr { return Expr{network(6, 1, reg1), equal(reg1, []byte{p})} }

// SourceZero4 is ip saddr 0.0.0.0.
func SourceZero4() Expr { return Expr{network(12, 4, reg1), equal(reg1, make([]byte, 4))} }

// SourceZero6 is ip6 saddr ::.
func SourceZero6() Expr { return Expr{network(8, 16, reg1), equal(reg1, make([]byte, 16))} }

// ICMPv6 is icmpv6 type t.
func ICMPv6(t byte) Expr {
	return append(L4Proto(unix.IPPROTO_ICMPV6), transport(0, 1, reg1), equal(reg1, []byte{t}))
}

// NotARPOfIPv4 is arp of anything but IPv4 over Ethernet.
func NotARPOfIPv4() Expr {
	return Expr{network(0, 6, reg1), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: []byte{0, 1, 8, 0, 6, 4}}}
}

// ARPSenderIn is iifname . arp saddr ether . arp saddr ip @set.
func ARPSenderIn(set *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), network(8, 6, reg2Ether), network(14, 4, reg2Address), lookup(set, reg1, 0, false)}
}

// ARPHardwareIn is iifname . arp saddr ether @set.
func ARPHardwareIn(set *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), network(8, 6, reg2Ether), lookup(set, reg1, 0, false)}
}

// ARPSenderZero is arp saddr ip 0.0.0.0.
func ARPSenderZero() Expr { return Expr{network(14, 4, reg1), equal(reg1, make([]byte, 4))} }

// ToBridgeGroup is ether daddr 01:80:c2:00:00:00/40, which bridges keep to themselves.
func ToBridgeGroup() Expr { return Expr{link(0, 5, reg1), equal(reg1, []byte{1, 0x80, 0xc2, 0, 0})} }

// HasOption4 is ip option exists.
func HasOption4(option byte) Expr { return has(option, exthdrOpIPv4) }

// NFT_EXTHDR_OP_IPV4 of linux/netfilter/nf_tables.h.
const exthdrOpIPv4 = 2

// HasExtension6 is exthdr exists.
func HasExtension6(header byte) Expr { return has(header, unix.NFT_EXTHDR_OP_IPV6) }

func has(kind byte, op expr.ExthdrOp) Expr {
	return Expr{
		&expr.Exthdr{DestRegister: reg1, Type: kind, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, Op: op},
		equal(reg1, []byte{1}),
	}
}

// To4In is ip daddr @set, To6In ip6 daddr @set.
func To4In(set *nftables.Set) Expr {
	return append(IPv4(), network(16, 4, reg1), lookup(set, reg1, 0, false))
}

// To6In is ip6 daddr @set.
func To6In(set *nftables.Set) Expr {
	return append(IPv6(), network(24, 16, reg1), lookup(set, reg1, 0, false))
}

// From4In is ip saddr @set, From6In ip6 saddr @set.
func From4In(set *nftables.Set) Expr {
	return append(IPv4(), network(12, 4, reg1), lookup(set, reg1, 0, false))
}

// From6In is ip6 saddr @set.
func From6In(set *nftables.Set) Expr {
	return append(IPv6(), network(8, 16, reg1), lookup(set, reg1, 0, false))
}

// OwnAddress4 is iifname . ip daddr @set, OwnAddress6 iifname . ip6 daddr @set; inverted: not in it.
func OwnAddress4(set *nftables.Set, invert bool) Expr {
	return append(IPv4(), meta(expr.MetaKeyIIFNAME, reg1), network(16, 4, reg2), lookup(set, reg1, 0, invert))
}

// OwnAddress6 is iifname . ip6 daddr @set.
func OwnAddress6(set *nftables.Set, invert bool) Expr {
	return append(IPv6(), meta(expr.MetaKeyIIFNAME, reg1), network(24, 16, reg2), lookup(set, reg1, 0, invert))
}

// ClaimsRouteTo is fib saddr oifname @set: the source is reached by one of these interfaces.
func ClaimsRouteTo(set *nftables.Set) Expr {
	return Expr{&expr.Fib{Register: reg1, ResultOIFNAME: true, FlagSADDR: true}, lookup(set, reg1, 0, false)}
}

// ToPublished is ip daddr . meta l4proto . th dport being in the map @m, ToPublished6
// the same of IPv6.
func ToPublished(m *nftables.Set) Expr {
	return Expr{network(16, 4, reg1), meta(expr.MetaKeyL4PROTO, reg1Word+1), dport(reg1Word + 2), lookup(m, reg1, reg1, false)}
}

// ToPublished6 is ip6 daddr . meta l4proto . th dport being in the map @m.
func ToPublished6(m *nftables.Set) Expr {
	return Expr{network(24, 16, reg1), meta(expr.MetaKeyL4PROTO, reg1Word+4), dport(reg1Word + 5), lookup(m, reg1, reg1, false)}
}

// SNATByIIF is snat ip to iifname map @m, SNATByIIF6 the same of IPv6.
func SNATByIIF(m *nftables.Set) Expr { return snatByIIF(m, unix.NFPROTO_IPV4) }

// SNATByIIF6 is snat ip6 to iifname map @m.
func SNATByIIF6(m *nftables.Set) Expr { return snatByIIF(m, unix.NFPROTO_IPV6) }

func snatByIIF(m *nftables.Set, family uint32) Expr {
	return Expr{
		meta(expr.MetaKeyIIFNAME, reg1), lookup(m, reg1, reg1, false),
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: reg1},
	}
}
