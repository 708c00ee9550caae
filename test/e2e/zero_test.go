//go:build root && vm

package e2e

import "testing"

// TestZeroLeaks is the last of the ring: whatever the cases before did to the engine,
// nothing of theirs is left.
//
//muelle:ring
func TestZeroLeaks(t *testing.T) {
	c := ours(world.daemon)
	if got := c.must(t, "ps", "-aq"); got != "" {
		t.Errorf("containers are left: %s", got)
	}
	if _, text := report(t, c, 0); text != "" {
		t.Errorf("system check finds:\n%s", text)
	}
}
