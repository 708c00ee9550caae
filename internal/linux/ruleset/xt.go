package ruleset

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// The matches and targets of iptables, which iptables-nft uses too, in the layout of
// linux/netfilter/xt_*.h. A match that is not known here, or of unknown length, may match.

func n16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func n32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// match asks one match of iptables.
func (w *walk) match(name string, revision uint32, info []byte) answer {
	switch {
	case name == "comment":
		return yes
	case metering[name] != nil:
		return w.over(metering[name], revision, info)
	case name == "tcp" && len(info) >= 12:
		return w.tcp(info)
	case name == "udp" && len(info) >= 9:
		if w.Protocol != 0 && w.Protocol != unix.IPPROTO_UDP {
			return no
		}
		return w.ports(info[0:8], info[8])
	case (name == "icmp" || name == "icmp6") && w.Protocol != 0:
		return answerOf(w.Protocol == unix.IPPROTO_ICMP || w.Protocol == unix.IPPROTO_ICMPV6).and(maybe)
	case name == "conntrack" && revision >= 1 && len(info) >= 152:
		return w.conntrackMatch(revision, info)
	case name == "state" && len(info) >= 4:
		return w.stateBits(n32(info), xtStateUntracked)
	case name == "multiport" && len(info) >= 48:
		return w.multiport(info)
	case name == "addrtype" && len(info) >= 8:
		return w.addrtype(revision, info)
	case name == "mark" && len(info) >= 9:
		a := w.mark.masked(info[4:8], nil).equal(info[0:4])
		return turned(a, info[8] != 0)
	case name == "pkttype" && len(info) >= 8:
		return turned(answerOf(n32(info) == 0), n32(info[4:]) != 0)
	case name == "rpfilter" && len(info) >= 1:
		return answerOf(info[0]&8 == 0) // the packet comes from where it should
	case name == "iprange" && len(info) >= 65:
		return w.iprange(info)
	}
	return maybe
}

func turned(a answer, invert bool) answer {
	if invert {
		return a.not()
	}
	return a
}

func (w *walk) inPorts(port uint16, of Role, from, to uint16) answer {
	switch {
	case from == 0 && to == 0xffff:
		return yes
	case port == 0:
		return maybe
	}
	w.alike.port(of, from, to)
	return answerOf(port >= from && port <= to)
}

// toPorts compares the destination's port.
func (w *walk) toPorts(from, to uint16) answer {
	if w.DestinationPort == 0 && w.Reply {
		switch {
		case from == to || to < clientPorts:
			return no
		case from <= clientPorts && to == 0xffff:
			return yes
		}
	}
	return w.inPorts(w.DestinationPort, w.Of.DestinationPort, from, to)
}

// ports compares the ranges of source and destination ports of xt_tcp and xt_udp.
func (w *walk) ports(ranges []byte, invert byte) answer {
	source := w.inPorts(w.SourcePort, w.Of.SourcePort, n16(ranges), n16(ranges[2:]))
	dest := w.toPorts(n16(ranges[4:]), n16(ranges[6:]))
	return turned(source, invert&1 != 0).and(turned(dest, invert&2 != 0))
}

func (w *walk) tcp(info []byte) answer {
	if w.Protocol != 0 && w.Protocol != unix.IPPROTO_TCP {
		return no
	}
	a := w.ports(info[0:8], info[11])
	if mask := info[9]; mask != 0 {
		flags := maybe
		if !w.Established {
			flags = turned(answerOf(tcpSYN&mask == info[10]), info[11]&4 != 0)
		}
		a = a.and(flags)
	}
	if info[8] != 0 { // an option
		a = a.and(maybe)
	}
	return a
}

// Bits of xt_conntrack's state: 1 << (state + 1).
const (
	xtSNAT = 1 << 6
	xtDNAT = 1 << 7
	// Untracked has another bit in each of the two matches.
	xtStateUntracked     = 1 << 6
	xtConntrackUntracked = 1 << 8
)

// stateBits compares with the state; a bit of SNAT leaves it open.
func (w *walk) stateBits(mask, untracked uint32) answer {
	switch w.wasTracked() {
	case Untracked:
		return answerOf(mask&untracked != 0)
	case PerhapsTracked:
		return maybe
	}
	value, ok := w.followed().whole()
	if !ok {
		return maybe
	}
	have := n32(value) // the bits are those of nftables
	if w.Translated {
		have |= xtDNAT
	}
	a := answerOf(mask&have != 0)
	if a == no && untracked != xtStateUntracked && mask&xtSNAT != 0 {
		return maybe
	}
	return a
}

