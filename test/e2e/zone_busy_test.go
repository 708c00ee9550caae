//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"muelle/api"
)

// A program that takes one connection at a time refuses the others meanwhile. That is no
// difference from the model, however many ask at once.
func TestZonesOfOneConnectionAtATime(t *testing.T) {
	c := ours(world.daemon)
	network := c.unique(t, "busy")
	c.must(t, "network", "create", network)
	t.Cleanup(func() { c.must(t, "network", "rm", network) })
	run := func(name string, command ...string) {
		c.must(t, append([]string{"run", "-d", "--init", "--name", name, "--network", network, "busybox"}, command...)...)
		t.Cleanup(func() { c.must(t, "rm", "-f", name) })
	}
	server := network + "-server"
	run(server, "sh", "-c", "while :; do nc -l -p 8000 </dev/null; sleep 0.1; done")
	const clients = 4
	for i := range clients {
		run(fmt.Sprintf("%s-%d", network, i), "sleep", "1000")
	}
	err := eventually(20*time.Second, func() error {
		var r api.ZoneReport
		// Its status is for all that runs here.
		if err := json.Unmarshal([]byte(c.try(t, "zones", "--all", "--verify", "--format", "json").out), &r); err != nil {
			return err
		}
		asked := 0
		for _, cell := range r.Cells {
			if cell.To != server || cell.Port != 8000 || cell.Protocol != "tcp" {
				continue
			}
			for _, try := range cell.Tries {
				if try.Differs {
					t.Errorf("%s: %+v", cell.From, try)
				}
				if try.Result == api.ZoneOpen {
					asked++
				}
			}
		}
		if asked < clients {
			return fmt.Errorf("%d came through: nc does not listen yet", asked)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
