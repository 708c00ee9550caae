package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Sources tells those outside apart by what the packet filters of this host do with what
// they send, and with the answer. Ranges do not overlap.
type Sources struct {
	// Pass get through, Drop do not; of Open it hangs on what DependsOn says.
	Pass []SourceRange `json:",omitempty"`
	Drop []SourceRange `json:",omitempty"`
	Open []SourceRange `json:",omitempty"`
	// DependsOn are words that follow "depends on": "the time", "the source port".
	DependsOn []string `json:",omitempty"`
	// Drops and Lets are the rules that drop, and that let through what others would drop;
	// Limits those by which more than so many are dropped.
	Drops  []string `json:",omitempty"`
	Lets   []string `json:",omitempty"`
	Limits []string `json:",omitempty"`
}

// SourceRange is a range of addresses, and the interface of this host by which it comes.
type SourceRange struct {
	Prefix    netip.Prefix
	Interface string
}

// Mixed tells whether some get through and others do not, or it cannot be told.
func (s *Sources) Mixed() bool { return len(s.Open) > 0 || len(s.Pass) > 0 && len(s.Drop) > 0 }

// Words tell in short who gets through: "some: 192.0.2.0/25", "all but 192.0.2.7",
// "depends on the time"; empty where it is the same for all.
func (s *Sources) Words() string {
	on := "depends on " + strings.Join(s.DependsOn, ", ")
	switch {
	case !s.Mixed():
		return ""
	case len(s.Pass) == 0 && len(s.Drop) == 0:
		return on
	case len(s.Open) > 0 && len(s.Pass) == 0:
		return "some: " + Ranges(s.Open, shortest) + " " + on
	case len(s.Open) > 0 && len(s.Drop) == 0:
		return "all, but " + Ranges(s.Open, shortest) + " " + on
	case len(s.Open) > 0:
		return "some: " + Ranges(s.Pass, shortest) + "; " + Ranges(s.Open, shortest) + " " + on
	case len(s.Pass) <= len(s.Drop):
		return "some: " + Ranges(s.Pass, shortest)
	}
	return "all but " + Ranges(s.Drop, shortest)
}

// shortest is how many ranges stand in a column of a table.
const shortest = 2

// Ranges writes ranges, at most so many and how many more there are; with the interface
// where they do not all come by one.
func Ranges(list []SourceRange, most int) string {
	several := slices.ContainsFunc(list, func(r SourceRange) bool { return r.Interface != list[0].Interface })
	var texts []string
	for i, r := range list {
		if i == most {
			texts = append(texts, fmt.Sprintf("%d more", len(list)-most))
			break
		}
		text := r.Prefix.String()
		if r.Prefix.IsSingleIP() {
			text = r.Prefix.Addr().String()
		}
		if several || r.Prefix.Addr().IsLinkLocalUnicast() {
			text += " by " + r.Interface
		}
		texts = append(texts, text)
	}
	if n := len(texts); n > 1 {
		return strings.Join(texts[:n-1], ", ") + " and " + texts[n-1]
	}
	return strings.Join(texts, "")
}
