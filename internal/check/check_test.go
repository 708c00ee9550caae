package check_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/api"
	"muelle/internal/check"
)

func TestOnlyWhatStaysIsALeak(t *testing.T) {
	looks := 0
	yes, no := func() bool { return true }, func() bool { return false }
	leaks, err := check.Certain(t.Context(), []check.Leak{
		{Finding: api.Finding{Name: "certain"}},
		{Finding: api.Finding{Name: "gone"}, There: no},
		{Finding: api.Finding{Name: "owned"}, There: yes, Owned: yes},
		{Finding: api.Finding{Name: "owned in the end"}, There: yes, Owned: func() bool { looks++; return looks > 3 }},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range leaks {
		names = append(names, l.Name)
	}
	if d := cmp.Diff([]string{"certain"}, names); d != "" {
		t.Error(d)
	}
}

func TestMendingIsAskedFor(t *testing.T) {
	mended := 0
	leaks := []check.Leak{
		{Finding: api.Finding{Name: "a"}, Mend: func(context.Context) error { mended++; return nil }},
		{Finding: api.Finding{Name: "b"}, Mend: func(context.Context) error { return errors.New("no") }},
		{Finding: api.Finding{Name: "c"}},
		{Finding: api.Finding{Name: "d", Remedy: "tomorrow"}, Passing: true},
	}
	notes := []api.Finding{{Name: "d", Remedy: "tomorrow"}}
	want := []api.Finding{{Name: "a", Mendable: true}, {Name: "b", Mendable: true}, {Name: "c"}}
	got, passing := check.Findings(t.Context(), leaks, false)
	if d := cmp.Diff(want, got) + cmp.Diff(notes, passing); d != "" || mended != 0 {
		t.Error(mended, d)
	}
	want = []api.Finding{{Name: "a", Mendable: true, Mended: true}, {Name: "b", Mendable: true, Error: "no"}, {Name: "c"}}
	got, passing = check.Findings(t.Context(), leaks, true)
	if d := cmp.Diff(want, got) + cmp.Diff(notes, passing); d != "" || mended != 1 {
		t.Error(mended, d)
	}
}
