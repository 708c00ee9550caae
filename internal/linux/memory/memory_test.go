package memory_test

import (
	"os"
	"strings"
	"testing"

	"muelle/internal/linux/memory"
)

// resident is the size of the file pages that this process has mapped, in KiB.
func resident(t *testing.T) (kib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "RssFile:")
	if !ok {
		t.Fatal("no RssFile in /proc/self/status")
	}
	for _, c := range strings.TrimSpace(rest) {
		if c < '0' || c > '9' {
			break
		}
		kib = kib*10 + int(c-'0')
	}
	return kib
}

func TestRelease(t *testing.T) {
	before := resident(t)
	if err := memory.Release(); err != nil {
		t.Fatal(err)
	}
	if after := resident(t); after >= before {
		t.Errorf("file pages: %d KiB before, %d KiB after", before, after)
	}
	// What was given back is there again when it is used.
	if err := memory.Release(); err != nil {
		t.Fatal(err)
	}
}
