package filter_test

import (
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"muelle/internal/filter"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     filter.Args
		bad      bool
	}{
		{name: "none", in: ""},
		{name: "lists", in: `{"name":["a","b"]}`, want: filter.Args{"name": {"a", "b"}}},
		{name: "sets", in: `{"name":{"b":true,"a":true,"c":false}}`, want: filter.Args{"name": {"a", "b"}}},
		{name: "empty object", in: `{}`, want: filter.Args{}},
		{name: "text", in: `name=a`, bad: true},
		{name: "wrong type", in: `{"name":3}`, bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := filter.Parse(tt.in)
			if errdefs.IsInvalidArgument(err) != tt.bad {
				t.Fatalf("error %v, want one: %v", err, tt.bad)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"a":["b"]}`)
	f.Add(`{"a":{"b":true}}`)
	f.Fuzz(func(t *testing.T, s string) {
		args, err := filter.Parse(s)
		if err == nil {
			args.Match("a", s)
			args.MatchLabels("a", map[string]string{s: s})
		}
	})
}

func TestMatch(t *testing.T) {
	a := filter.Args{"name": {"web", "^db[0-9]$"}, "id": {"["}}
	for in, want := range map[string]bool{"web": true, "my-web-1": true, "db1": true, "db12": false, "x": false} {
		if got := a.Match("name", in); got != want {
			t.Errorf("Match(name, %q) = %v", in, got)
		}
	}
	if !a.Match("absent", "x") || a.Match("id", "abc") {
		t.Error("an absent field must match, an invalid expression must not")
	}
	if a.ExactMatch("name", "my-web-1") {
		t.Error("ExactMatch matched a substring")
	}
}

func TestMatchLabels(t *testing.T) {
	a := filter.Args{"label": {"tier", "env=prod"}}
	if !a.MatchLabels("label", map[string]string{"tier": "", "env": "prod"}) {
		t.Error("all hold, no match")
	}
	for _, labels := range []map[string]string{nil, {"tier": "x"}, {"tier": "x", "env": "dev"}} {
		if a.MatchLabels("label", labels) {
			t.Errorf("%v matched", labels)
		}
	}
}

func TestBool(t *testing.T) {
	for _, tt := range []struct {
		in        filter.Args
		want, bad bool
	}{
		{nil, true, false},
		{filter.Args{"dangling": {"0"}}, false, false},
		{filter.Args{"dangling": {"true"}}, true, false},
		{filter.Args{"dangling": {"yes"}}, true, true},
		{filter.Args{"dangling": {"0", "1"}}, true, true},
	} {
		got, err := tt.in.Bool("dangling", true)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%v: %v, %v", tt.in, got, err)
		}
	}
}

func TestValidate(t *testing.T) {
	err := filter.Args{"x": {"1"}}.Validate("name")
	if !errdefs.IsInvalidArgument(err) || err.Error() != "invalid filter 'x'" {
		t.Errorf("Validate = %v", err)
	}
	if err := (filter.Args{"name": {"1"}}).Validate("name"); err != nil {
		t.Error(err)
	}
}
