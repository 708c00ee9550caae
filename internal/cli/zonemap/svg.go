package zonemap

import (
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"muelle/api"
	"muelle/internal/console"
)

// Sizes of the picture, in its own units.
const (
	margin    = 20
	labelW    = 190 // zones' names and what they may do
	boxH      = 34
	arcH      = 46 // room for arrows above the boxes
	laneH     = 26 // room for what is forbidden below them
	bandGap   = 16
	letter    = 7.4 // a letter's width
	exitW     = 190
	titleH    = 34
	pillH     = 22
	footLineH = 20
)

// colours of zones: border and ground.
var palette = [][2]string{
	{"#2b7a78", "#e8f5f4"}, {"#8a5a00", "#fdf3df"}, {"#4c4c9d", "#ececfa"}, {"#9d4c7a", "#faeaf3"},
	{"#3f7d20", "#ebf6e3"}, {"#7d5520", "#f6ede3"}, {"#20667d", "#e3f1f6"},
}

// picture places every member in a column of its own, and every zone in a band; a
// member in several zones has a box in each, joined by a bar.
type picture struct {
	r     *api.ZoneReport
	b     strings.Builder
	colW  float64
	cols  map[string]int
	bands map[string]float64 // top by zone
	doors float64            // height of the outside band
	width float64
	under float64 // where the bands end
	lanes map[string]int
}

// SVG writes the report as a picture.
func SVG(w io.Writer, r *api.ZoneReport) error {
	p := &picture{r: r, cols: map[string]int{}, bands: map[string]float64{}, lanes: map[string]int{}}
	p.place()
	height := p.under + float64(len(r.Expect)+2)*footLineH + margin
	fmt.Fprintf(&p.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="system-ui,sans-serif" font-size="13">`+"\n", p.width, height, p.width, height)
	title := "zones"
	if r.Project != "" {
		title = "zones of " + r.Project
	}
	fmt.Fprintf(&p.b, "<title>%s</title>\n", esc(title))
	p.b.WriteString(`<defs>` + arrow("go", "#1d6b3a") + arrow("no", "#b3261e") + "</defs>\n")
	fmt.Fprintf(&p.b, `<rect width="%.0f" height="%.0f" fill="#fff"/>`+"\n", p.width, height)
	p.text(margin, margin+16, "#111", "start", `font-size="17" font-weight="600"`, title)
	p.drawBands()
	p.drawForbidden()
	p.drawDoors()
	p.drawMembers()
	p.drawFlows()
	p.drawFoot()
	p.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, p.b.String())
	return err
}

func arrow(id, colour string) string {
	return fmt.Sprintf(`<marker id="%s" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="%s"/></marker>`, id, colour)
}

// esc gives text that XML may hold: there are no control characters in it, escaped or not.
func esc(s string) string { return html.EscapeString(console.OneLine(s)) }

func short(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}

func (p *picture) text(x, y float64, colour, anchor, more, s string) {
	fmt.Fprintf(&p.b, `<text x="%.1f" y="%.1f" fill="%s" text-anchor="%s" %s>%s</text>`+"\n", x, y, colour, anchor, more, esc(s))
}

// place decides where everything goes.
func (p *picture) place() {
	longest := 8
	for _, m := range p.ordered() {
		p.cols[m.Name] = len(p.cols)
		longest = max(longest, min(utf8.RuneCountInString(m.Name), 22), utf8.RuneCountInString(portsOf(m)))
	}
	for _, lines := range p.doorLines() {
		for _, l := range lines {
			longest = max(longest, utf8.RuneCountInString(l.text)+1)
		}
		p.doors = max(p.doors, float64(len(lines))*(pillH+4))
	}
	p.colW = float64(longest)*letter + 46
	p.width = margin*2 + labelW + p.colW*float64(max(len(p.cols), 1)) + exitW
	y := float64(margin + titleH)
	if p.doors > 0 {
		p.doors += 34
	}
	y += p.doors
	for _, z := range p.r.Zones {
		p.bands[z.Name] = y
		y += p.bandH() + bandGap
	}
	p.under = y + 6
}

func (p *picture) bandH() float64 { return arcH + boxH + laneH }

// ordered gives the members by the zones that they are in, so that neighbours share one.
func (p *picture) ordered() []api.ZoneMember {
	index := map[string]int{}
	for i, z := range p.r.Zones {
		index[z.Name] = i
	}
	key := func(m api.ZoneMember) string {
		var list []string
		for _, n := range m.Networks {
			list = append(list, fmt.Sprintf("%03d", index[n]))
		}
		slices.Sort(list)
		return strings.Join(list, ".")
	}
	all := slices.Clone(p.r.Members)
	slices.SortStableFunc(all, func(a, b api.ZoneMember) int { return strings.Compare(key(a), key(b)) })
	return all
}

func (p *picture) x(member string) float64 {
	return margin + labelW + p.colW*(float64(p.cols[member])+0.5)
}

func (p *picture) boxTop(zone string) float64 { return p.bands[zone] + arcH }

func (p *picture) boxW() float64 { return p.colW - 26 }

func portsOf(m api.ZoneMember) string {
	var list []string
	for _, port := range m.Ports {
		list = append(list, strings.TrimPrefix(target{"", port.Port, port.Protocol}.String(), ":"))
	}
	return short(strings.Join(list, " "), 22)
}

func (p *picture) drawBands() {
	for i, z := range p.r.Zones {
		c := palette[i%len(palette)]
		y := p.bands[z.Name]
		fmt.Fprintf(&p.b, `<rect x="%d" y="%.1f" width="%.1f" height="%.1f" rx="12" fill="%s" stroke="%s" stroke-width="1.5"/>`+"\n", margin, y, p.width-2*margin, p.bandH(), c[1], c[0])
		p.text(margin+14, y+24, c[0], "start", `font-size="15" font-weight="600"`, short(z.Name, 21))
		p.text(margin+14, y+46, c[0], "start", "", short("publish: "+publish(z), 25))
		if apart(z) {
			p.text(margin+14, y+65, c[0], "start", "", "between: deny")
		}
		x := p.width - margin - exitW + 16
		lines := []string{"→ internet, LAN"}
		switch {
		case z.Internal || slices.Equal(z.Zone.Egress, []string{api.ZoneNone}):
			lines = []string{"no way out"}
		case len(z.Zone.Egress) > 0 && z.Zone.Egress[0] != api.ZoneAny:
			lines = nil
			for _, e := range z.Zone.Egress {
				lines = append(lines, "→ "+short(e, 21))
			}
			if len(lines) > 4 {
				lines = append(lines[:3], fmt.Sprintf("→ and %d more", len(z.Zone.Egress)-3))
			}
		}
		for n, l := range lines {
			p.text(x, y+24+float64(n)*18, c[0], "start", "", l)
		}
	}
}

func (p *picture) drawMembers() {
	for _, m := range p.r.Members {
		x := p.x(m.Name)
		var tops []float64
		for _, n := range m.Networks {
			tops = append(tops, p.boxTop(n))
		}
		slices.Sort(tops)
		if len(tops) > 1 {
			fmt.Fprintf(&p.b, `<path d="M%.1f %.1fV%.1f" stroke="#555" stroke-width="7" stroke-linecap="round"/><path d="M%.1f %.1fV%.1f" stroke="#fff" stroke-width="4"/>`+"\n",
				x, tops[0]+boxH, tops[len(tops)-1], x, tops[0]+boxH, tops[len(tops)-1])
		}
		for _, y := range tops {
			fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="7" fill="#fff" stroke="#333" stroke-width="1.4"/>`+"\n", x-p.boxW()/2, y, p.boxW(), boxH)
			if ports := portsOf(m); ports != "" {
				p.text(x, y+15, "#111", "middle", `font-weight="600"`, short(m.Name, 22))
				p.text(x, y+29, "#555", "middle", `font-size="11"`, ports)
			} else {
				p.text(x, y+22, "#111", "middle", `font-weight="600"`, short(m.Name, 22))
			}
		}
	}
}

