// Package filter reads the filters parameter of Docker's API, in its two JSON
// forms, and matches values against it: several values of one field are
// alternatives, several fields must all match.
package filter

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Args maps a field to its wanted values. Nil matches everything.
type Args map[string][]string

// Parse reads {"field":["value"]} or the older {"field":{"value":true}}; the empty
// string gives nil. Errors are errdefs.ErrInvalidArgument.
func Parse(s string) (Args, error) {
	if s == "" {
		return nil, nil
	}
	args := Args{}
	var lists map[string][]string
	if err := json.Unmarshal([]byte(s), &lists); err == nil {
		maps.Copy(args, lists)
		return args, nil
	}
	var sets map[string]map[string]bool
	if err := json.Unmarshal([]byte(s), &sets); err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid filter: " + err.Error())
	}
	for field, set := range sets {
		for value, on := range set {
			if on {
				args[field] = append(args[field], value)
			}
		}
		slices.Sort(args[field])
	}
	return args, nil
}

// Validate refuses fields that are not accepted.
func (a Args) Validate(accepted ...string) error {
	for field := range a {
		if !slices.Contains(accepted, field) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s'", field))
		}
	}
	return nil
}

// Has tells whether the field is filtered on at all.
func (a Args) Has(field string) bool { return len(a[field]) > 0 }

// Get gives the wanted values of a field.
func (a Args) Get(field string) []string { return a[field] }

// ExactMatch tells whether s is one of the field's values, or the field is absent.
func (a Args) ExactMatch(field, s string) bool {
	return !a.Has(field) || slices.Contains(a[field], s)
}

// Match tells whether s equals, or matches as a regular expression, one of the
// field's values, or the field is absent: Docker's rule for names and ids.
func (a Args) Match(field, s string) bool {
	if a.ExactMatch(field, s) {
		return true
	}
	return slices.ContainsFunc(a[field], func(v string) bool {
		ok, err := regexp.MatchString(v, s)
		return err == nil && ok
	})
}

// MatchLabels tells whether labels has every "key" or "key=value" of the field:
// unlike other fields, all values must hold.
func (a Args) MatchLabels(field string, labels map[string]string) bool {
	for _, want := range a[field] {
		key, value, hasValue := strings.Cut(want, "=")
		got, ok := labels[key]
		if !ok || hasValue && got != value {
			return false
		}
	}
	return true
}

// Bool reads a field that holds one truth value; def where it is absent.
func (a Args) Bool(field string, def bool) (bool, error) {
	values := a[field]
	if len(values) == 0 {
		return def, nil
	}
	if len(values) == 1 {
		switch values[0] {
		case "1", "true":
			return true, nil
		case "0", "false":
			return false, nil
		}
	}
	return def, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter '%s=%s'", field, values))
}
