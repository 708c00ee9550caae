package ruleset

import "bytes"

// answer is what is known of a comparison.
type answer int8

const (
	no answer = iota
	maybe
	yes
)

func (a answer) not() answer { return yes - a }

// and is the answer of two conditions that must both hold.
func (a answer) and(b answer) answer { return min(a, b) }

func (a answer) or(b answer) answer { return max(a, b) }

func answerOf(b bool) answer {
	if b {
		return yes
	}
	return no
}

// data are bytes of which some bits may be unknown. An unknown bit's value is zero.
type data struct{ value, known []byte }

func unknown(size int) data {
	b := make([]byte, 2*size)
	return data{b[:size:size], b[size:]}
}

// known takes value over. What it gives is not changed.
func known(value []byte) data {
	if len(value) <= len(ones) {
		return data{value, ones[:len(value):len(value)]}
	}
	return data{value, bytes.Repeat([]byte{0xff}, len(value))}
}

// ones say that all is known.
var ones = bytes.Repeat([]byte{0xff}, registerBytes)

// whole gives the bytes, if all of their bits are known.
func (d data) whole() ([]byte, bool) {
	for _, k := range d.known {
		if k != 0xff {
			return nil, false
		}
	}
	return d.value, true
}

// equal compares the first bytes with want.
func (d data) equal(want []byte) answer {
	if len(want) > len(d.value) {
		return maybe
	}
	result := yes
	for i, w := range want {
		if (w^d.value[i])&d.known[i] != 0 {
			return no
		}
		if d.known[i] != 0xff {
			result = maybe
		}
	}
	return result
}

// bounds are the smallest and the largest value of the first n bytes.
func (d data) bounds(n int) (low, high []byte) {
	n = min(n, len(d.value))
	low, high = make([]byte, n), make([]byte, n)
	for i := range n {
		low[i] = d.value[i]
		high[i] = d.value[i] | ^d.known[i]
	}
	return low, high
}

// within tells whether the bytes, as a number, are in from..to, both included; to nil
// is no bound.
func (d data) within(from, to []byte) answer {
	low, high := d.bounds(len(from))
	if len(low) < len(from) {
		return maybe
	}
	if bytes.Compare(high, from) < 0 || to != nil && bytes.Compare(low, to) > 0 {
		return no
	}
	if bytes.Compare(low, from) >= 0 && (to == nil || bytes.Compare(high, to) <= 0) {
		return yes
	}
	return maybe
}

// compare with an operator of nftables: NFT_CMP_EQ and so on.
func (d data) compare(op uint32, want []byte) answer {
	switch op {
	case 0:
		return d.equal(want)
	case 1:
		return d.equal(want).not()
	}
	low, high := d.bounds(len(want))
	if len(low) < len(want) {
		return maybe
	}
	// The answers for both ends agree, or it depends.
	test := func(v []byte) bool {
		c := bytes.Compare(v, want)
		return op == 2 && c < 0 || op == 3 && c <= 0 || op == 4 && c > 0 || op == 5 && c >= 0
	}
	if test(low) == test(high) {
		return answerOf(test(low))
	}
	return maybe
}

// masked is (d & mask) ^ xor.
func (d data) masked(mask, xor []byte) data {
	out := unknown(len(d.value))
	for i := range d.value {
		m, x := byte(0xff), byte(0)
		if i < len(mask) {
			m = mask[i]
		}
		if i < len(xor) {
			x = xor[i]
		}
		out.known[i] = d.known[i] | ^m
		out.value[i] = (d.value[i]&m ^ x) & out.known[i]
	}
	return out
}
