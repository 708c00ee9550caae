package zonemap

import (
	"fmt"
	"io"
	"strings"

	"muelle/api"
)

// DOT writes the report for Graphviz: zones are nodes too, since a member may be in
// several.
func DOT(w io.Writer, r *api.ZoneReport) error {
	var b strings.Builder
	b.WriteString("digraph zones {\n  rankdir=LR\n  node [fontname=\"sans-serif\", shape=box, style=rounded]\n  edge [fontname=\"sans-serif\", fontsize=10]\n")
	for _, who := range []string{"internet", "lan", "host"} {
		fmt.Fprintf(&b, "  %q [shape=ellipse]\n", who)
	}
	for _, z := range r.Zones {
		fmt.Fprintf(&b, "  %q [label=%q, shape=plaintext]\n", "zone "+z.Name, z.Name+"\npublish: "+publish(z)+"\negress: "+egress(z))
		for _, m := range z.Members {
			fmt.Fprintf(&b, "  %q -> %q [dir=none, style=dotted]\n", "zone "+z.Name, m)
		}
	}
	for _, m := range r.Members {
		fmt.Fprintf(&b, "  %q\n", m.Name)
	}
	for _, c := range r.Cells {
		label := strings.TrimPrefix(target{"", c.Port, c.Protocol}.String(), ":")
		switch {
		case c.Differs:
			fmt.Fprintf(&b, "  %q -> %q [label=%q, color=red, penwidth=2]\n", c.From, c.To, label+" !")
		case c.ByHost:
			fmt.Fprintf(&b, "  %q -> %q [label=%q, color=darkgreen, style=dashed]\n", c.From, c.To, label+" by host")
		case c.Reached:
			fmt.Fprintf(&b, "  %q -> %q [label=%q, color=darkgreen]\n", c.From, c.To, label)
		case c.Some:
			fmt.Fprintf(&b, "  %q -> %q [label=\"some\", color=orange]\n", c.From, c.To)
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
