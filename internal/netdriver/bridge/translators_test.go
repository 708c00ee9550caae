package bridge

import (
	"testing"

	"muelle/internal/linux/ruleset"
)

// TestTranslators: that nobody changes destinations is believed until the next change of
// rules, one while they were read included, and only where changes are heard of.
func TestTranslators(t *testing.T) {
	nobody := &ruleset.Ruleset{}
	var k translators
	want := func(what string, none bool) {
		t.Helper()
		if k.none() != none {
			t.Errorf("%s: %v", what, k.none())
		}
	}
	want("nothing was read", false)
	k.note(k.now(), nobody)
	want("nobody tells of changes", false)
	k.follow(true)
	want("it was read before changes were heard of", false)
	k.note(k.now(), nobody)
	want("nobody changes destinations", true)
	k.changed()
	want("something changed", false)
	at := k.now()
	k.changed()
	k.note(at, nobody)
	want("something changed while it was read", false)
	k.note(k.now(), nobody)
	want("read again", true)
	k.follow(false)
	want("changes are no longer heard of", false)
}
