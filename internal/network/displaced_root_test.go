//go:build root

package network_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mobynet "github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/network"
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

// A daemon is killed after the zones have changed and before any port has followed: the
// next moves them as the document has it, to another network, away, and back.
func TestPublishedPortsFollowZonesAfterAKill(t *testing.T) {
	for _, tt := range []struct {
		name            string
		before, changed map[string]string
		through         string
	}{
		{"to another network", nil, map[string]string{"alpha": api.ZoneNone}, "beta"},
		{"away", nil, map[string]string{"alpha": api.ZoneNone, "beta": api.ZoneNone}, ""},
		{"back", map[string]string{"alpha": api.ZoneNone, "beta": api.ZoneNone}, map[string]string{"beta": api.ZoneAny}, "beta"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.network("alpha")
			w.network("beta")
			w.network("other")
			s := published(spec("web", "alpha", "beta"), "8080->80/tcp")
			sb := w.start(s)
			beside := published(spec("beside", "other"), "8081->80/tcp")
			second := w.start(beside)
			k := shim{w, sb}
			w.serve(sb.NetNS, "tcp", ":80", "web")
			at := mobynet.MustParsePort("80/tcp")
			for name, publish := range tt.before {
				must(t, w.SetZone(context.Background(), name, api.Zone{Publish: publish}))
			}
			if tt.before != nil {
				_, err := w.Republish(context.Background(), sb.ID, k)
				must(t, err)
			}
			must(t, w.ZonesFollowed())
			for name, publish := range tt.changed {
				must(t, w.SetZone(context.Background(), name, api.Zone{Publish: publish}))
			}

			w.kill()
			w.open()
			w.adopt(s, sb)
			w.adopt(beside, second)
			must(t, w.Adopted(context.Background()))
			if diff := cmp.Diff([]string{sb.ID}, w.Unfollowed()); diff != "" {
				t.Fatal(diff)
			}
			change, err := w.Mend(context.Background(), sb.ID, nil, k)
			must(t, err)
			must(t, w.ZonesFollowed())
			if got := w.Unfollowed(); len(got) > 0 || len(w.Displaced()) > 0 {
				t.Errorf("still to be moved: %v, %v", got, w.Displaced())
			}
			open := tt.through != ""
			if shown := len(change.Ports[at]) > 0; shown != open || k.holds("8080") != open {
				t.Errorf("shown %v, held %v", shown, sb.Held)
			}
			if !open {
				w.cannotReach(w.lan, "tcp4", hostOnLAN+":8080")
				return
			}
			w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "web")
			i := slices.IndexFunc(w.Snapshot().Sandboxes, func(v network.SandboxView) bool { return v.ID == sb.ID })
			if got := w.Snapshot().Sandboxes[i].Mappings; len(got) == 0 || got[0].Targets[0].Addr().String() != w.address(sb, tt.through) {
				t.Errorf("leads to %v, not through %s", got, tt.through)
			}
		})
	}
}