// What xt_conntrack compares.
const (
	ctState       = 1 << 0
	ctProto       = 1 << 1
	ctOrigSrc     = 1 << 2
	ctOrigDst     = 1 << 3
	ctStatus      = 1 << 6
	ctOrigDstPort = 1 << 9
	ctDirection   = 1 << 12
)

func (w *walk) conntrackMatch(revision uint32, info []byte) answer {
	flags, invert := uint32(n16(info[146:])), uint32(n16(info[148:]))
	states, status := uint32(info[150]), uint32(info[151])
	if revision >= 2 {
		if len(info) < 154 {
			return maybe
		}
		states, status = uint32(n16(info[150:])), uint32(n16(info[152:]))
	}
	if w.wasTracked() == Untracked {
		// The other conditions are not asked.
		if flags&ctState == 0 {
			return no
		}
		return turned(w.stateBits(states, xtConntrackUntracked), invert&ctState != 0)
	}
	result, left := yes, flags
	if w.tracking == PerhapsTracked {
		result = maybe
	}
	test := func(bit uint32, a func() answer) {
		if flags&bit != 0 {
			left &^= bit
			result = result.and(turned(a(), invert&bit != 0))
		}
	}
	test(ctState, func() answer { return w.stateBits(states, xtConntrackUntracked) })
	test(ctProto, func() answer { return w.protocol().equal([]byte{byte(n16(info[136:]))}) })
	// The bit says "reply" where it is inverted.
	test(ctDirection, func() answer { return answerOf(!w.Reply) })
	test(ctStatus, func() answer { return w.statusBits(status) })
	original, port, ok := w.original()
	addressRole, portRole := w.originalRoles()
	if !ok {
		port = 0
	}
	test(ctOrigSrc, func() answer {
		size := w.addressSize()
		w.alike.masked(w.begunByRole(), info[16:16+size])
		a := address(w.begunBy(), size).masked(info[16:16+size], nil).equal(info[0:size])
		w.note(a, ofAddress)
		return a
	})
	test(ctOrigDst, func() answer {
		if !ok {
			return maybe
		}
		size := w.addressSize()
		w.alike.masked(addressRole, info[48:48+size])
		return address(original, size).masked(info[48:48+size], nil).equal(info[32 : 32+size])
	})
	test(ctOrigDstPort, func() answer {
		from := binary.BigEndian.Uint16(info[140:])
		to := from
		if revision >= 3 && len(info) >= 158 {
			from, to = n16(info[140:]), n16(info[156:])
		}
		return w.inPorts(port, portRole, from, to)
	})
	if left != 0 {
		result = result.and(maybe)
	}
	return result
}

// statusBits: the bits of translation and of an answer are known, others may be set.
func (w *walk) statusBits(mask uint32) answer {
	s := w.status()
	if n32(s.value)&mask != 0 {
		return yes
	}
	if mask&^n32(s.known) != 0 {
		return maybe
	}
	return no
}

func (w *walk) multiport(info []byte) answer {
	kind, count := info[0], min(int(info[1]), 15)
	found := no
	for i := 0; i < count; i++ {
		from := n16(info[2+2*i:])
		to := from
		if info[32+i] != 0 && i+1 < count {
			i++
			to = n16(info[2+2*i:])
		}
		if kind != 1 { // of the source, or of either
			found = found.or(w.inPorts(w.SourcePort, w.Of.SourcePort, from, to))
		}
		if kind != 0 {
			found = found.or(w.toPorts(from, to))
		}
	}
	return turned(found, info[47] != 0)
}

func (w *walk) addrtype(revision uint32, info []byte) answer {
	source, dest := n16(info), n16(info[2:])
	invert := n32(info[4:])
	invertSource, invertDest := invert&1 != 0, invert&2 != 0
	if revision == 0 && len(info) >= 12 {
		invertSource, invertDest = invert != 0, n32(info[8:]) != 0
	}
	result := yes
	if source != 0 {
		kind := uint32(unix.RTN_UNICAST)
		if w.In == "" {
			kind = unix.RTN_LOCAL
		}
		result = result.and(turned(answerOf(source&(1<<kind) != 0), invertSource))
	}
	if dest != 0 {
		result = result.and(turned(answerOf(dest&(1<<w.destinationType()) != 0), invertDest))
	}
	return result
}

