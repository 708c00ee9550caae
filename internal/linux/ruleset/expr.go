package ruleset

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"muelle/internal/linux/nft"

	"golang.org/x/sys/unix"
)

// expression is a part of a rule of nftables, with its attributes as the kernel gave them.
type expression struct {
	name string
	// attrs by their number, of which none is large: a map would be most of a reading's cost.
	attrs [][]byte
}

// expressionOf reads one of a rule's list.
func expressionOf(b []byte) (e expression) {
	nft.EachAttribute(b, func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_EXPR_NAME:
			e.name = nameOf(value)
		case unix.NFTA_EXPR_DATA:
			e.attrs = attributes(value)
		}
	})
	return e
}

func attributes(b []byte) [][]byte {
	list := make([][]byte, 0, 6)
	nft.EachAttribute(b, func(kind uint16, value []byte) {
		if kind > largestAttribute {
			return
		}
		for len(list) <= int(kind) {
			list = append(list, nil)
		}
		list[kind] = value
	})
	return list
}

// largestAttribute is more than any expression has.
const largestAttribute = 31

// nameOf is text without an allocation for the names that nearly all rules are made of.
func nameOf(b []byte) string {
	for _, name := range []string{"meta", "cmp", "payload", "counter", "immediate", "lookup", "ct", "bitwise", "match", "target"} {
		if len(b) == len(name)+1 && string(b[:len(name)]) == name {
			return name
		}
	}
	return text(b)
}

func (e *expression) attr(kind uint16) []byte {
	if int(kind) < len(e.attrs) {
		return e.attrs[kind]
	}
	return nil
}

