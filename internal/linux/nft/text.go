package nft

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Text writes a rule as "nft list ruleset" would, as far as this package's
// vocabulary goes; another expression is given by its type's name in brackets.
func Text(r *nftables.Rule) string {
	w := &ruleText{}
	for _, e := range r.Exprs {
		w.add(e)
	}
	if c := CommentOf(r); c != "" {
		w.words = append(w.words, "comment "+strconv.Quote(c))
	}
	return strings.Join(w.words, " ")
}

// ruleText follows what the registers hold: loads wait in operands until a
// comparison or a lookup takes them.
type ruleText struct {
	words    []string
	operands []operand
	mask     uint32
	target   string // of a translation
}

type operand struct{ name, kind string }

func (w *ruleText) load(name, kind string) { w.operands = append(w.operands, operand{name, kind}) }

// take gives the waiting loads as one concatenation.
func (w *ruleText) take() (text, kind string) {
	var names []string
	for _, o := range w.operands {
		names = append(names, o.name)
		kind = o.kind
	}
	w.operands = nil
	return strings.Join(names, " . "), kind
}

func (w *ruleText) add(e expr.Any) {
	switch e := e.(type) {
	case *expr.Meta:
		w.load(metaName(e.Key))
	case *expr.Payload:
		w.load(payloadName(e))
	case *expr.Exthdr:
		w.load(headerName(e))
	case *expr.Fib:
		w.load(fibName(e))
	case *expr.Ct:
		w.load(ctName(e.Key))
	case *expr.Bitwise:
		w.mask = 0
		if len(e.Mask) == 4 {
			w.mask = binary.NativeEndian.Uint32(e.Mask)
		}
	case *expr.Cmp:
		w.compare(e)
	case *expr.Lookup:
		w.lookup(e)
	case *expr.Numgen:
		w.load(fmt.Sprintf("numgen inc mod %d", e.Modulus), "")
	case *expr.Hash:
		source, _ := w.take()
		w.load(fmt.Sprintf("jhash %s mod %d", source, e.Modulus), "")
	case *expr.Immediate:
		w.immediate(e.Data)
	case *expr.NAT:
		kind := "dnat"
		if e.Type == expr.NATTypeSourceNAT {
			kind = "snat"
		}
		family := " ip to "
		if e.Family == unix.NFPROTO_IPV6 {
			family = " ip6 to "
		}
		w.words = append(w.words, kind+family+w.target)
	case *expr.Masq:
		w.words = append(w.words, "masquerade")
	case *expr.Counter:
		w.words = append(w.words, fmt.Sprintf("counter packets %d bytes %d", e.Packets, e.Bytes))
	case *expr.Verdict:
		w.words = append(w.words, verdict(e))
	default:
		w.words = append(w.words, strings.ToLower(strings.TrimPrefix(fmt.Sprintf("(%T)", e), "(*expr.")))
	}
}

func (w *ruleText) compare(e *expr.Cmp) {
	name, kind := w.take()
	if w.mask != 0 && (kind == "state" || kind == "status") {
		not := ""
		if e.Op == expr.CmpOpEq { // none of the bits
			not = "! "
		}
		w.words = append(w.words, name+" "+not+bits(kind, w.mask))
		w.mask = 0
		return
	}
	op := " "
	if e.Op == expr.CmpOpNeq {
		op = " != "
	}
	w.words = append(w.words, name+op+value(kind, e.Data))
}

func (w *ruleText) lookup(e *expr.Lookup) {
	name, _ := w.take()
	switch {
	case e.IsDestRegSet && e.DestRegister == unix.NFT_REG_VERDICT:
		w.words = append(w.words, name+" vmap @"+e.SetName)
	case e.IsDestRegSet:
		w.target = name + " map @" + e.SetName
	case e.Invert:
		w.words = append(w.words, name+" != @"+e.SetName)
	default:
		w.words = append(w.words, name+" @"+e.SetName)
	}
}

// immediate collects an address and then a port.
func (w *ruleText) immediate(data []byte) {
	if len(data) == 2 {
		w.target += ":" + value("port", data)
		return
	}
	w.target = value("address", data)
}

// fibName gives what is asked of the routes, and of which address.
func fibName(e *expr.Fib) (name, kind string) {
	address := "daddr"
	if e.FlagSADDR {
		address = "saddr"
	}
	if e.ResultOIFNAME {
		return "fib " + address + " oifname", "name"
	}
	return "fib " + address + " type", "addrtype"
}

