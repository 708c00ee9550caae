package ruleset

import (
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
)

// sources are the keys of meta that tell of an interface.
var sources = map[uint32]source{
	unix.NFT_META_IIF: indexOfIn, unix.NFT_META_OIF: indexOfOut, unix.NFT_META_IIFNAME: nameOfIn, unix.NFT_META_OIFNAME: nameOfOut,
	unix.NFT_META_BRI_IIFNAME: nameOfWithin, unix.NFT_META_BRI_OIFNAME: nameOfWithin,
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

// note remembers that an answer depends on which interface it is.
func (s *state) note(a answer, from source) {
	if a == maybe {
		_, begun := s.beginning(from)
		s.named = s.named || begun
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
	a := regs.take(register, len(want)).compare(op, want)
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
