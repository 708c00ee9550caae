package explain

import (
	"strings"
	"testing"

	"muelle/api"
)

func TestTogether(t *testing.T) {
	made := func(listener string) *api.Explanation {
		return &api.Explanation{Target: "app", Reachable: listener == api.HopOK, Hops: []api.ExplainHop{
			{Hop: "name", State: api.HopOK, What: "app is known."}, {Hop: "listener", State: listener, What: "it is " + listener + "."},
		}}
	}
	names := []string{"app-1", "app-2", "app-3"}
	for _, tc := range []struct {
		name      string
		listeners []string
		reachable bool
		want      string
	}{
		{"all", []string{api.HopOK, api.HopOK, api.HopOK}, true, "ok name: app is known.\nok listener: it is ok.\n  app-2: it is ok\n  app-3: it is ok\n"},
		{"one is broken", []string{api.HopOK, api.HopBroken, api.HopOK}, false,
			"warning replicas: Of 3 containers of app, 1 cannot be reached; what follows is about app-2.\n  app-2: it is broken.\nok name: app is known.\nbroken listener: it is broken.\n"},
		{"none", []string{api.HopBroken, api.HopBroken, api.HopBroken}, false, "ok name: app is known.\nbroken listener: it is broken.\n"},
	} {
		var list []*api.Explanation
		for _, l := range tc.listeners {
			list = append(list, made(l))
		}
		got := Together(list, names)
		if flat(got) != tc.want || got.Reachable != tc.reachable {
			t.Errorf("%s: reachable %v\n%s", tc.name, got.Reachable, strings.TrimSpace(flat(got)))
		}
	}
	if got := Together([]*api.Explanation{made(api.HopOK)}, names[:1]); len(got.Hops[1].Evidence) != 0 {
		t.Errorf("alone: %+v", got)
	}
}
