package zonemap

import (
	"fmt"
	"io"
	"strings"

	"muelle/api"
	"muelle/internal/console"
)

// quote makes a string of Graphviz's: lines of text, in which a backslash and a quotation
// mark are themselves. Go's %q would write escapes that Graphviz does not know.
func quote(lines ...string) string {
	for i, l := range lines {
		lines[i] = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(console.OneLine(l))
	}
	return `"` + strings.Join(lines, `\n`) + `"`
}

// DOT writes the report for Graphviz: zones are nodes too, since a member may be in
// several.
func DOT(w io.Writer, r *api.ZoneReport) error {
	var b strings.Builder
	b.WriteString("digraph zones {\n  rankdir=LR\n  node [fontname=\"sans-serif\", shape=box, style=rounded]\n  edge [fontname=\"sans-serif\", fontsize=10]\n")
	for _, who := range []string{"internet", "lan", "host"} {
		fmt.Fprintf(&b, "  %s [shape=ellipse]\n", quote(who))
	}
	for _, z := range r.Zones {
		fmt.Fprintf(&b, "  %s [label=%s, shape=plaintext]\n", quote("zone "+z.Name), quote(z.Name, "publish: "+publish(z), "egress: "+egress(z)))
		for _, m := range z.Members {
			fmt.Fprintf(&b, "  %s -> %s [dir=none, style=dotted]\n", quote("zone "+z.Name), quote(m))
		}
	}
	for _, m := range r.Members {
		fmt.Fprintf(&b, "  %s\n", quote(m.Name))
	}
	for _, c := range r.Cells {
		label := strings.TrimPrefix(target{"", c.Port, c.Protocol}.String(), ":")
		switch {
		case c.Differs:
			fmt.Fprintf(&b, "  %s -> %s [label=%s, color=red, penwidth=2]\n", quote(c.From), quote(c.To), quote(label+" !"))
		case c.ByHost:
			fmt.Fprintf(&b, "  %s -> %s [label=%s, color=darkgreen, style=dashed]\n", quote(c.From), quote(c.To), quote(label+" by host"))
		case c.Some && c.Reached:
			fmt.Fprintf(&b, "  %s -> %s [label=%s, color=orange]\n", quote(c.From), quote(c.To), quote(label+" some"))
		case c.Reached:
			fmt.Fprintf(&b, "  %s -> %s [label=%s, color=darkgreen]\n", quote(c.From), quote(c.To), quote(label))
		case c.Some:
			fmt.Fprintf(&b, "  %s -> %s [label=\"some\", color=orange]\n", quote(c.From), quote(c.To))
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}
