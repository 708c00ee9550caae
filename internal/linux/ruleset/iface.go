package ruleset

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// source is what a register was loaded with, as far as it is of an interface of which
// perhaps only the beginning of the name is known.
type source byte

const (
	elsewhere source = iota
	nameOfIn
	nameOfOut
	nameOfWithin
	indexOfIn
	indexOfOut
	// What else may be unknown of a packet, for who asks what an answer hangs on.
	ofAddress
	ofPort
	ofMark
	ofTime
	ofOwner
	ofLink
	ofTracking
)

// reasons say what an answer hangs on, in words that follow "depends on".
var reasons = map[source]string{
	elsewhere: "something of the packet that is not known", nameOfIn: "the interface", nameOfOut: "the interface", nameOfWithin: "the interface",
	indexOfIn: "the interface", indexOfOut: "the interface", ofPort: "the source port", ofMark: "the packet's mark", ofTime: "the time",
	ofOwner: "who on this host sends it", ofLink: "the link-layer address", ofTracking: "what the kernel knows of the connection",
}

// sources are the keys of meta that tell of an interface.
var sources = map[uint32]source{
	unix.NFT_META_IIF: indexOfIn, unix.NFT_META_OIF: indexOfOut, unix.NFT_META_IIFNAME: nameOfIn, unix.NFT_META_OIFNAME: nameOfOut,
	unix.NFT_META_BRI_IIFNAME: nameOfWithin, unix.NFT_META_BRI_OIFNAME: nameOfWithin,
	unix.NFT_META_MARK: ofMark, unix.NFT_META_SKUID: ofOwner, unix.NFT_META_SKGID: ofOwner, unix.NFT_META_CGROUP: ofOwner,
	metaTime: ofTime, metaTime + 1: ofTime, metaTime + 2: ofTime,
}

// Constant tells whether what a reason of a Fate's names is the same for all that the
// same source sends to the same target.
func Constant(reason string) bool {
	return reason == reasons[nameOfIn] || reason == reasons[ofLink] || reason == reasons[elsewhere]
}

// beginning gives what is known of an interface's name where that is not all.
func (s *state) beginning(of source) (prefix string, ok bool) {
	switch of {
	case nameOfIn, indexOfIn:
		return strings.CutSuffix(s.In, "*")
	case nameOfOut, indexOfOut:
		return strings.CutSuffix(s.Out, "*")
	case nameOfWithin:
		return strings.CutSuffix(s.Within, "*")
	}
	return "", false
}

// metaTime is NFT_META_TIME_NS of linux/netfilter/nf_tables.h; day and hour follow.
const metaTime = 30

// note remembers what an answer depends on.
func (s *state) note(a answer, from source) {
	if a != maybe {
		return
	}
	_, begun := s.beginning(from)
	s.named = s.named || begun
	switch {
	case from == ofAddress:
		s.hangs.address = true
	case from != elsewhere || len(s.hangs.reasons) == 0: // else what made it unknown is told
		s.hangs.on(reasons[from])
	}
}

// hangs is what answers hung on that were open.
type hangs struct {
	address bool
	reasons []string
}

func (h *hangs) on(reason string) {
	if !slices.Contains(h.reasons, reason) {
		h.reasons = append(h.reasons, reason)
	}
}

// add takes over what another rule hung on.
func (h *hangs) add(o hangs) {
	h.address = h.address || o.address
	for _, r := range o.reasons {
		h.on(r)
	}
}

// markFib notes that a route's interface was loaded, which is the one that the packet
// came from.
func (w *walk) markFib(regs *registers, e *expression, size int) {
	switch e.u32(unix.NFTA_FIB_RESULT) {
	case unix.NFT_FIB_RESULT_OIF:
		regs.mark(e.u32(unix.NFTA_FIB_DREG), size, indexOfIn)
	case unix.NFT_FIB_RESULT_OIFNAME:
		regs.mark(e.u32(unix.NFTA_FIB_DREG), size, nameOfIn)
	}
}

// compare asks a comparison.
func (w *walk) compare(regs *registers, e *expression) answer {
	want, op, register := e.value(unix.NFTA_CMP_DATA), e.u32(unix.NFTA_CMP_OP), e.u32(unix.NFTA_CMP_SREG)
	from := regs.origin(register, len(want))
	if op <= unix.NFT_CMP_NEQ && len(want) == 4 && w.another(from, want) {
		return answerOf(op == unix.NFT_CMP_NEQ)
	}
	a := regs.ordered(register, op, want).compare(op, want)
	if a == maybe && from == ofPort && w.Reply && len(want) == 2 && op <= unix.NFT_CMP_NEQ {
		a = answerOf(op == unix.NFT_CMP_NEQ)
	}
	w.note(a, from)
	return a
}

// another tells whether an index is none of the interfaces whose name begins as the
// packet's does.
func (w *walk) another(from source, index []byte) bool {
	prefix, begun := w.beginning(from)
	if !begun || from != indexOfIn && from != indexOfOut {
		return false
	}
	n := n32(index)
	name, there := w.rules.names[n]
	return n == 0 || there && !strings.HasPrefix(name, prefix)
}
