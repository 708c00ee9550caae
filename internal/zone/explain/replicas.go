package explain

import (
	"fmt"
	"slices"
	"strings"

	"muelle/api"
)

// Together makes one explanation of those of a service's replicas, in the same order as
// their names: that of the first that is not reached, which the others are told beside.
func Together(list []*api.Explanation, names []string) *api.Explanation {
	chosen, first := list[0], names[0]
	var broken []api.WhyEvidence
	for i, e := range list {
		b := e.Broken()
		if b == nil {
			continue
		}
		if len(broken) == 0 {
			chosen, first = e, names[i]
		}
		broken = append(broken, api.WhyEvidence{Source: names[i], Text: b.What})
	}
	switch len(broken) {
	case 0:
		if i := slices.IndexFunc(list, func(e *api.Explanation) bool { return e.Depends }); i > 0 {
			list[0], list[i], names[0], names[i] = list[i], list[0], names[i], names[0]
			chosen = list[0]
		}
		beside(chosen, list[1:], names[1:])
	case len(list): // what is wrong with one is wrong with all
	default:
		chosen.Hops = append([]api.ExplainHop{{
			Hop: "replicas", State: api.HopWarning, Evidence: broken,
			What: fmt.Sprintf("Of %d containers of %s, %d cannot be reached; what follows is about %s.", len(list), chosen.Target, len(broken), first),
		}}, chosen.Hops...)
	}
	return chosen
}

// beside adds what was found out of the other replicas to the hops that are each one's own.
func beside(e *api.Explanation, others []*api.Explanation, names []string) {
	for i := range e.Hops {
		h := &e.Hops[i]
		if h.Hop != "listener" && h.Hop != "answer" {
			continue
		}
		for k, o := range others {
			for _, oh := range o.Hops {
				if oh.Hop == h.Hop {
					h.Evidence = append(h.Evidence, api.WhyEvidence{Source: names[k], Text: strings.TrimSuffix(oh.What, ".")})
				}
			}
		}
	}
}
