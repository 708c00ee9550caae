package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"muelle/internal/spelling"
)

// guest tells of a target in another container's network namespace.
func (f *facts) guest(h *hop) *hop {
	owner := f.dst.Name
	if f.dst.Service != "" && f.dst.Project == f.Source.Project {
		owner = f.dst.Service
	}
	h.What = fmt.Sprintf("%s has no name of its own: it is in the network namespace of %s.", f.Target.Text, owner)
	h.because("network mode", "%s", f.Target.Mode)
	if f.itself {
		return h.do("Ask for %s: both are in that namespace", withPort("localhost", f.Port))
	}
	return h.do("Ask for %s", withPort(owner, f.Port))
}

// byPublished names the published port by which a program of this host reaches the target.
func (f *facts) byPublished(h *hop) *hop {
	if f.dst == nil {
		return h
	}
	for _, m := range f.dst.Mappings {
		if m.Protocol == f.Proto && len(m.Targets) > 0 && m.Targets[0].Port() == f.Port {
			return h.do("Ask for localhost:%d, where it is published", m.Host.Port())
		}
	}
	return h
}

func withPort(name string, port uint16) string {
	if port == 0 {
		return name
	}
	return fmt.Sprintf("%s:%d", name, port)
}

// nearest says whose name may have been meant.
func (f *facts) nearest(h *hop) *hop {
	known := f.neighbours()
	all := slices.Clone(known)
	for _, sb := range f.all.Sandboxes {
		if sb.Project != "" && sb.Project == f.src.Project {
			all = append(all, sb.Service)
		}
	}
	best, least := "", 3
	for _, name := range all {
		// Two letters of a short word are most of it.
		if d := spelling.Distance(strings.ToLower(f.lookup.name), name); d < least && (d < 2 || len(name) > 3) {
			best, least = name, d
		}
	}
	switch {
	case best == "" || strings.EqualFold(best, f.lookup.name):
	case slices.Contains(known, best):
		h.do("Did you mean %s?", withPort(best, f.Port))
	default:
		h.do("Did you mean %s, which is on no network of %s?", best, f.Source.Text)
	}
	if len(known) > 0 {
		h.do("On its networks there are: %s", strings.Join(known, ", "))
	}
	return h
}

// neighbours are the services and containers that the source can name.
func (f *facts) neighbours() []string {
	found := map[string]bool{}
	for _, e := range f.src.Endpoints {
		for i := range f.all.Sandboxes {
			other := &f.all.Sandboxes[i]
			if n := f.network(e.Network); other == f.src || n == nil || n.Predefined || on(other, e.Network) == nil {
				continue
			}
			if other.Service != "" && other.Project == f.src.Project {
				found[other.Service] = true
			} else {
				found[other.Name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}
