package ruleset

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Role says which of a target's own values stands in a field of a packet.
type Role uint8

// Fixed is a value that is the packet's own; the others are those of Values.
const (
	Fixed Role = iota
	HostPort
	TargetPort
	TargetAddress
)

// Roles of a packet's fields. An address that has one is known whole, and a port is not 0.
type Roles struct {
	Source, Destination, Original             Role
	SourcePort, DestinationPort, OriginalPort Role
}

// Values are what differs between targets that are asked for in the same way.
type Values struct {
	HostPort, TargetPort uint16
	TargetAddress        netip.Addr
}

// Alike is what rules asked of a target's values while packets for it were followed: for
// every other target that they would have answered the same, the packets of the same shape
// come to the same. Whatever looks at a field with a role notes it here, as what it
// compares with, or else, as the value itself.
type Alike struct {
	values Values
	// Each of the values may be anything within its bounds.
	ports     [2]struct{ low, high uint16 }
	low, high netip.Addr
	lookups   []lookedUp
}

// lookedUp is a key that was searched in a set, and what was found.
type lookedUp struct {
	set     *set
	key     data
	parts   []part
	verdict bool // where elements lead matters
	answer  answer
	found   []*element
}

// part of a key is a word that holds bytes of a value: those from 4*at on.
type part struct {
	word int
	role Role
	at   int
}

// NewAlike is for packets to a target of these values; TargetAddress may be invalid.
func NewAlike(v Values) *Alike {
	a := &Alike{values: v}
	for i := range a.ports {
		a.ports[i].high = 0xffff
	}
	if v.TargetAddress.IsValid() {
		a.low, a.high = edges(netip.PrefixFrom(v.TargetAddress, 0))
	}
	return a
}

// edges are the first and the last address of a prefix.
func edges(p netip.Prefix) (first, last netip.Addr) {
	first = p.Masked().Addr()
	b := first.AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	return first, last
}

// Holds tells whether the rules would have answered the same of other values, of the same
// family, and of which the same ones are zero.
func (a *Alike) Holds(v Values) bool {
	for i, port := range []uint16{v.HostPort, v.TargetPort} {
		if port < a.ports[i].low || port > a.ports[i].high {
			return false
		}
	}
	if v.TargetAddress.Compare(a.low) < 0 || v.TargetAddress.Compare(a.high) > 0 {
		return false
	}
	for i := range a.lookups {
		if !a.lookups[i].holds(v) {
			return false
		}
	}
	return true
}

func (l *lookedUp) holds(v Values) bool {
	var buffer [registerBytes]byte
	key := data{buffer[:copy(buffer[:], l.key.value)], l.key.known}
	for _, p := range l.parts {
		copy(key.value[4*p.word:], v.word(p.role, p.at))
	}
	answer, found := l.set.search(key)
	if answer != l.answer || len(found) != len(l.found) {
		return false
	}
	return !l.verdict || slices.EqualFunc(found, l.found, func(a, b *element) bool { return sameVerdict(a.verdict, b.verdict) })
}

// sameVerdict compares verdicts of elements, of which none is one of several.
func sameVerdict(a, b *verdict) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.kind == b.kind && a.chain == b.chain
}

// word gives the bytes of a value that stand in a register's word.
func (v Values) word(r Role, at int) []byte {
	switch r {
	case HostPort:
		return big16(v.HostPort)
	case TargetPort:
		return big16(v.TargetPort)
	}
	return v.TargetAddress.AsSlice()[4*at : 4*at+4]
}

// size of a value, in bytes.
func (v Values) size(r Role) int {
	if r == TargetAddress {
		return v.TargetAddress.BitLen() / 8
	}
	return 2
}

// port notes that one was compared with a range.
func (a *Alike) port(r Role, from, to uint16) {
	if a == nil || r != HostPort && r != TargetPort {
		return
	}
	s, port := &a.ports[r-HostPort], a.values.HostPort
	if r == TargetPort {
		port = a.values.TargetPort
	}
	switch {
	case port < from:
		s.high = min(s.high, from-1)
	case port > to:
		s.low = max(s.low, to+1)
	default:
		s.low, s.high = max(s.low, from), min(s.high, to)
	}
}

