package ruleset

import (
	"bytes"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// set is a set or map of nftables.
type set struct {
	flags   uint32
	keyLen  int
	dataLen int
	// fields are the lengths of a concatenation's parts.
	fields   []int
	elements []element
	// unread: its elements are not known.
	unread bool
	// index finds elements by their keys, where all have one alone.
	index map[string]int32
	once  sync.Once
}

// element is a key, or a range, and what it is mapped to.
type element struct {
	key, end []byte // end is nil where the key stands alone, or the range has no end
	ranged   bool
	catchall bool
	// closes: of an interval set that is not joined yet, the end of the range before.
	closes  bool
	value   []byte
	verdict *verdict
}

// From linux/netfilter/nf_tables.h.
const (
	setInterval    = 0x4
	setMap         = 0x8
	setConcat      = 0x80
	elemEnd        = 0x1
	elemCatchall   = 0x2
	lookupInverted = 0x1
	elemKeyEnd     = 10
	setDescConcat  = 2
	setFieldLen    = 1
)

// ranges joins the elements of an interval set: each begins a range, or ends one.
func (s *set) ranges() {
	if s.flags&setInterval == 0 || s.flags&setConcat != 0 && len(s.fields) > 1 {
		return
	}
	slices.SortFunc(s.elements, func(a, b element) int {
		c := bytes.Compare(a.key, b.key)
		if c == 0 && a.closes != b.closes {
			c = 1
			if a.closes {
				c = -1
			}
		}
		return c
	})
	var list []element
	open := -1
	for _, e := range s.elements {
		if e.catchall {
			list = append(list, e)
			continue
		}
		if open >= 0 && list[open].end == nil {
			list[open].end = before(e.key)
			open = -1
		}
		if !e.closes {
			e.ranged = true
			open = len(list)
			list = append(list, e)
		}
	}
	s.elements = list
}

// before is the number that is smaller by one.
func before(key []byte) []byte {
	out := bytes.Clone(key)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}

// matches compares a key with an element.
func (s *set) matches(key data, e *element) answer {
	switch {
	case e.catchall:
		return yes
	case !e.ranged:
		return key.equal(e.key)
	case len(s.fields) < 2:
		return key.within(e.key, e.end)
	}
	result, from := yes, 0
	for _, size := range s.fields {
		if from+size > len(e.key) || from+size > len(e.end) || from+size > len(key.value) {
			return maybe
		}
		part := data{key.value[from : from+size], key.known[from : from+size]}
		result = result.and(part.within(e.key[from:from+size], e.end[from:from+size]))
		from += (size + 3) / 4 * 4
	}
	return result
}

// search gives the elements that a key may be, and whether it is one.
func (s *set) search(key data) (found answer, candidates []*element) {
	if exact, whole := key.whole(); whole && len(exact) == s.keyLen && s.indexed() {
		i, ok := s.index[string(exact)]
		if !ok {
			return no, nil
		}
		return yes, []*element{&s.elements[i]}
	}
	for i := range s.elements {
		el := &s.elements[i]
		a := s.matches(key, el)
		if a == no || el.catchall && found == yes {
			continue
		}
		found = found.or(a)
		if a == yes && !el.catchall {
			return yes, []*element{el}
		}
		candidates = append(candidates, el)
	}
	return found, candidates
}

// few elements are searched one by one.
const few = 8

// indexed tells whether keys can be found in the index, which it makes on the first call.
func (s *set) indexed() bool {
	s.once.Do(func() {
		other := func(e element) bool { return e.ranged || e.catchall || len(e.key) != s.keyLen }
		if len(s.elements) <= few || slices.ContainsFunc(s.elements, other) {
			return
		}
		s.index = make(map[string]int32, len(s.elements))
		for i := range s.elements {
			s.index[string(s.elements[i].key)] = int32(i)
		}
	})
	return s.index != nil
}

// lookup searches a set or map.
func (w *walk) lookup(c *Chain, e *expression, regs *registers) (answer, verdict) {
	dest := e.u32(unix.NFTA_LOOKUP_DREG)
	s := c.sets[string(bytes.TrimRight(e.attr(unix.NFTA_LOOKUP_SET), "\x00"))]
	if s == nil || s.unread {
		w.hangs.on("a set that could not be read")
		regs.load(dest, unknown(16))
		return maybe, verdict{kind: unreadVerdict(s, e)}
	}
	key := regs.peek(e.u32(unix.NFTA_LOOKUP_SREG), s.keyLen)
	found, candidates := s.search(key)
	parts, comes := regs.key(e.u32(unix.NFTA_LOOKUP_SREG), s.keyLen)
	if len(parts) > 0 && len(s.elements) > 0 {
		w.alike.lookedUp(lookedUp{set: s, key: key, parts: parts, verdict: e.has(unix.NFTA_LOOKUP_DREG) && dest == unix.NFT_REG_VERDICT, answer: found, found: candidates})
	}
	if len(candidates) > 1 {
		w.note(maybe, regs.origin(e.u32(unix.NFTA_LOOKUP_SREG), s.keyLen))
	}
	w.note(found, regs.origin(e.u32(unix.NFTA_LOOKUP_SREG), s.keyLen))
	if e.u32(unix.NFTA_LOOKUP_FLAGS)&lookupInverted != 0 {
		return found.not(), verdict{}
	}
	if found == no || !e.has(unix.NFTA_LOOKUP_DREG) {
		return found, verdict{}
	}
	v := w.mapped(candidates, dest, s.dataLen, regs)
	if comes != 0 && len(candidates) == 1 {
		regs.comesOf(dest, len(candidates[0].value), comes)
	}
	return found, v
}

// unreadVerdict: a map that was not read may lead anywhere.
func unreadVerdict(s *set, e *expression) verdictKind {
	if e.has(unix.NFTA_LOOKUP_DREG) && e.u32(unix.NFTA_LOOKUP_DREG) == unix.NFT_REG_VERDICT {
		return verdictUnknown
	}
	return verdictContinue
}

// mapped takes over what the elements are mapped to: the verdict, or data.
func (w *walk) mapped(candidates []*element, dest uint32, size int, regs *registers) verdict {
	if dest != unix.NFT_REG_VERDICT {
		if len(candidates) == 1 {
			regs.load(dest, known(candidates[0].value))
		} else {
			regs.load(dest, unknown(size))
		}
		return verdict{}
	}
	var among []verdict
	for _, c := range candidates {
		if c.verdict != nil {
			among = append(among, *c.verdict)
		}
	}
	if len(among) == 1 {
		return among[0]
	}
	return verdict{kind: verdictUnknown, among: among}
}
