//go:build root && vm

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestBlockWeightsBite: two containers that write at once share the machine's slow disk
// by their weights, also when those change. That is the scheduler bfq's work.
//
//muelle:ring
func TestBlockWeightsBite(t *testing.T) {
	const dev, queue = "/dev/vdb", "/sys/block/vdb/queue/"
	number, err := os.ReadFile("/sys/block/vdb/dev")
	if err != nil {
		t.Fatal(err)
	}
	disk := strings.TrimSpace(string(number))
	for _, s := range [][2]string{
		{"scheduler", "bfq"},
		{"iosched/low_latency", "0"}, // who has just begun is preferred otherwise
		{"iosched/max_budget", "1024"},
		// One request at a time: without, the queue is the disk's (Documentation/block/bfq-iosched.rst).
		{"iosched/strict_guarantees", "1"},
	} {
		if err := os.WriteFile(queue+s[0], []byte(s[1]), 0); err != nil {
			t.Fatal(err)
		}
	}
	c := ours(world.daemon)
	a, b := c.unique(t, "a"), c.unique(t, "b")
	for at, name := range []string{a, b} {
		// Two writers each, so that one always waits for the disk.
		var script strings.Builder
		for i := range 2 {
			fmt.Fprintf(&script, "while :; do dd if=/dev/zero of=%s bs=128k count=80 seek=%d oflag=direct 2>/dev/null; done & ", dev, 100*(2*at+i))
		}
		c.must(t, "run", "-d", "--name", name, "--device", dev, "--blkio-weight", []string{"100", "900"}[at], "busybox", "sh", "-c", script.String()+"wait")
		c.remove(t, name)
	}
	const enough = 32 << 20
	for _, heavy := range []string{b, a} {
		light := a
		if heavy == a {
			light = b
			c.must(t, "update", "--blkio-weight", "900", a)
			c.must(t, "update", "--blkio-weight", "100", b)
		}
		l, h := shares(t, written(t, c, disk), light, heavy, enough)
		t.Logf("weights 100 and 900 wrote %d and %d", l, h)
		if l*3 > h {
			t.Error("that is not their share")
		}
	}
	one := c.unique(t, "one")
	c.must(t, "run", "-d", "--name", one, "--blkio-weight-device", dev+":300", "busybox", "sleep", "1000")
	c.remove(t, one)
	if got := groupFile(t, c, one, "blkio", "", "io.bfq.weight"); !strings.Contains(got, disk+" 300") {
		t.Errorf("the weight for one disk: %q", got)
	}
}