func (e *expression) u32(attr uint16) uint32 {
	if b := e.attr(attr); len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (e *expression) has(attr uint16) bool { return e.attr(attr) != nil }

func (e *expression) text(attr uint16) string {
	return strings.TrimRight(string(e.attr(attr)), "\x00")
}

// value is the bytes in an attribute of type nft_data.
func (e *expression) value(attr uint16) []byte { return dataValue(e.attr(attr)) }

func dataValue(b []byte) (value []byte) {
	nft.EachAttribute(b, func(kind uint16, v []byte) {
		if kind == unix.NFTA_DATA_VALUE {
			value = v
		}
	})
	return value
}

// registers of one rule's evaluation: sixteen words.
type registers struct {
	data
	// source says of each word whether it is a name or number of an interface.
	source [registerBytes / 4]source
	// vary says the same of a target's values; alike is who notes what is asked of them.
	vary  [registerBytes / 4]vary
	alike *Alike
	bytes [2 * registerBytes]byte
}

const registerBytes = 64

func (r *registers) forget() {
	clear(r.bytes[:])
	clear(r.source[:])
	clear(r.vary[:])
	r.data = data{r.bytes[:registerBytes], r.bytes[registerBytes:]}
}

// mark notes where size bytes of a register come from.
func (r *registers) mark(register uint32, size int, from source) {
	for i := at(register) / 4; i < len(r.source) && size > 0; i, size = i+1, size-4 {
		r.source[i] = from
	}
}

// origin is where what is unknown of what take gives comes from: of an address before
// all else, since that can be told apart.
func (r *registers) origin(register uint32, size int) (from source) {
	for i := at(register) / 4; i < len(r.source) && size > 0; i, size = i+1, size-4 {
		if r.source[i] == elsewhere {
			continue
		}
		if _, whole := (data{r.value[4*i : 4*i+4], r.known[4*i : 4*i+4]}).whole(); !whole && (from == elsewhere || r.source[i] == ofAddress) {
			from = r.source[i]
		}
	}
	return from
}

// at gives the place of a register: those of old are sixteen bytes wide.
func at(register uint32) int {
	switch {
	case register >= unix.NFT_REG32_00 && register < unix.NFT_REG32_00+16:
		return int(register-unix.NFT_REG32_00) * 4
	case register >= unix.NFT_REG_1 && register <= unix.NFT_REG_4:
		return int(register-unix.NFT_REG_1) * 16
	}
	return registerBytes
}

func (r *registers) load(register uint32, d data) {
	if i := at(register); i < registerBytes {
		n := copy(r.value[i:], d.value)
		copy(r.known[i:], d.known)
		r.mark(register, n, elsewhere)
		clear(r.vary[i/4 : (i+n+3)/4])
		// The rest of the last word is zero.
		for ; n%4 != 0 && i+n < registerBytes; n++ {
			r.value[i+n], r.known[i+n] = 0, 0xff
		}
	}
}

// loadOf loads and, where not all of it is known, notes what it is of.
func (r *registers) loadOf(register uint32, d data, of source) {
	r.load(register, d)
	if _, whole := d.whole(); !whole {
		r.mark(register, len(d.value), of)
	}
}

// take gives size bytes of a register and those behind it, and notes that they were
// looked at.
func (r *registers) take(register uint32, size int) data {
	r.asked(register, size)
	return r.peek(register, size)
}

// peek is take, where what is looked at is noted otherwise.
func (r *registers) peek(register uint32, size int) data {
	i := at(register)
	end := min(i+size, registerBytes)
	return data{r.value[min(i, end):end], r.known[min(i, end):end]}
}

// evaluate tells whether a rule matches, and what it does then.
func (w *walk) evaluate(c *Chain, r *rule) (answer, verdict) {
	w.hangs, w.counts = hangs{}, false
	matches, v := w.asked(c, r)
	if matches == no && !w.counts || v.kind == verdictContinue {
		return matches, v
	}
	if matches != no {
		w.hung.add(w.hangs)
	}
	if w.counts && w.rate == "" {
		w.rate = c.describe(slices.IndexFunc(c.rules, func(o rule) bool { return o.handle == r.handle && o.legacy == r.legacy }))
	}
	return matches, v
}

// asked tells whether a rule matches, and what it does then. Where it is only what counts
// packets that keeps it from matching, the verdict is that of a packet too many.
func (w *walk) asked(c *Chain, r *rule) (answer, verdict) {
	if r.legacy != nil {
		return w.legacy(c, r.legacy)
	}
	regs := &w.registers
	regs.alike = w.alike
	regs.forget()
	matches := yes
	for i := range r.exprs {
		metered := w.counts
		a, v := w.expression(c, &r.exprs[i], regs)
		if e := &r.exprs[i]; a != no && (e.name == "notrack" || e.name == "target" && untracks(e.text(unix.NFTA_TARGET_NAME), e.attr(unix.NFTA_TARGET_INFO))) {
			w.untrack(c, matches)
		}
		if matches = matches.and(a); matches == no {
			// Over a limit the rule decides, whatever its verdict is.
			if w.counts = w.counts && !metered && r.drops(); w.counts {
				return no, verdict{kind: verdictDrop}
			}
			return no, verdict{}
		}
		if v.kind != verdictContinue {
			return matches, v
		}
	}
	return matches, verdict{}
}

func pass(v verdictKind) (answer, verdict) { return yes, verdict{kind: v} }

// expression does one step. What it does not know may match, and leaves nothing
// known in the registers.
func (w *walk) expression(c *Chain, e *expression, regs *registers) (answer, verdict) {
	switch e.name {
	case "meta":
		w.metaExpr(e, regs)
	case "ct":
		if !e.has(unix.NFTA_CT_SREG) {
			var direction uint32
			if d := e.attr(unix.NFTA_CT_DIRECTION); len(d) == 1 {
				direction = uint32(d[0])
			}
			key := e.u32(unix.NFTA_CT_KEY)
			if key != unix.NFT_CT_STATE { // without a connection the rule does not match
				switch w.wasTracked() {
				case Untracked:
					return no, verdict{}
				case PerhapsTracked:
					regs.loadOf(e.u32(unix.NFTA_CT_DREG), unknown(16), ofTracking)
					return maybe, verdict{}
				}
			}
			found := w.conntrack(key, direction)
			regs.loadOf(e.u32(unix.NFTA_CT_DREG), found, tracked(key))
			w.varyTracked(regs, e, key, found)
		}
	case "fib":
		found := w.fib(e.u32(unix.NFTA_FIB_RESULT), e.u32(unix.NFTA_FIB_FLAGS))
		regs.load(e.u32(unix.NFTA_FIB_DREG), found)
		w.markFib(regs, e, len(found.value))
	case "payload":
		if !e.has(unix.NFTA_PAYLOAD_SREG) {
			base, offset := e.u32(unix.NFTA_PAYLOAD_BASE), e.u32(unix.NFTA_PAYLOAD_OFFSET)
			found := w.payload(base, offset, e.u32(unix.NFTA_PAYLOAD_LEN))
			regs.loadOf(e.u32(unix.NFTA_PAYLOAD_DREG), found, w.within(base, offset))
			w.varyHeader(regs, e.u32(unix.NFTA_PAYLOAD_DREG), base, offset, len(found.value))
		}
	case "bitwise":
		bitwise(e, regs)
	case "byteorder":
		byteorder(e, regs)
	case "immediate":
		if v, ok := decodeVerdict(e.attr(unix.NFTA_IMMEDIATE_DATA)); ok {
			return yes, v
		}
		regs.load(e.u32(unix.NFTA_IMMEDIATE_DREG), known(e.value(unix.NFTA_IMMEDIATE_DATA)))
	case "cmp":
		return w.compare(regs, e), verdict{}
	case "range":
		from, to := e.value(unix.NFTA_RANGE_FROM_DATA), e.value(unix.NFTA_RANGE_TO_DATA)
		a := regs.compared(e.u32(unix.NFTA_RANGE_SREG), from, to).within(from, to)
		w.note(a, regs.origin(e.u32(unix.NFTA_RANGE_SREG), len(from)))
		if e.u32(unix.NFTA_RANGE_OP) != 0 {
			a = a.not()
		}
		return a, verdict{}
	case "lookup":
		return w.lookup(c, e, regs)
	case "counter", "log", "objref", "notrack", "last", "dup", "flow_offload":
	case "dynset":
		return w.metered(c, e, regs), verdict{}
	case "limit", "connlimit", "quota":
		// The usual packet is within the limit.
		w.counts = true
		return answerOf(e.u32(limitFlags[e.name])&1 == 0), verdict{}
	case "reject":
		return pass(verdictDrop)
	case "nat":
		return yes, w.nat(e, regs)
	case "queue":
		return yes, w.queued()
	case "masq", "redir", "tproxy", "synproxy", "fwd":
		return pass(verdictAccept)
	case "match":
		return w.xt(e.text(unix.NFTA_MATCH_NAME), e.u32(unix.NFTA_MATCH_REV), e.attr(unix.NFTA_MATCH_INFO)), verdict{}
	case "target":
		return yes, w.target(e.text(unix.NFTA_TARGET_NAME), e.attr(unix.NFTA_TARGET_INFO))
	default:
		regs.forget()
		w.hangs.on("the expression " + e.name)
		return maybe, verdict{}
	}
	return yes, verdict{}
}

// drops tells whether a rule may drop or leads on, rather than only count or log.
func (r *rule) drops() bool {
	return slices.ContainsFunc(r.exprs, func(e expression) bool {
		if e.name == "immediate" {
			_, ok := decodeVerdict(e.attr(unix.NFTA_IMMEDIATE_DATA))
			return ok
		}
		return e.name == "reject" || e.name == "target"
	})
}

// queued is the verdict of a program that takes packets from a queue.
func (w *walk) queued() verdict {
	w.hangs.on("the program that takes it from a queue")
	return verdict{kind: verdictUnknown, among: []verdict{{kind: verdictAccept}, {kind: verdictDrop}}}
}

// within says what part of a packet bytes of its headers are of.
func (s *state) within(base, offset uint32) source {
	switch {
	case base == unix.NFT_PAYLOAD_LL_HEADER && offset < 12:
		return ofLink
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER && (s.V6 && offset >= 8 || !s.V6 && offset >= 12 && offset < 20):
		return ofAddress
	case base == unix.NFT_PAYLOAD_TRANSPORT_HEADER && offset < 4:
		return ofPort
	}
	return elsewhere
}

// tracked says what a key of conntrack tells of.
func tracked(key uint32) source {
	switch key {
	case unix.NFT_CT_SRC_IP, unix.NFT_CT_SRC_IP6, unix.NFT_CT_SRC, unix.NFT_CT_DST, unix.NFT_CT_DST_IP, unix.NFT_CT_DST_IP6:
		return ofAddress
	case unix.NFT_CT_MARK:
		return ofMark
	case unix.NFT_CT_PROTO_SRC:
		return ofPort
	}
	return ofTracking
}

// nat is "snat" or "dnat to ADDRESS:PORT": values are in registers, or left out. No Fate
// hangs on them.
func (w *walk) nat(e *expression, regs *registers) verdict {
	if e.u32(unix.NFTA_NAT_TYPE) != unix.NFT_NAT_DNAT {
		return verdict{kind: verdictAccept}
	}
	size := 4
	if e.u32(unix.NFTA_NAT_FAMILY) == unix.NFPROTO_IPV6 {
		size = 16
	}
	var to netip.Addr
	port := w.DestinationPort
	if e.has(unix.NFTA_NAT_REG_ADDR_MIN) {
		if b, ok := regs.peek(e.u32(unix.NFTA_NAT_REG_ADDR_MIN), size).whole(); ok {
			to, _ = netip.AddrFromSlice(b)
		}
	}
	if e.has(unix.NFTA_NAT_REG_PROTO_MIN) {
		b, ok := regs.peek(e.u32(unix.NFTA_NAT_REG_PROTO_MIN), 2).whole()
		if port = 0; ok {
			port = binary.BigEndian.Uint16(b)
		}
	}
	w.to = netip.AddrPortFrom(to, port)
	return verdict{kind: verdictTranslate}
}

// limitFlags are the attributes whose first bit says "over".
var limitFlags = map[string]uint16{"limit": unix.NFTA_LIMIT_FLAGS, "connlimit": 2, "quota": 2}

// Attributes of nft_dynset_attributes, linux/netfilter/nf_tables.h.
const dynsetExpr, dynsetExpressions = 7, 10

// metered tells whether a packet passes what an element that it adds to a set counts.
func (w *walk) metered(c *Chain, e *expression, regs *registers) answer {
	a := yes
	ask := func(b []byte) {
		if b == nil {
			return
		}
		one := expressionOf(b)
		if got, _ := w.expression(c, &one, regs); got != yes && a != no {
			a = got
		}
	}
	ask(e.attr(dynsetExpr))
	nft.EachAttribute(e.attr(dynsetExpressions), func(_ uint16, b []byte) { ask(b) })
	return a
}

func (w *walk) metaExpr(e *expression, regs *registers) {
	key := e.u32(unix.NFTA_META_KEY)
	if !e.has(unix.NFTA_META_SREG) {
		d := w.meta(key)
		regs.load(e.u32(unix.NFTA_META_DREG), d)
		if _, whole := d.whole(); whole && key == unix.NFT_META_MARK {
			return
		}
		if from := sources[key]; from != elsewhere {
			regs.mark(e.u32(unix.NFTA_META_DREG), len(d.value), from)
		}
		return
	}
	if key == unix.NFT_META_MARK {
		w.mark = unknown(4)
	}
}

// From linux/netfilter/nf_tables.h: the operation of a bitwise expression.
const bitwiseOp = 6

func bitwise(e *expression, regs *registers) {
	size := int(e.u32(unix.NFTA_BITWISE_LEN))
	out := unknown(min(size, registerBytes))
	if e.u32(bitwiseOp) == 0 {
		mask := e.value(unix.NFTA_BITWISE_MASK)
		out = regs.masked(e.u32(unix.NFTA_BITWISE_SREG), size, mask).masked(mask, e.value(unix.NFTA_BITWISE_XOR))
	}
	from := regs.origin(e.u32(unix.NFTA_BITWISE_SREG), size)
	regs.load(e.u32(unix.NFTA_BITWISE_DREG), out)
	if from != elsewhere {
		regs.mark(e.u32(unix.NFTA_BITWISE_DREG), size, from)
	}
}

// byteorder turns round what is loaded, as the host's order and the network's differ.
func byteorder(e *expression, regs *registers) {
	size, each := int(e.u32(unix.NFTA_BYTEORDER_LEN)), int(e.u32(unix.NFTA_BYTEORDER_SIZE))
	from := regs.origin(e.u32(unix.NFTA_BYTEORDER_SREG), size)
	in := regs.take(e.u32(unix.NFTA_BYTEORDER_SREG), size)
	out := data{bytes.Clone(in.value), bytes.Clone(in.known)}
	if little := native32(1)[0] == 1; little && each > 0 {
		for i := 0; i+each <= len(out.value); i += each {
			slices.Reverse(out.value[i : i+each])
			slices.Reverse(out.known[i : i+each])
		}
	}
	regs.loadOf(e.u32(unix.NFTA_BYTEORDER_DREG), out, from)
}

// decodeVerdict reads an attribute of type nft_data that holds a verdict.
func decodeVerdict(b []byte) (verdict, bool) {
	var nested, code, chain []byte
	nft.EachAttribute(b, func(kind uint16, v []byte) {
		if kind == unix.NFTA_DATA_VERDICT {
			nested = v
		}
	})
	if nested == nil {
		return verdict{}, false
	}
	nft.EachAttribute(nested, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_VERDICT_CODE:
			code = v
		case unix.NFTA_VERDICT_CHAIN:
			chain = v
		}
	})
	if len(code) != 4 {
		return verdict{kind: verdictUnknown}, true
	}
	v := verdict{chain: strings.TrimRight(string(chain), "\x00")}
	switch int32(binary.BigEndian.Uint32(code)) {
	case 0: // NF_DROP
		v.kind = verdictDrop
	case -3: // NFT_JUMP
		v.kind = verdictJump
	case -4: // NFT_GOTO
		v.kind = verdictGoto
	case -5: // NFT_RETURN
		v.kind = verdictReturn
	case -1: // NFT_CONTINUE
		v.kind = verdictContinue
	default: // NF_ACCEPT, NF_STOLEN, NF_QUEUE: whoever takes it goes on with it
		v.kind = verdictAccept
	}
	return v, true
}
