// Package zonemap draws a report of zones: as a table, for Graphviz, and as a picture.
package zonemap

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"muelle/api"
	"muelle/internal/console"
)

// target heads a column of the matrix.
type target struct {
	name     string
	port     uint16
	protocol string
}

func (t target) String() string {
	if t.port == 0 {
		return t.name
	}
	s := t.name + ":" + strconv.Itoa(int(t.port))
	if t.protocol != "tcp" {
		s += "/" + t.protocol
	}
	return s
}

// axes are who asks, and what is asked, in the report's order: services before the rest.
func axes(r *api.ZoneReport) (from []string, to []target) {
	for _, c := range r.Cells {
		if !slices.Contains(from, c.From) {
			from = append(from, c.From)
		}
		if t := (target{c.To, c.Port, c.Protocol}); !slices.Contains(to, t) {
			to = append(to, t)
		}
	}
	slices.SortStableFunc(to, func(a, b target) int {
		rank := func(t target) int {
			if t.port == 0 {
				return 1
			}
			return 0
		}
		if d := rank(a) - rank(b); d != 0 || a.port == 0 {
			return d
		}
		if d := strings.Compare(a.name, b.name); d != 0 {
			return d
		}
		return int(a.port) - int(b.port)
	})
	return from, to
}

// Words of the matrix.
const (
	wordYes, wordNo, wordSome = "yes", "-", "some"
	wordByHost                = "by host"
	mark                      = "!" // it went otherwise
)

func word(c api.ZoneCell) string {
	w := wordNo
	switch {
	case c.ByHost:
		w = wordByHost
	case c.Reached:
		w = wordYes
	case c.Some:
		w = wordSome
	}
	if c.Differs {
		w += mark
	}
	return w
}

// Text writes the report as tables of at most width columns, in colour if asked for.
func Text(w io.Writer, r *api.ZoneReport, width int, colour bool) error {
	t := &text{colour: colour, width: max(width, 40)}
	t.zones(r)
	t.matrix(r)
	t.findings(r)
	_, err := io.WriteString(w, t.b.String())
	return err
}

type text struct {
	b      strings.Builder
	colour bool
	width  int
}

func (t *text) line(format string, args ...any) {
	t.b.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// paint colours a word without changing its width.
func (t *text) paint(s, padded string) string {
	code := ""
	switch {
	case !t.colour:
	case strings.HasSuffix(s, mark):
		code = "1;31"
	case s == wordYes:
		code = "32"
	case s == wordSome, s == wordByHost:
		code = "33"
	}
	if code == "" {
		return padded
	}
	return strings.Replace(padded, s, "\x1b["+code+"m"+s+"\x1b[0m", 1)
}

func said(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func egress(z api.ZoneView) string {
	switch {
	case len(z.Zone.Egress) > 0:
		return strings.Join(z.Zone.Egress, ", ")
	case z.Internal:
		return "none (internal)"
	}
	return "any"
}

func publish(z api.ZoneView) string {
	if z.Internal {
		return said(z.Zone.Publish, "none (internal)")
	}
	return said(z.Zone.Publish, "any")
}

func (t *text) zones(r *api.ZoneReport) {
	if len(r.Zones) == 0 {
		t.line("no container is on a network")
		return
	}
	names := 4
	for _, z := range r.Zones {
		names = max(names, utf8.RuneCountInString(z.Name))
	}
	t.line("%-*s  %-15s  %-7s  %s", names, "ZONE", "PUBLISH", "BETWEEN", "EGRESS")
	for _, z := range r.Zones {
		t.line("%-*s  %-15s  %-7s  %s", names, console.OneLine(z.Name), console.OneLine(publish(z)), console.OneLine(said(z.Zone.Between, "allow")), console.OneLine(egress(z)))
	}
	t.line("")
}

// matrix writes as many columns side by side as fit, and the rest below.
func (t *text) matrix(r *api.ZoneReport) {
	from, to := axes(r)
	type pair struct {
		from string
		to   target
	}
	cells := map[pair]string{}
	for _, c := range r.Cells {
		cells[pair{c.From, target{c.To, c.Port, c.Protocol}}] = word(c)
	}
	wide := func(c target) int { return max(utf8.RuneCountInString(c.String()), len(wordByHost)) }
	names := 4
	for _, f := range from {
		names = max(names, utf8.RuneCountInString(f))
	}
	for len(to) > 0 {
		n, used := 0, names
		for n < len(to) && (n == 0 || used+2+wide(to[n]) <= t.width) {
			used += 2 + wide(to[n])
			n++
		}
		row := fmt.Sprintf("%-*s", names, "FROM")
		for _, c := range to[:n] {
			row += fmt.Sprintf("  %-*s", len(wordByHost), console.OneLine(c.String()))
		}
		t.line("%s", row)
		for _, f := range from {
			row := fmt.Sprintf("%-*s", names, console.OneLine(f))
			for _, c := range to[:n] {
				s := cells[pair{f, c}]
				row += "  " + t.paint(s, fmt.Sprintf("%-*s", wide(c), s))
			}
			t.line("%s", row)
		}
		t.line("")
		to = to[n:]
	}
}

func (t *text) findings(r *api.ZoneReport) {
	if slices.ContainsFunc(r.Cells, func(c api.ZoneCell) bool { return c.ByHost }) {
		t.line("%s: by a published port of this host only, as anybody there does; not by its name", wordByHost)
		t.line("")
	}
	for _, e := range r.Expect {
		switch {
		case e.Holds && e.Why != "":
			t.line("expected  %s  (%s)", console.OneLine(e.Sentence), console.OneLine(e.Why))
		case e.Holds:
			t.line("expected  %s  %s", console.OneLine(e.Sentence), t.paint(wordYes, wordYes))
		default:
			t.line("VIOLATED  %s", console.OneLine(said(e.Why, e.Sentence)))
		}
	}
	if !r.Verified {
		return
	}
	tried, unproved := 0, 0
	for _, c := range r.Cells {
		for _, try := range c.Tries {
			if try.Result == api.ZoneUnproved {
				unproved++
			} else {
				tried++
			}
		}
	}
	t.line("verified by %d attempts; %d ways cannot be tried from here", tried, unproved)
	for _, c := range r.Cells {
		for _, try := range c.Tries {
			if try.Differs {
				t.line("%s", console.OneLine(fmt.Sprintf("DIFFERS   %s -> %s: %s at %s is %s; the model: %s", c.From, target{c.To, c.Port, c.Protocol}, try.To, try.Address, try.Result, try.Why)))
			}
		}
	}
}
