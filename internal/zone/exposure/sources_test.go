package exposure

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/linux/ruleset"
)

// TestSplit: a range is taken apart as far as what becomes of it hangs on the address.
func TestSplit(t *testing.T) {
	const whole = "192.0.2.0/24"
	pass, drop := ruleset.Fate{Passes: true}, ruleset.Fate{Dropped: true, Rule: "r"}
	mixed := ruleset.Fate{Passes: true, Dropped: true, Addressed: true, Rule: "r"}
	// by tells those apart who are in a range, and overlaps those who are partly.
	by := func(text string, in, out ruleset.Fate) func(netip.Prefix) ruleset.Fate {
		r := netip.MustParsePrefix(text)
		return func(p netip.Prefix) ruleset.Fate {
			switch {
			case r.Bits() <= p.Bits() && r.Contains(p.Addr()):
				return in
			case r.Overlaps(p):
				return mixed
			}
			return out
		}
	}
	timed := ruleset.Fate{Passes: true, Dropped: true, Reasons: []string{"the time"}, Rule: "r"}
	for _, tt := range []struct {
		name      string
		left      int
		without   string
		ask       func(netip.Prefix) ruleset.Fate
		want, why string
	}{
		{"all pass", 9, "", by(whole, pass, drop), "1 192.0.2.0/24", ""},
		{"all are dropped", 9, "", by(whole, drop, pass), "2 192.0.2.0/24", ""},
		{"a quarter", 9, "", by("192.0.2.64/26", pass, drop), "2 192.0.2.0/26, 1 192.0.2.64/26, 2 192.0.2.128/25", ""},
		{"one, who is nobody", 99, "192.0.2.7/32", by("192.0.2.7/32", drop, pass), "1 192.0.2.0/24", ""},
		{"the time for some", 9, "", by("192.0.2.128/25", timed, pass), "1 192.0.2.0/25, 3 192.0.2.128/25", "the time"},
		{"out of patience", 1, "", by("192.0.2.64/26", pass, drop), "3 192.0.2.0/24", "the address"},
	} {
		s := &parting{left: tt.left}
		var without func(netip.Prefix) bool
		if tt.without != "" {
			without = func(p netip.Prefix) bool { return p == netip.MustParsePrefix(tt.without) }
		}
		got := ""
		for i, p := range s.split(netip.MustParsePrefix(whole), without, tt.ask) {
			if i > 0 {
				got += ", "
			}
			got += fmt.Sprint(int(p.what), " ", p.at)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
		if tt.why != "" && !slices.Contains(s.DependsOn, tt.why) {
			t.Errorf("%s: depends on %q", tt.name, s.DependsOn)
		}
	}
}
