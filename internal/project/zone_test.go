package project_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/api"
)

func TestZoneThatChangedIsAppliedToTheNetwork(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("web")
	mustUp(t, s, p, api.ProjectUpOptions{})
	e.taken()
	for _, tt := range []struct {
		zone *api.Zone
		want []string
	}{
		{&api.Zone{Publish: api.ZoneHost}, []string{"zone of network p_default publish host", "ports follow zones"}},
		{&api.Zone{Publish: api.ZoneHost}, nil},
		{nil, []string{"zone of network p_default publish ", "ports follow zones"}},
	} {
		p.Networks[0].Zone = tt.zone
		mustUp(t, s, p, api.ProjectUpOptions{})
		if diff := cmp.Diff(tt.want, e.taken()); diff != "" {
			t.Errorf("%+v: %s", tt.zone, diff)
		}
	}
}

func TestExpectationIsJudgedFirst(t *testing.T) {
	e := newEngine()
	s := open(t, e)
	p := spec("web", "db")
	p.Expect = []string{"web !-> db:5432"}
	err := s.Up(t.Context(), p, api.ProjectUpOptions{}, nil)
	if err == nil || !strings.Contains(err.Error(), "web !-> db:5432: must not be reached and is: both are on default") {
		t.Errorf("got %v", err)
	}
	if did := e.taken(); len(did) > 0 {
		t.Errorf("up did %q", did)
	}
}