func (w *walk) iprange(info []byte) answer {
	result, size, flags := yes, w.addressSize(), info[64]
	if flags&1 != 0 {
		w.alike.within(w.Of.Source, info[0:size], info[16:16+size])
		a := address(w.Source, size).within(info[0:size], info[16:16+size])
		w.note(a, ofAddress)
		result = result.and(turned(a, flags&16 != 0))
	}
	if flags&2 != 0 {
		w.alike.within(w.Of.Destination, info[32:32+size], info[48:48+size])
		a := address(w.Destination, size).within(info[32:32+size], info[48:48+size])
		w.note(a, ofAddress)
		result = result.and(turned(a, flags&32 != 0))
	}
	return result
}

// xt asks one match of iptables and notes what it hangs on, where that is not an address.
func (w *walk) xt(name string, revision uint32, info []byte) answer {
	before := w.hangs.address
	a := w.match(name, revision, info)
	if a == maybe && w.hangs.address == before && name != "iprange" {
		reason := matchReasons[name]
		if reason == "" {
			reason = "the match " + name
		}
		w.hangs.on(reason)
	}
	return a
}

var matchReasons = map[string]string{
	"owner": reasons[ofOwner], "time": reasons[ofTime], "mark": reasons[ofMark], "connmark": reasons[ofMark], "mac": reasons[ofLink],
	"tcp": reasons[ofPort], "udp": reasons[ofPort], "multiport": reasons[ofPort], "conntrack": reasons[ofTracking], "statistic": "chance",
	"set": "what is in an ipset", "recent": "who has been here before",
}

// metering are the matches that count packets or connections: the usual packet is within
// what they allow.
var metering = map[string]func(revision uint32, info []byte) answer{
	"limit":     func(uint32, []byte) answer { return yes },
	"hashlimit": hashLimit,
	"connlimit": func(_ uint32, info []byte) answer {
		if len(info) < 24 {
			return maybe
		}
		return turned(answerOf(n32(info[16:]) < 1), n32(info[20:])&1 != 0)
	},
	"quota": func(_ uint32, info []byte) answer {
		if len(info) < 4 {
			return maybe
		}
		return answerOf(n32(info)&1 == 0)
	},
	"recent": recent,
}

// over asks a match that counts.
func (w *walk) over(ask func(uint32, []byte) answer, revision uint32, info []byte) answer {
	a := ask(revision, info)
	w.counts = w.counts || a != maybe
	return a
}

// hashLimit: its flag "over" is bit 4 of the mode, which stands behind the name.
func hashLimit(revision uint32, info []byte) answer {
	at := 16
	if revision >= 2 {
		at = 272
	}
	if len(info) < at+4 {
		return maybe
	}
	return answerOf(n32(info[at:])&(1<<4) == 0)
}

// recent: a list is written to, or asked whether somebody has been there too often.
func recent(_ uint32, info []byte) answer {
	const set = 1 << 1
	switch {
	case len(info) < 10:
		return maybe
	case info[8]&set != 0:
		return answerOf(info[9] == 0)
	case n32(info[4:]) > 1: // so many hits
		return answerOf(info[9] != 0)
	}
	return maybe
}

// target does one target of iptables that is no verdict.
func (w *walk) target(name string, info []byte) verdict {
	switch name {
	case "REJECT", "DROP", "TARPIT":
		return verdict{kind: verdictDrop}
	case "DNAT":
		w.to = w.dnat(info)
		return verdict{kind: verdictTranslate}
	case "SNAT", "MASQUERADE", "REDIRECT", "NETMAP", "TPROXY", "SYNPROXY":
		return verdict{kind: verdictAccept}
	case "NFQUEUE":
		return w.queued()
	case "MARK":
		w.mark = unknown(4)
	}
	return verdict{}
}

// untracks tells the targets by which a packet is not tracked: XT_CT_NOTRACK is the first
// flag of CT, linux/netfilter/xt_CT.h.
func untracks(target string, info []byte) bool {
	return target == "NOTRACK" || target == "CT" && len(info) >= 2 && n16(info)&1 != 0
}

