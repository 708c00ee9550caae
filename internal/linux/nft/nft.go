// Package nft is a small vocabulary for rules of github.com/google/nftables, so
// that a chain reads like the output of "nft list ruleset".
package nft

import (
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Expr is a part of a rule: a match, or what to do.
type Expr = []expr.Any

// Registers: Reg1 and Reg2 have sixteen bytes each; Reg1's second, third and
// fourth words have names of their own.
const (
	reg1     = unix.NFT_REG_1
	reg2     = unix.NFT_REG_2
	reg1Word = unix.NFT_REG32_00
)

// New opens a connection whose buffers hold large transactions.
func New() (*nftables.Conn, error) {
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		if err := c.SetWriteBuffer(4 << 20); err != nil {
			return err
		}
		return c.SetReadBuffer(4 << 20)
	}))
}

// Rule joins matches and a statement.
func Rule(parts ...Expr) Expr { return slices.Concat(parts...) }

// Name is an interface's name as the kernel compares it.
func Name(s string) []byte { return append([]byte(s), make([]byte, unix.IFNAMSIZ-len(s))...) }

func meta(key expr.MetaKey, reg uint32) expr.Any { return &expr.Meta{Key: key, Register: reg} }

func equal(reg uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

// IIF is iifname == name.
func IIF(name string) Expr { return Expr{meta(expr.MetaKeyIIFNAME, reg1), equal(reg1, Name(name))} }

// NotIIF is iifname != name.
func NotIIF(name string) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: Name(name)}}
}

// IIFPrefix is iifname "prefix*", OIFPrefix the same for oifname.
func IIFPrefix(prefix string) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), equal(reg1, []byte(prefix))}
}

// OIFPrefix is oifname "prefix*".
func OIFPrefix(prefix string) Expr {
	return Expr{meta(expr.MetaKeyOIFNAME, reg1), equal(reg1, []byte(prefix))}
}

// OIF is oifname == name.
func OIF(name string) Expr { return Expr{meta(expr.MetaKeyOIFNAME, reg1), equal(reg1, Name(name))} }

// IIFIn is iifname @set.
func IIFIn(set *nftables.Set) Expr { return metaIn(expr.MetaKeyIIFNAME, set, false) }

// OIFIn is oifname @set.
func OIFIn(set *nftables.Set) Expr { return metaIn(expr.MetaKeyOIFNAME, set, false) }

// OIFNotIn is oifname != @set.
func OIFNotIn(set *nftables.Set) Expr { return metaIn(expr.MetaKeyOIFNAME, set, true) }

func metaIn(key expr.MetaKey, set *nftables.Set, invert bool) Expr {
	return Expr{meta(key, reg1), lookup(set, reg1, 0, invert)}
}

// PairIn is iifname . oifname @set.
func PairIn(set *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), meta(expr.MetaKeyOIFNAME, reg2), lookup(set, reg1, 0, false)}
}

func lookup(set *nftables.Set, source, dest uint32, invert bool) expr.Any {
	l := &expr.Lookup{SourceRegister: source, SetName: set.Name, SetID: set.ID, Invert: invert}
	if dest != 0 {
		l.DestRegister, l.IsDestRegSet = dest, true
	}
	return l
}

// IPv4 is meta nfproto ipv4.
func IPv4() Expr {
	return Expr{meta(expr.MetaKeyNFPROTO, reg1), equal(reg1, []byte{unix.NFPROTO_IPV4})}
}

func network(offset, size uint32, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
}

// IPv6 is meta nfproto ipv6.
func IPv6() Expr {
	return Expr{meta(expr.MetaKeyNFPROTO, reg1), equal(reg1, []byte{unix.NFPROTO_IPV6})}
}

// To6 is ip6 daddr addr (sixteen bytes).
func To6(addr []byte) Expr { return append(IPv6(), network(24, 16, reg1), equal(reg1, addr)) }

// ToLinkLocal6 is ip6 daddr fe80::/16: of fe80::/10 nothing else is in use (RFC 4291, 2.5.6).
func ToLinkLocal6() Expr {
	return append(IPv6(), network(24, 2, reg1), equal(reg1, []byte{0xfe, 0x80}))
}

// FromLoopback is ip saddr 127.0.0.0/8, ToLoopback ip daddr 127.0.0.0/8.
func FromLoopback() Expr { return append(IPv4(), network(12, 1, reg1), equal(reg1, []byte{127})) }

// ToLoopback is ip daddr 127.0.0.0/8.
func ToLoopback() Expr { return append(IPv4(), network(16, 1, reg1), equal(reg1, []byte{127})) }

// To is ip daddr addr (four bytes).
func To(addr []byte) Expr { return append(IPv4(), network(16, 4, reg1), equal(reg1, addr)) }

// BetweenIn is ip saddr . ip daddr @set.
func BetweenIn(set *nftables.Set) Expr {
	return append(IPv4(), network(12, 4, reg1), network(16, 4, reg1Word+1), lookup(set, reg1, 0, false))
}

// BetweenIn6 is ip6 saddr . ip6 daddr @set.
func BetweenIn6(set *nftables.Set) Expr {
	return append(IPv6(), network(8, 16, reg1), network(24, 16, reg2), lookup(set, reg1, 0, false))
}

// ToPort is th dport port.
func ToPort(port uint16) Expr {
	return Expr{dport(reg1), equal(reg1, binaryutil.BigEndian.PutUint16(port))}
}

// FromPort is th sport of the transport protocol.
func FromPort(port uint16) Expr {
	return Expr{&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}, equal(reg1, binaryutil.BigEndian.PutUint16(port))}
}

