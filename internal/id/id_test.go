package id_test

import (
	"strings"
	"testing"

	"muelle/internal/id"
)

func TestNewIsValidAndUnique(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := id.New()
		if !id.Valid(s) || seen[s] {
			t.Fatalf("New() = %q: invalid or repeated", s)
		}
		if strings.Trim(id.Short(s), "0123456789") == "" {
			t.Fatalf("New() = %q: short form has decimal digits only", s)
		}
		seen[s] = true
	}
}

func TestValidName(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want bool
	}{
		{"web", true}, {"a1", true}, {"my_db-1.x", true},
		{"a", false}, {"", false}, {"-web", false}, {"we b", false}, {"/web", false}, {"web\n", false},
	} {
		if got := id.ValidName(tt.in); got != tt.want {
			t.Errorf("ValidName(%q) = %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestRandomNameIsAValidName(t *testing.T) {
	for retry := range 20 {
		if n := id.RandomName(retry); !id.ValidName(n) || !strings.Contains(n, "_") {
			t.Errorf("RandomName(%d) = %q", retry, n)
		}
	}
}
