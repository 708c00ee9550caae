package console_test

import (
	"testing"

	"muelle/internal/console"
)

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ in, printable, line string }{
		{"café ✓ 日本", "café ✓ 日本", "café ✓ 日本"},
		{"\x1b[2J\x1b]0;x\a", "\uFFFD[2J\uFFFD]0;x\uFFFD", "\uFFFD[2J\uFFFD]0;x\uFFFD"},
		{"a\u009b31m\x7f", "a\uFFFD31m\uFFFD", "a\uFFFD31m\uFFFD"},
		{"a\x9bb\xff", "a\uFFFDb\uFFFD", "a\uFFFDb\uFFFD"}, // bytes that are no UTF-8
		{"a\u202eb\u2066", "a\uFFFDb\uFFFD", "a\uFFFDb\uFFFD"},
		{"a\n\tb", "a\n\tb", "a\uFFFD\uFFFDb"},
		{"a\r\nb", "a\uFFFD\nb", "a\uFFFD\uFFFDb"},
	} {
		if got := console.Printable(tt.in); got != tt.printable {
			t.Errorf("Printable(%q) = %q, want %q", tt.in, got, tt.printable)
		}
		if got := console.OneLine(tt.in); got != tt.line {
			t.Errorf("OneLine(%q) = %q, want %q", tt.in, got, tt.line)
		}
	}
}