// address notes that it was compared with a range.
func (a *Alike) address(r Role, from, to netip.Addr) {
	if a == nil || r != TargetAddress {
		return
	}
	v := a.values.TargetAddress
	if from.BitLen() != v.BitLen() || to.BitLen() != v.BitLen() {
		a.exact(r)
		return
	}
	switch {
	case v.Less(from):
		a.bound(a.low, from.Prev())
	case to.Less(v):
		a.bound(to.Next(), a.high)
	default:
		a.bound(from, to)
	}
}

func (a *Alike) bound(low, high netip.Addr) {
	if a.low.Less(low) {
		a.low = low
	}
	if high.Less(a.high) {
		a.high = high
	}
}

// within notes that a value was compared with a range of its size.
func (a *Alike) within(r Role, from, to []byte) {
	if r == TargetAddress {
		low, _ := netip.AddrFromSlice(from)
		high, _ := netip.AddrFromSlice(to)
		a.address(r, low, high)
		return
	}
	a.port(r, binary.BigEndian.Uint16(from), binary.BigEndian.Uint16(to))
}

// masked notes that only the bits of a mask were looked at.
func (a *Alike) masked(r Role, mask []byte) {
	if a == nil || r == Fixed {
		return
	}
	n := 0
	for n < len(mask)*8 && mask[n/8]&(0x80>>(n%8)) != 0 {
		n++
	}
	rest := bytes.Clone(mask)
	for i := range n {
		rest[i/8] &^= 0x80 >> (i % 8)
	}
	if r != TargetAddress || len(mask) > a.values.size(r) || len(bytes.Trim(rest, "\x00")) > 0 {
		a.exact(r)
		return
	}
	a.bound(edges(netip.PrefixFrom(a.values.TargetAddress, n)))
}

// exact notes that a value itself was looked at.
func (a *Alike) exact(r Role) {
	switch {
	case a == nil:
	case r == HostPort:
		a.port(r, a.values.HostPort, a.values.HostPort)
	case r == TargetPort:
		a.port(r, a.values.TargetPort, a.values.TargetPort)
	case r == TargetAddress:
		a.bound(a.values.TargetAddress, a.values.TargetAddress)
	}
}

// lookedUp notes a search.
func (a *Alike) lookedUp(l lookedUp) {
	same := func(o lookedUp) bool {
		return o.set == l.set && (o.verdict || !l.verdict) && bytes.Equal(o.key.value, l.key.value) && bytes.Equal(o.key.known, l.key.known) && slices.Equal(o.parts, l.parts)
	}
	if !slices.ContainsFunc(a.lookups, same) {
		l.key = data{bytes.Clone(l.key.value), bytes.Clone(l.key.known)}
		a.lookups = append(a.lookups, l)
	}
}

// vary says what of a target's values a register's word holds: a part of one as it is, or
// something that comes of those whose bits are set.
type vary struct {
	of    Role
	at    int8
	comes uint8
}

// holds notes that a register was loaded with a value.
func (r *registers) holds(register uint32, of Role, size int) {
	if r.alike == nil || of == Fixed {
		return
	}
	if size != r.alike.values.size(of) {
		r.alike.exact(of)
		return
	}
	for i, word := at(register)/4, 0; i < len(r.vary) && 4*word < size; i, word = i+1, word+1 {
		r.vary[i] = vary{of: of, at: int8(word)}
	}
}

// field notes that offset and size of a header were loaded, in which a value stands.
func (r *registers) field(register uint32, offset, size, at, length int, of Role) {
	switch {
	case r.alike == nil || of == Fixed || offset >= at+length || offset+size <= at:
	case offset == at && size == length:
		r.holds(register, of, size)
	case offset == at && size < length:
		r.alike.masked(of, bytes.Repeat([]byte{0xff}, size))
	default:
		r.alike.exact(of)
	}
}

// holding tells which value, whole, is what size bytes of a register hold.
func (r *registers) holding(register uint32, size int) Role {
	first := at(register) / 4
	if r.alike == nil || first >= len(r.vary) || size != r.alike.values.size(r.vary[first].of) {
		return Fixed
	}
	of := r.vary[first].of
	for i := range (size + 3) / 4 {
		if first+i >= len(r.vary) || r.vary[first+i] != (vary{of: of, at: int8(i)}) {
			return Fixed
		}
	}
	return of
}