func dport(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

// ToLocal is fib daddr type local.
func ToLocal() Expr {
	return Expr{
		&expr.Fib{Register: reg1, ResultADDRTYPE: true, FlagDADDR: true},
		equal(reg1, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

// Established is ct state established,related.
func Established() Expr {
	return ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// Translated is ct status dnat.
func Translated() Expr { return ctBits(expr.CtKeySTATUS, statusDNAT) }

// IPS_DST_NAT of linux/netfilter/nf_conntrack_common.h.
const statusDNAT = 1 << 5

func ctBits(key expr.CtKey, bits uint32) Expr {
	mask := binaryutil.NativeEndian.PutUint32(bits)
	return Expr{
		&expr.Ct{Key: key, Register: reg1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: make([]byte, 4)},
	}
}

// VerdictByPort is meta l4proto . th dport vmap @m.
func VerdictByPort(m *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyL4PROTO, reg1), dport(reg1Word + 1),
		&expr.Lookup{SourceRegister: reg1, SetName: m.Name, SetID: m.ID, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}}
}

// ByTurn is numgen inc mod n vmap @m: each new connection to the next of n chains.
func ByTurn(m *nftables.Set, n int) Expr { return Expr{turn(n), verdictOf(m)} }

func verdictOf(m *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: reg1, SetName: m.Name, SetID: m.ID, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}
}

func turn(n int) expr.Any {
	return &expr.Numgen{Register: reg1, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL}
}

// BySource is jhash ip saddr . th sport mod n vmap @m: what comes from one socket goes to
// one of n chains.
func BySource(m *nftables.Set, n int) Expr {
	return Expr{network(12, 4, reg1), sport(reg1Word + 1), hash(8, n), verdictOf(m)}
}

// BySource6 is jhash ip6 saddr . th sport mod n vmap @m.
func BySource6(m *nftables.Set, n int) Expr {
	return Expr{network(8, 16, reg1), sport(reg1Word + 4), hash(20, n), verdictOf(m)}
}

// Jump is jump chain.
func Jump(chain string) Expr { return Expr{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}} }

// hash has a seed of its own: the kernel's would be another for every rule.
func hash(length uint32, n int) expr.Any {
	return &expr.Hash{SourceRegister: reg1, DestRegister: reg1, Length: length, Modulus: uint32(n), Seed: 0x6d75656c, Type: expr.HashTypeJenkins}
}

func sport(reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2}
}

// DNATByPort is dnat ip to meta l4proto . th dport map @m, the map's data being
// an address and a port.
func DNATByPort(m *nftables.Set) Expr {
	return Expr{
		meta(expr.MetaKeyL4PROTO, reg1), dport(reg1Word + 1),
		lookup(m, reg1, reg1, false), dnat(),
	}
}

// DNATByAddress is dnat ip to ip daddr . meta l4proto . th dport map @m.
func DNATByAddress(m *nftables.Set) Expr {
	return Expr{
		network(16, 4, reg1), meta(expr.MetaKeyL4PROTO, reg1Word+1), dport(reg1Word + 2),
		lookup(m, reg1, reg1, false), dnat(),
	}
}

// DNATByPort6 is dnat ip6 to meta l4proto . th dport map @m.
func DNATByPort6(m *nftables.Set) Expr {
	return Expr{
		meta(expr.MetaKeyL4PROTO, reg1), dport(reg1Word + 1),
		lookup(m, reg1, reg1, false), dnat6(),
	}
}

// DNATByAddress6 is dnat ip6 to ip6 daddr . meta l4proto . th dport map @m.
func DNATByAddress6(m *nftables.Set) Expr {
	return Expr{
		network(24, 16, reg1), meta(expr.MetaKeyL4PROTO, reg1Word+4), dport(reg1Word + 5),
		lookup(m, reg1, reg1, false), dnat6(),
	}
}

func dnat6() expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV6, RegAddrMin: reg1, RegProtoMin: reg1Word + 4, Specified: true}
}

func dnat() expr.Any {
	return &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: reg1Word + 1, Specified: true}
}

// DNAT is dnat to addr:port.
func DNAT(addr []byte, port uint16) Expr {
	return Expr{
		&expr.Immediate{Register: reg1, Data: addr},
		&expr.Immediate{Register: reg2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegProtoMin: reg2, Specified: true},
	}
}

// DNAT6 is dnat ip6 to addr:port.
func DNAT6(addr []byte, port uint16) Expr {
	return Expr{
		&expr.Immediate{Register: reg1, Data: addr},
		&expr.Immediate{Register: reg2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV6, RegAddrMin: reg1, RegProtoMin: reg2, Specified: true},
	}
}

// Masquerade is the statement of that name.
func Masquerade() Expr { return Expr{&expr.Masq{}} }

// Accept is the verdict of that name.
func Accept() Expr { return Expr{&expr.Verdict{Kind: expr.VerdictAccept}} }

// Drop is the verdict of that name.
func Drop() Expr { return Expr{&expr.Verdict{Kind: expr.VerdictDrop}} }

// Return is the verdict of that name.
func Return() Expr { return Expr{&expr.Verdict{Kind: expr.VerdictReturn}} }

// Counter counts packets; iptables-nft expects one in every rule it shows.
func Counter() Expr { return Expr{&expr.Counter{}} }

// Comment is a rule's user data that nft and iptables-nft show as its comment.
func Comment(s string) []byte { return userdata.AppendString(nil, userdata.TypeComment, s) }

// CommentOf reads it back. The bytes are somebody else's: lengths are not trusted.
func CommentOf(r *nftables.Rule) string {
	for data := r.UserData; len(data) >= 2; {
		kind, length := userdata.Type(data[0]), int(data[1])
		if len(data) < 2+length {
			return ""
		}
		if kind == userdata.TypeComment {
			return strings.TrimRight(string(data[2:2+length]), "\x00")
		}
		data = data[2+length:]
	}
	return ""
}
