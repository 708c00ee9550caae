package zonemap

import (
	"fmt"
	"slices"
	"strings"

	"muelle/api"
)

// door is one line above a member: who comes in from outside, or must not.
type door struct {
	text   string
	no     bool
	member string
}

// doorLines are the doors of each member.
func (p *picture) doorLines() map[string][]door {
	all := map[string][]door{}
	for _, m := range p.r.Members {
		for _, port := range m.Ports {
			var who []string
			for _, from := range []string{"internet", "lan", "host"} {
				if len(port.Published) > 0 && slices.ContainsFunc(p.r.Cells, func(c api.ZoneCell) bool {
					return c.From == from && c.To == m.Name && c.Port == port.Port && c.Protocol == port.Protocol && c.Reached
				}) {
					who = append(who, from)
				}
			}
			if len(who) > 0 {
				label := target{"", port.Published[0].Port(), port.Protocol}.String()
				all[m.Name] = append(all[m.Name], door{text: who[0] + " " + label, member: m.Name})
			}
		}
	}
	for _, e := range p.forbidden() {
		if e.from == "host" || e.from == "lan" || e.from == "internet" {
			all[e.to] = append(all[e.to], door{text: "✗ " + e.from + e.port, no: true, member: e.to})
		}
	}
	return all
}

func (p *picture) drawDoors() {
	if p.doors == 0 {
		return
	}
	top := float64(margin + titleH)
	p.text(margin+14, top+16, "#333", "start", `font-size="15" font-weight="600"`, "outside")
	p.text(margin+14, top+36, "#666", "start", `font-size="11"`, "internet ⊃ lan ⊃ host:")
	p.text(margin+14, top+50, "#666", "start", `font-size="11"`, "who comes in, by which port")
	for _, m := range p.r.Members {
		lines := p.doorLines()[m.Name]
		x := p.x(m.Name)
		for i, d := range lines {
			y := top + float64(i)*(pillH+4)
			colour, ground, marker := "#1d6b3a", "#eef8f1", "go"
			if d.no {
				colour, ground, marker = "#b3261e", "#fdeeee", "no"
			}
			fmt.Fprintf(&p.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" rx="11" fill="%s" stroke="%s"/>`+"\n", x-p.boxW()/2, y, p.boxW(), pillH, ground, colour)
			p.text(x, y+15, colour, "middle", `font-size="12"`, d.text)
			// The lowest of each kind has the line.
			if slices.ContainsFunc(lines[i+1:], func(o door) bool { return o.no == d.no }) {
				continue
			}
			dash, x := "", x-10
			if d.no {
				dash, x = ` stroke-dasharray="5 4"`, x+20
			}
			fmt.Fprintf(&p.b, `<path d="M%.1f %.1fV%.1f" stroke="%s" stroke-width="1.8"%s marker-end="url(#%s)"/>`+"\n", x, y+pillH, p.entry(m)-1, colour, dash, marker)
		}
	}
}

// entry is the upper edge of the first box of a member.
func (p *picture) entry(m api.ZoneMember) float64 {
	best := p.under
	for _, n := range m.Networks {
		best = min(best, p.boxTop(n))
	}
	return best
}

// ban is an expectation that something is not reached.
type ban struct{ from, to, port string }

func (p *picture) forbidden() (list []ban) {
	for _, e := range p.r.Expect {
		from, to, ok := strings.Cut(e.Sentence, "!->")
		if !ok {
			continue
		}
		to = strings.TrimSpace(to)
		name, port, _ := strings.Cut(to, ":")
		if port != "" {
			port = ":" + port
		}
		list = append(list, ban{strings.TrimSpace(from), name, port})
	}
	return list
}

// drawForbidden draws, from box to box, what must not be reached.
func (p *picture) drawForbidden() {
	for i, f := range p.forbidden() {
		_, from := p.cols[f.from]
		_, to := p.cols[f.to]
		if !from || !to {
			continue
		}
		a, b := p.member(f.from), p.member(f.to)
		if len(a.Networks) == 0 || len(b.Networks) == 0 {
			continue
		}
		off := float64(i%4) * 5
		x1, x2 := p.x(f.from)-12-off, p.x(f.to)+12+off
		y1, y2 := p.entry(a)+boxH, p.lowest(b)+boxH
		l1, l2 := y1+8+off, y2+8+off
		gutter := p.x(f.to) - p.colW/2 + 3 + off
		if x2 < x1 {
			gutter = p.x(f.to) + p.colW/2 - 3 - off
		}
		fmt.Fprintf(&p.b, `<path d="M%.1f %.1fV%.1fH%.1fV%.1fH%.1fV%.1f" fill="none" stroke="#b3261e" stroke-width="1.6" stroke-dasharray="6 4" marker-end="url(#no)"/>`+"\n", x1, y1, l1, gutter, l2, x2, y2+1)
		p.text(gutter, (l1+l2)/2+5, "#b3261e", "middle", `font-size="15" font-weight="700"`, "✗")
	}
}