func metaName(k expr.MetaKey) (name, kind string) {
	switch k {
	case expr.MetaKeyIIFNAME:
		return "iifname", "name"
	case expr.MetaKeyOIFNAME:
		return "oifname", "name"
	case expr.MetaKeyNFPROTO:
		return "meta nfproto", "family"
	case expr.MetaKeyL4PROTO:
		return "meta l4proto", "protocol"
	case expr.MetaKeyPROTOCOL:
		return "meta protocol", "ethertype"
	}
	return "meta " + strconv.Itoa(int(k)), ""
}

// field is a part of a header: its base, offset and length in bytes.
type field struct {
	base         expr.PayloadBase
	offset, size uint32
}

var fields = map[field]operand{
	{expr.PayloadBaseLLHeader, 0, 6}:        {"ether daddr", "mac"},
	{expr.PayloadBaseLLHeader, 6, 6}:        {"ether saddr", "mac"},
	{expr.PayloadBaseNetworkHeader, 12, 4}:  {"ip saddr", "address"},
	{expr.PayloadBaseNetworkHeader, 16, 4}:  {"ip daddr", "address"},
	{expr.PayloadBaseNetworkHeader, 12, 1}:  {"ip saddr", "address"},
	{expr.PayloadBaseNetworkHeader, 16, 1}:  {"ip daddr", "address"},
	{expr.PayloadBaseNetworkHeader, 8, 16}:  {"ip6 saddr", "address"},
	{expr.PayloadBaseNetworkHeader, 24, 16}: {"ip6 daddr", "address"},
	{expr.PayloadBaseNetworkHeader, 8, 2}:   {"ip6 saddr", "address"},
	{expr.PayloadBaseNetworkHeader, 24, 2}:  {"ip6 daddr", "address"},
	{expr.PayloadBaseNetworkHeader, 24, 1}:  {"ip6 daddr", "address6"},
	{expr.PayloadBaseTransportHeader, 0, 2}: {"th sport", "port"},
	{expr.PayloadBaseTransportHeader, 2, 2}: {"th dport", "port"},
	{expr.PayloadBaseTransportHeader, 0, 1}: {"icmpv6 type", "icmpv6"},
}

// payloadName gives a field, or bits as nft writes what it has no name for.
func payloadName(p *expr.Payload) (name, kind string) {
	if o, ok := fields[field{p.Base, p.Offset, p.Len}]; ok {
		return o.name, o.kind
	}
	base := map[expr.PayloadBase]string{expr.PayloadBaseLLHeader: "ll", expr.PayloadBaseNetworkHeader: "nh", expr.PayloadBaseTransportHeader: "th"}[p.Base]
	return fmt.Sprintf("@%s,%d,%d", base, p.Offset*8, p.Len*8), ""
}

// headerName gives an extension header or option whose presence is looked at.
func headerName(e *expr.Exthdr) (name, kind string) {
	if e.Op == expr.ExthdrOpIpv6 {
		return fmt.Sprintf("exthdr %d", e.Type), "presence"
	}
	return fmt.Sprintf("ip option %d", e.Type), "presence"
}

func ctName(k expr.CtKey) (name, kind string) {
	switch k {
	case expr.CtKeySTATE:
		return "ct state", "state"
	case expr.CtKeySTATUS:
		return "ct status", "status"
	}
	return "ct " + strconv.Itoa(int(k)), ""
}

func verdict(v *expr.Verdict) string {
	switch v.Kind {
	case expr.VerdictAccept:
		return "accept"
	case expr.VerdictDrop:
		return "drop"
	case expr.VerdictReturn:
		return "return"
	case expr.VerdictJump:
		return "jump " + v.Chain
	case expr.VerdictGoto:
		return "goto " + v.Chain
	}
	return "verdict " + strconv.Itoa(int(v.Kind))
}

func bits(kind string, mask uint32) string {
	names := []struct {
		bit  uint32
		name string
	}{{expr.CtStateBitESTABLISHED, "established"}, {expr.CtStateBitRELATED, "related"}, {expr.CtStateBitNEW, "new"}, {expr.CtStateBitINVALID, "invalid"}, {expr.CtStateBitUNTRACKED, "untracked"}}
	if kind == "status" {
		names = names[:0]
		if mask == statusDNAT {
			return "dnat"
		}
	}
	var list []string
	for _, n := range names {
		if mask&n.bit != 0 {
			list = append(list, n.name)
		}
	}
	if len(list) == 0 {
		return fmt.Sprintf("%#x", mask)
	}
	return strings.Join(list, ",")
}

