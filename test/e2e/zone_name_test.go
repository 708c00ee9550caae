//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"muelle/api"
)

// A container that is called host is not this machine: neither in the matrix, nor where
// the ways are tried from.
func TestZonesOfAContainerCalledHost(t *testing.T) {
	c := ours(world.daemon)
	front, back, db := c.unique(t, "front"), c.unique(t, "back"), c.unique(t, "db")
	for _, n := range []string{front, back} {
		c.must(t, "network", "create", n)
		t.Cleanup(func() { c.must(t, "network", "rm", n) })
	}
	c.must(t, "run", "-d", "--name", "host", "--network", front, "busybox", "sleep", "1000")
	t.Cleanup(func() { c.must(t, "rm", "-f", "host") })
	c.must(t, "run", "-d", "--name", db, "--network", back, "busybox", "httpd", "-f", "-p", "8000")
	t.Cleanup(func() { c.must(t, "rm", "-f", db) })

	want := map[string]bool{"host": true, "host (container)": false}
	if err := eventually(30*time.Second, func() error {
		var r api.ZoneReport
		// Its status is for all that runs here.
		if err := json.Unmarshal([]byte(c.try(t, "zones", "--all", "--verify", "--format", "json").out), &r); err != nil {
			return err
		}
		found := map[string]bool{}
		for _, cell := range r.Cells {
			reached, asked := want[cell.From]
			if cell.To != db || cell.Port != 8000 || !asked {
				continue
			}
			if found[cell.From] {
				t.Fatalf("two are called %s", cell.From)
			}
			found[cell.From] = true
			if cell.Reached != reached || cell.Differs || len(cell.Tries) == 0 {
				t.Fatalf("%+v", cell)
			}
			for _, try := range cell.Tries {
				if (try.Result == api.ZoneOpen) != reached {
					t.Fatalf("%s: %+v", cell.From, try)
				}
			}
		}
		if len(found) != len(want) {
			return fmt.Errorf("only of %v: httpd does not listen yet", found)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
