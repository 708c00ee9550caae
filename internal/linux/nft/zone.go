package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Family is meta nfproto ipv6, or ipv4.
func Family(six bool) Expr {
	if !six {
		return IPv4()
	}
	return Expr{meta(expr.MetaKeyNFPROTO, reg1), equal(reg1, []byte{unix.NFPROTO_IPV6})}
}

// PairNotIn is iifname . oifname != @set.
func PairNotIn(set *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), meta(expr.MetaKeyOIFNAME, reg2), lookup(set, reg1, 0, true)}
}

// source and destination load an address of the family.
func source(six bool, reg uint32) expr.Any {
	if six {
		return network(8, 16, reg)
	}
	return network(12, 4, reg)
}

func destination(six bool, reg uint32) expr.Any {
	if six {
		return network(24, 16, reg)
	}
	return network(16, 4, reg)
}

// IIFFromNotIn is iifname . ip saddr != @set, of either family.
func IIFFromNotIn(set *nftables.Set, six bool) Expr {
	return append(Family(six), meta(expr.MetaKeyIIFNAME, reg1), source(six, reg2), lookup(set, reg1, 0, true))
}

// IIFToIn is iifname . ip daddr @set, of either family.
func IIFToIn(set *nftables.Set, six bool) Expr { return iifTo(set, six, false) }

// IIFToNotIn is iifname . ip daddr != @set.
func IIFToNotIn(set *nftables.Set, six bool) Expr { return iifTo(set, six, true) }

func iifTo(set *nftables.Set, six, invert bool) Expr {
	return append(Family(six), meta(expr.MetaKeyIIFNAME, reg1), destination(six, reg2), lookup(set, reg1, 0, invert))
}

// ToServiceNotIn is ip daddr . meta l4proto . th dport != @set, of either family.
func ToServiceNotIn(set *nftables.Set, six bool) Expr {
	words := uint32(1)
	if six {
		words = 4
	}
	return append(Family(six), destination(six, reg1), meta(expr.MetaKeyL4PROTO, reg1Word+words), dport(reg1Word+words+1), lookup(set, reg1, 0, true))
}

// ServiceIn is meta l4proto . th dport @set.
func ServiceIn(set *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyL4PROTO, reg1), dport(reg1Word + 1), lookup(set, reg1, 0, false)}
}

// IIFServiceIn is iifname . meta l4proto . th dport @set.
func IIFServiceIn(set *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyIIFNAME, reg1), meta(expr.MetaKeyL4PROTO, reg1Word+4), dport(reg1Word + 5), lookup(set, reg1, 0, false)}
}

// FromServiceIn is meta l4proto . th sport @set.
func FromServiceIn(set *nftables.Set) Expr {
	return Expr{meta(expr.MetaKeyL4PROTO, reg1), sport(reg1Word + 1), lookup(set, reg1, 0, false)}
}

// VerdictByAddressPort6 is ip6 daddr . meta l4proto . th dport vmap @m.
func VerdictByAddressPort6(m *nftables.Set) Expr {
	return Expr{destination(true, reg1), meta(expr.MetaKeyL4PROTO, reg1Word+4), dport(reg1Word + 5),
		&expr.Lookup{SourceRegister: reg1, SetName: m.Name, SetID: m.ID, DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true}}
}

// FromLinkLocal6 is ip6 saddr fe80::/10.
func FromLinkLocal6() Expr {
	return append(Family(true), network(8, 2, reg1),
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}}, equal(reg1, []byte{0xfe, 0x80}))
}

// Fresh is ct state new.
func Fresh() Expr { return ctBits(expr.CtKeySTATE, expr.CtStateBitNEW) }

// Begins is ct state != established,related: what is new, and what connection tracking
// cannot make sense of or does not look at.
func Begins() Expr {
	e := Established()
	e[2] = equal(reg1, make([]byte, 4))
	return e
}

// Invalid is ct state invalid, Untracked ct state untracked, Related ct state related.
func Invalid() Expr { return ctBits(expr.CtKeySTATE, expr.CtStateBitINVALID) }

// Untracked is what Invalid says.
func Untracked() Expr { return ctBits(expr.CtKeySTATE, expr.CtStateBitUNTRACKED) }

// Related is what Invalid says.
func Related() Expr { return ctBits(expr.CtKeySTATE, expr.CtStateBitRELATED) }

// ToGroup6 is ip6 daddr ff00::/8.
func ToGroup6() Expr { return append(IPv6(), network(24, 1, reg1), equal(reg1, []byte{0xff})) }

// NotTranslated is ct status ! dnat.
func NotTranslated() Expr {
	e := ctBits(expr.CtKeySTATUS, statusDNAT)
	e[2] = equal(reg1, make([]byte, 4))
	return e
}

// FromLocal is fib saddr type local.
func FromLocal() Expr { return fromLocal(expr.CmpOpEq) }

func fromLocal(op expr.CmpOp) Expr {
	return Expr{
		&expr.Fib{Register: reg1, ResultADDRTYPE: true, FlagSADDR: true},
		&expr.Cmp{Op: op, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}
