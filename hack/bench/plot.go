package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"strings"
)

// plot draws the rows as bars on a logarithmic scale, one group a row, in a picture
// that is readable on light and dark paper.
func (t results) plot(path string) error {
	const left, width, bar, gap, head = 430, 430, 13, 12, 46
	colours := []string{"#0a7d6c", "#8a8f98", "#c58a3d", "#7a6fb0"}
	low, high := math.Inf(1), 0.0
	var rows []row
	for _, r := range t.Rows {
		bars := 0
		for _, c := range r.Cells {
			if c.Value > 0 {
				bars++
			}
		}
		if r.Unit != "ms" || bars < 2 {
			continue // a picture of one bar says nothing
		}
		rows = append(rows, r)
		for _, c := range r.Cells {
			if c.Value > 0 {
				low, high = min(low, c.Value), max(high, c.Value)
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	low = math.Pow(10, math.Floor(math.Log10(low)))
	scale := func(v float64) float64 { return width * math.Log(v/low) / math.Log(high/low) }
	var b strings.Builder
	y := head
	for _, r := range rows {
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", left-8, y+bar, html.EscapeString(strings.ReplaceAll(r.Name, "`", "")))
		for i, e := range t.Engines {
			v := r.Cells[e.Name].Value
			if v <= 0 {
				continue
			}
			fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/><text x=\"%.1f\" y=\"%d\">%s</text>\n",
				left, y, scale(v), bar-2, colours[i%len(colours)], left+scale(v)+4, y+bar-3, short(v))
			y += bar
		}
		y += gap
	}
	var legend strings.Builder
	x := 12
	for i, e := range t.Engines {
		label := e.Name + " " + e.Version
		fmt.Fprintf(&legend, "<rect x=\"%d\" y=\"12\" width=\"11\" height=\"11\" fill=\"%s\"/><text x=\"%d\" y=\"22\">%s</text>\n", x, colours[i%len(colours)], x+16, html.EscapeString(label))
		x += 40 + 7*len(label)
	}
	const scaleText = "milliseconds, logarithmic: less is better"
	fmt.Fprintf(&legend, "<text x=\"%d\" y=\"22\">%s</text>\n", x, scaleText)
	var out strings.Builder
	fmt.Fprintf(&out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n", max(left+width+70, x+7*len(scaleText)), y+4)
	out.WriteString(legend.String())
	out.WriteString(b.String())
	out.WriteString("</svg>\n")
	return os.WriteFile(path, []byte(out.String()), 0o644)
}

func short(v float64) string {
	switch {
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	case v < 10000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f s", v/1000)
}