// drawFlows draws who reaches whom inside each zone: one arrow for all ports.
func (p *picture) drawFlows() {
	for _, z := range p.r.Zones {
		if apart(z) {
			continue
		}
		for _, from := range z.Members {
			for _, to := range z.Members {
				if from != to && p.reaches(from, to) {
					p.arc(p.x(from), p.x(to), p.boxTop(z.Name))
				}
			}
		}
	}
}

func (p *picture) reaches(from, to string) bool {
	return slices.ContainsFunc(p.r.Cells, func(c api.ZoneCell) bool {
		return c.From == from && c.To == to && c.Port != 0 && c.Reached && !c.ByHost
	})
}

// arc goes from the upper edge of one box to that of another; the two directions leave
// and arrive at different places.
func (p *picture) arc(from, to, y float64) {
	side := p.boxW() / 4
	if to < from {
		side = -side
	}
	x1, x2 := from+side, to-side*0.5
	lift := min(arcH-8, 16+abs(x2-x1)/p.colW*7)
	fmt.Fprintf(&p.b, `<path d="M%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f" fill="none" stroke="#1d6b3a" stroke-width="1.6" marker-end="url(#go)"/>`+"\n",
		x1, y, x1+side*0.6, y-lift, x2-side*0.6, y-lift, x2, y-1)
}

func abs(f float64) float64 {
	if f < 0 {
		return -f
	}
	return f
}

func (p *picture) member(name string) api.ZoneMember {
	for _, m := range p.r.Members {
		if m.Name == name {
			return m
		}
	}
	return api.ZoneMember{}
}

func (p *picture) lowest(m api.ZoneMember) float64 {
	best := 0.0
	for _, n := range m.Networks {
		best = max(best, p.boxTop(n))
	}
	return best
}

func (p *picture) drawFoot() {
	y := p.under + footLineH
	if len(p.r.Expect) > 0 {
		p.text(margin+14, y, "#333", "start", `font-weight="600"`, "expected")
	}
	for _, e := range p.r.Expect {
		y += footLineH
		colour, sign := "#1d6b3a", "✓"
		if !e.Holds {
			colour, sign = "#b3261e", "violated:"
		}
		p.text(margin+14, y, colour, "start", "", sign+" "+e.Sentence)
	}
}