// value writes data as its kind is written.
func value(kind string, data []byte) string {
	switch {
	case kind == "name" && len(data) < unix.IFNAMSIZ:
		return strconv.Quote(strings.TrimRight(string(data), "\x00") + "*")
	case kind == "name":
		return strconv.Quote(strings.TrimRight(string(data), "\x00"))
	case kind == "address" && len(data) == 1:
		return fmt.Sprintf("%d.0.0.0/8", data[0])
	case kind == "address" && len(data) == 2:
		return fmt.Sprintf("%x%02x::/16", data[0], data[1])
	case kind == "address" && (len(data) == 4 || len(data) == 16):
		a, _ := netip.AddrFromSlice(data)
		return a.String()
	case kind == "address6" && len(data) == 1:
		return fmt.Sprintf("%x00::/8", data[0])
	case kind == "presence" && len(data) == 1:
		return map[byte]string{0: "missing", 1: "exists"}[data[0]]
	case kind == "ethertype" && len(data) == 2:
		return etherType(binary.BigEndian.Uint16(data))
	case kind == "icmpv6" && len(data) == 1:
		return strconv.Itoa(int(data[0]))
	case kind == "mac" && len(data) == 6:
		return net.HardwareAddr(data).String()
	case kind == "port" && len(data) == 2:
		return strconv.Itoa(int(binary.BigEndian.Uint16(data)))
	case kind == "family" && len(data) == 1:
		return map[byte]string{unix.NFPROTO_IPV4: "ipv4", unix.NFPROTO_IPV6: "ipv6"}[data[0]]
	case kind == "protocol" && len(data) >= 1:
		return protocol(data[0])
	case kind == "addrtype" && len(data) == 4 && binary.NativeEndian.Uint32(data) == unix.RTN_LOCAL:
		return "local"
	}
	return fmt.Sprintf("%#x", data)
}

func etherType(t uint16) string {
	names := map[uint16]string{unix.ETH_P_IP: "ip", unix.ETH_P_IPV6: "ip6", unix.ETH_P_ARP: "arp", unix.ETH_P_8021Q: "8021q", unix.ETH_P_8021AD: "8021ad"}
	if name := names[t]; name != "" {
		return name
	}
	return fmt.Sprintf("%#04x", t)
}

func protocol(p byte) string {
	switch p {
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "ipv6-icmp"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	}
	return strconv.Itoa(int(p))
}

// TableText writes the rules of a table of the calling thread's network namespace,
// each with the name of its chain, in the order in which the kernel walks them.
func TableText(c *nftables.Conn, name string, family nftables.TableFamily) ([]string, error) {
	chains, err := c.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	var lines []string
	for _, ch := range chains {
		if ch.Table.Name != name {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("list rules of chain %s: %w", ch.Name, err)
		}
		for _, r := range rules {
			lines = append(lines, ch.Name+": "+Text(r))
		}
	}
	return lines, nil
}

// Element writes an element of a set or map whose key, and value, are made of the
// parts named: "name", "address", "address6", "mac", "protocol", "port"; "verdict" as the only
// one of a value is a chain to go to. Each part of a concatenation
// takes a multiple of four bytes.
func Element(e nftables.SetElement, key, val []string) string {
	text := concatenation(e.Key, key)
	switch {
	case len(val) > 0 && e.VerdictData != nil:
		text += " : " + verdict(e.VerdictData)
	case len(val) > 0:
		text += " : " + concatenation(e.Val, val)
	}
	return text
}

// Size is how many bytes a part of a set's element has, without those that fill it up.
func Size(kind string) int {
	return map[string]int{"name": unix.IFNAMSIZ, "address": net.IPv4len, "address6": net.IPv6len, "mac": 6, "protocol": 1, "port": 2}[kind]
}

func concatenation(data []byte, kinds []string) string {
	var list []string
	for _, kind := range kinds {
		size := Size(kind)
		if len(data) < size {
			return strings.Join(append(list, "?"), " . ")
		}
		list = append(list, value(strings.TrimSuffix(kind, "6"), data[:size]))
		data = data[min(len(data), (size+3)/4*4):]
	}
	return strings.Join(slices.Clip(list), " . ")
}
