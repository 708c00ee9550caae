package bridge

import (
	"testing"

	"github.com/google/nftables"
)

// TestIntervalsInWords: no set of intervals has a field that Linux before 6.15 looks at in
// part only, and each is as long as its key.
func TestIntervalsInWords(t *testing.T) {
	intervals := 0
	for _, s := range newZoneTable(&nftables.Table{Name: "x"}).sets() {
		if !s.Interval {
			continue
		}
		intervals++
		var length uint32
		for _, field := range nftables.ConcatSetTypeElements(s.KeyType) {
			if length += field.Bytes; field.Bytes != 4 {
				t.Errorf("%s: a field of %d bytes", s.Name, field.Bytes)
			}
		}
		if length != s.KeyType.Bytes {
			t.Errorf("%s: fields of %d bytes, a key of %d", s.Name, length, s.KeyType.Bytes)
		}
	}
	if intervals != 6 {
		t.Errorf("%d sets of intervals", intervals)
	}
}