// Where things are in nf_nat_ipv4_multi_range_compat, which DNAT of IPv4 had first, and
// in nf_nat_range2, which begins as nf_nat_range does: linux/netfilter/nf_nat.h.
const (
	natRangeMapsAddress, natRangeMapsPort = 1, 2
	natCompatBytes                        = 24 // padded to eight bytes
	natRangeBytes                         = 40
)

// dnat reads the destination of the target DNAT.
func (w *walk) dnat(info []byte) netip.AddrPort {
	var flags uint32
	var addr, port []byte
	switch n := len(info); {
	case n >= 20 && n <= natCompatBytes:
		flags, addr, port = n32(info[4:]), info[8:12], info[16:18]
	case n >= natRangeBytes:
		flags, addr, port = n32(info), info[4:4+w.addressSize()], info[36:38]
	}
	to, at := netip.Addr{}, w.DestinationPort
	if flags&natRangeMapsAddress != 0 {
		to, _ = netip.AddrFromSlice(addr)
	}
	if flags&natRangeMapsPort != 0 {
		at = binary.BigEndian.Uint16(port)
	}
	return netip.AddrPortFrom(to, at)
}

// legacyRule is an entry of the old iptables.
type legacyRule struct {
	v6             bool
	source, dest   netMatch
	in, out        ifMatch
	protocol       byte
	flags, inverts byte
	matches        []legacyMatch
	verdict        verdict
	target         string // one that is no verdict
	info           []byte
}

type legacyMatch struct {
	name     string
	revision uint32
	info     []byte
}

type netMatch struct{ address, mask []byte }

type ifMatch struct{ name, mask []byte }

// matches: in what the mask leaves out stands the "+" of a wildcard.
func (m ifMatch) matches(name string) answer {
	return ifname(name).masked(m.mask, nil).equal(known(m.name).masked(m.mask, nil).value)
}

// Bits of inverts, from linux/netfilter_ipv4/ip_tables.h; those of IPv6 are the same.
const (
	invIn    = 0x01
	invOut   = 0x02
	invSrc   = 0x08
	invDst   = 0x10
	invFrag  = 0x20
	invProto = 0x40
)

// legacy asks an entry of the old iptables.
func (w *walk) legacy(c *Chain, r *legacyRule) (answer, verdict) {
	size := w.addressSize()
	w.alike.masked(w.Of.Source, r.source.mask)
	w.alike.masked(w.Of.Destination, r.dest.mask)
	source := address(w.Source, size).masked(r.source.mask, nil).equal(r.source.address)
	dest := address(w.Destination, size).masked(r.dest.mask, nil).equal(r.dest.address)
	w.note(source, ofAddress)
	w.note(dest, ofAddress)
	result := turned(source, r.inverts&invSrc != 0).and(turned(dest, r.inverts&invDst != 0))
	in, out := r.in.matches(w.In), r.out.matches(w.Out)
	w.note(in, nameOfIn)
	w.note(out, nameOfOut)
	result = result.and(turned(in, r.inverts&invIn != 0)).and(turned(out, r.inverts&invOut != 0))
	if r.protocol != 0 {
		result = result.and(turned(w.protocolIs(r.protocol), r.inverts&invProto != 0))
	}
	if r.flags&1 != 0 && !r.v6 { // later fragments
		result = result.and(turned(no, r.inverts&invFrag != 0))
	}
	for _, m := range r.matches {
		if result == no {
			break
		}
		metered := w.counts
		if result = result.and(w.xt(m.name, m.revision, m.info)); result == no {
			w.counts = w.counts && !metered
		}
	}
	if result == no && w.counts && (r.target == "" && r.verdict.kind != verdictContinue || r.target == "REJECT") {
		return no, verdict{kind: verdictDrop}
	}
	if result == no {
		return no, verdict{}
	}
	if untracks(r.target, r.info) {
		w.untrack(c, result)
	}
	if r.target != "" {
		return result, w.target(r.target, r.info)
	}
	return result, r.verdict
}

func (w *walk) protocolIs(p byte) answer { return w.protocol().equal([]byte{p}) }

// Sample gives addresses of the world outside, for rules that treat it in parts.
func Sample(v6 bool) []netip.Prefix {
	var list []netip.Prefix
	text := "45.33.32.156/32 81.2.69.142/32 103.21.58.9/32 200.160.2.3/32"
	if v6 {
		text = "2600:3c01::f03c/128 2a02:c207::9/128 2400:cb00::17/128 2801:80::3/128"
	}
	for _, s := range strings.Fields(text) {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}
