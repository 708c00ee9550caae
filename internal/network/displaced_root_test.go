//go:build root

package network_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mobynet "github.com/moby/moby/api/types/network"

	"muelle/api"
)

// Published ports follow the zones of a running container's networks, as a restart would
// have it: to another network, away, and back.
func TestPublishedPortsFollowZones(t *testing.T) {
	w := newWorld(t)
	w.network("alpha")
	w.network("beta")
	sb := w.start(published(spec("web", "alpha", "beta"), "8080->80/tcp"))
	idle := w.start(spec("idle", "alpha"))
	k := shim{w, sb}
	w.serve(sb.NetNS, "tcp", ":80", "web")
	at := mobynet.MustParsePort("80/tcp")
	follow := func(published bool, through string, zones map[string]string) {
		t.Helper()
		for name, publish := range zones {
			must(t, w.SetZone(context.Background(), name, api.Zone{Publish: publish}))
		}
		if diff := cmp.Diff([]string{sb.ID}, w.Displaced()); diff != "" {
			t.Fatal(diff)
		}
		change, err := w.Republish(context.Background(), sb.ID, k)
		must(t, err)
		if len(w.Displaced()) > 0 {
			t.Error("still displaced")
		}
		view := w.Snapshot().Sandboxes
		if shown := len(change.Ports[at]) > 0; shown != published || k.holds("8080") != published || len(view) != 2 || len(view[1].Mappings) > 0 != published {
			t.Errorf("%v: shown %v, held %v, %+v", zones, shown, k.holds("8080"), view)
		}
		if !published {
			w.cannotReach(w.lan, "tcp4", hostOnLAN+":8080")
			return
		}
		w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "web")
		for _, h := range sb.Held {
			if strings.Contains(h.Name, "8080") && view[1].Mappings[0].Targets[0].Addr().String() != w.address(sb, through) {
				t.Errorf("leads to %v, not through %s", view[1].Mappings, through)
			}
		}
	}
	if got := w.Displaced(); len(got) > 0 {
		t.Fatal(got)
	}
	follow(true, "beta", map[string]string{"alpha": api.ZoneNone})
	follow(false, "", map[string]string{"beta": api.ZoneNone})
	follow(true, "alpha", map[string]string{"alpha": ""})
	_, err := w.Connect(context.Background(), "beta", idle.ID, nil, shim{w, idle})
	must(t, err)
}