// compared is take, for a comparison with the bounds of a range.
func (r *registers) compared(register uint32, from, to []byte) data {
	of := r.holding(register, len(from))
	if of == Fixed || len(to) != len(from) {
		return r.take(register, len(from))
	}
	r.alike.within(of, from, to)
	return r.peek(register, len(from))
}

// ordered is take, for a comparison with one value: with less, and no less, all of what is
// on the same side of it is alike.
func (r *registers) ordered(register, op uint32, want []byte) data {
	from, to := want, want
	if r.holding(register, len(want)) != Fixed {
		switch op {
		case unix.NFT_CMP_LT, unix.NFT_CMP_GTE:
			to = bytes.Repeat([]byte{0xff}, len(want))
		case unix.NFT_CMP_LTE, unix.NFT_CMP_GT:
			from = make([]byte, len(want))
		}
	}
	return r.compared(register, from, to)
}

// masked is take, of the bits of a mask.
func (r *registers) masked(register uint32, size int, mask []byte) data {
	of := r.holding(register, size)
	if of == Fixed || len(mask) != size {
		return r.take(register, size)
	}
	r.alike.masked(of, mask)
	return r.peek(register, size)
}

// comesOf notes that what a register was loaded with comes of values.
func (r *registers) comesOf(register uint32, size int, values uint8) {
	for i := at(register) / 4; i < len(r.vary) && size > 0; i, size = i+1, size-4 {
		r.vary[i] = vary{comes: values}
	}
}

// varyHeader notes which values bytes hold that were loaded from a header.
func (w *walk) varyHeader(regs *registers, register, base, offset uint32, size int) {
	switch {
	case base == unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		regs.field(register, int(offset), size, 0, 2, w.Of.SourcePort)
		regs.field(register, int(offset), size, 2, 2, w.Of.DestinationPort)
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER && w.V6:
		regs.field(register, int(offset), size, 8, 16, w.Of.Source)
		regs.field(register, int(offset), size, 24, 16, w.Of.Destination)
	case base == unix.NFT_PAYLOAD_NETWORK_HEADER:
		regs.field(register, int(offset), size, 12, 4, w.Of.Source)
		regs.field(register, int(offset), size, 16, 4, w.Of.Destination)
	}
}

// varyTracked notes which value a key of conntrack gave.
func (w *walk) varyTracked(regs *registers, e *expression, key uint32, found data) {
	if _, whole := found.whole(); !whole || w.alike == nil {
		return
	}
	address, port := w.originalRoles()
	of := Fixed
	switch key {
	case unix.NFT_CT_SRC_IP, unix.NFT_CT_SRC_IP6, unix.NFT_CT_SRC:
		of = w.begunByRole()
	case unix.NFT_CT_DST_IP, unix.NFT_CT_DST_IP6, unix.NFT_CT_DST:
		of = address
	case unix.NFT_CT_PROTO_DST:
		of = port
	}
	regs.holds(e.u32(unix.NFTA_CT_DREG), of, len(found.value))
}

// asked notes that size bytes of a register were looked at.
func (r *registers) asked(register uint32, size int) {
	if r.alike == nil {
		return
	}
	for i := at(register) / 4; i < len(r.vary) && size > 0; i, size = i+1, size-4 {
		r.askedWord(i)
	}
}

func (r *registers) askedWord(i int) {
	r.alike.exact(r.vary[i].of)
	for role := HostPort; role <= TargetAddress; role++ {
		if r.vary[i].comes&(1<<role) != 0 {
			r.alike.exact(role)
		}
	}
}

// key gives the parts of values that a key in a register has, and of which values they
// are. On what else comes of a value the answer hangs as it is.
func (r *registers) key(register uint32, size int) (parts []part, comes uint8) {
	if r.alike == nil {
		return nil, 0
	}
	first := at(register) / 4
	for i := 0; 4*i < size && first+i < len(r.vary); i++ {
		v := r.vary[first+i]
		if v.of != Fixed && 4*i+min(4, r.alike.values.size(v.of)-4*int(v.at)) <= size {
			parts, comes = append(parts, part{i, v.of, int(v.at)}), comes|1<<v.of
		} else if v != (vary{}) {
			r.askedWord(first + i)
		}
	}
	return parts, comes
}
