package xtables

import (
	"encoding/binary"
	"testing"
)

func entry(verdict int32) []byte {
	e := make([]byte, 152)
	binary.NativeEndian.PutUint16(e[targetOffset:], 112)
	binary.NativeEndian.PutUint32(e[112+targetHeader:], uint32(verdict))
	return e
}

func TestPolicyDrops(t *testing.T) {
	both := append(entry(-2), entry(-1)...)
	for _, tc := range []struct {
		name         string
		at           uint32
		drops, fails bool
	}{
		{"accept", 0, false, false}, {"drop", 152, true, false},
		{"outside", 300, false, true}, {"far outside", 1 << 31, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			drops, err := policyDrops(both, tc.at)
			if drops != tc.drops || (err != nil) != tc.fails {
				t.Errorf("got %v, %v", drops, err)
			}
		})
	}
}

func FuzzPolicyDrops(f *testing.F) {
	f.Add(entry(-1), uint32(0))
	f.Fuzz(func(_ *testing.T, data []byte, at uint32) { _, _ = policyDrops(data, at) })
}
