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
	wordFirewall              = "fw"
	mark                      = "!" // it went otherwise
)

func word(c api.ZoneCell) string {
	w := wordNo
	switch {
	case c.ByHost:
		w = wordByHost
	case c.Some:
		w = wordSome
	case c.Reached:
		w = wordYes
	case c.Firewall != "":
		w = wordFirewall
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
	case s == wordSome, s == wordByHost, s == wordFirewall:
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

// linked tells whether the containers of a network are on a link of the host's themselves.
func linked(z api.ZoneView) bool { return z.Driver != "" && z.Driver != "bridge" }

func egress(z api.ZoneView) string {
	switch {
	case linked(z) && !z.Internal:
		return "any (" + z.Driver + ")"
	case len(z.Zone.Egress) > 0:
		return strings.Join(z.Zone.Egress, ", ")
	case z.Internal:
		return "none (internal)"
	}
	return "any"
}

func publish(z api.ZoneView) string {
	word := said(z.Zone.Publish, "any")
	switch mode := modes(z); {
	case z.Internal && z.Zone.Publish == "":
		word = "none (internal)"
	case linked(z):
		return word + " (" + z.Driver + ")"
	case mode != "":
		return word + " (" + mode + ")"
	}
	return word
}

// modes are the gateway modes that are not Docker's usual one; that of IPv6 alone says so.
func modes(z api.ZoneView) string {
	plain := func(mode string) bool { return mode == "" || mode == "nat" }
	switch {
	case !plain(z.Mode4):
		return z.Mode4
	case z.IPv6 && !plain(z.Mode6):
		return z.Mode6 + ", IPv6"
	}
	return ""
}

func apart(z api.ZoneView) bool { return z.Apart || z.Zone.Between == api.ZoneDeny }

func between(z api.ZoneView) string {
	if apart(z) {
		return api.ZoneDeny
	}
	return api.ZoneAllow
}

func (t *text) zones(r *api.ZoneReport) {
	if len(r.Zones) == 0 {
		t.line("no container is on a network")
		return
	}
	names, wide := 4, len("none (internal)")
	for _, z := range r.Zones {
		names, wide = max(names, utf8.RuneCountInString(z.Name)), max(wide, utf8.RuneCountInString(publish(z)))
	}
	t.line("%-*s  %-*s  %-7s  %s", names, "ZONE", wide, "PUBLISH", "BETWEEN", "EGRESS")
	for _, z := range r.Zones {
		t.line("%-*s  %-*s  %-7s  %s", names, console.OneLine(z.Name), wide, console.OneLine(publish(z)), between(z), console.OneLine(egress(z)))
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

// firewalls names the rules of others that drop what the zones allow, each once.
func (t *text) firewalls(r *api.ZoneReport) {
	var rules []string
	for _, c := range r.Cells {
		if c.Firewall != "" && !slices.Contains(rules, c.Firewall) {
			rules = append(rules, c.Firewall)
		}
	}
	if len(rules) == 0 {
		return
	}
	t.line("%s: the zones allow it, and another firewall on this host drops it:", wordFirewall)
	for _, rule := range rules {
		t.line("    %s", console.OneLine(rule))
	}
	t.line("")
}

func (t *text) findings(r *api.ZoneReport) {
	if slices.ContainsFunc(r.Cells, func(c api.ZoneCell) bool { return c.ByHost }) {
		t.line("%s: by a published port of this host only, as anybody there does; not by its name", wordByHost)
		t.line("")
	}
	t.firewalls(r)
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
	tried, followed, unproved := 0, 0, 0
	for _, c := range r.Cells {
		for _, try := range c.Tries {
			switch try.Result {
			case api.ZoneUnproved:
				unproved++
			case api.ZonePasses, api.ZoneBlocked:
				followed++
			default:
				tried++
			}
		}
	}
	line := fmt.Sprintf("verified by %d attempts", tried)
	if followed > 0 {
		line += fmt.Sprintf("; %d ways from the LAN and the internet by the kernel's rules", followed)
	}
	if unproved > 0 {
		line += fmt.Sprintf("; %d ways cannot be tried from here", unproved)
	}
	t.line("%s", line)
	for _, c := range r.Cells {
		for _, try := range c.Tries {
			if try.Differs {
				t.line("%s", console.OneLine(fmt.Sprintf("DIFFERS   %s -> %s: %s at %s is %s; the model: %s", c.From, target{c.To, c.Port, c.Protocol}, try.To, try.Address, try.Result, try.Why)))
			}
		}
	}
}
