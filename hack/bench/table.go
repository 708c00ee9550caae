package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// table collects rows: one cell an engine.
type table struct {
	runs    int
	only    string
	engines []*engine
	order   int // of the next row
	results results
	// published tells whose container has its 1,000 ports.
	published map[string]bool
	path      string // where the results are kept after every row, or empty
}

func (t *table) wanted(name string) bool {
	return t.only == "" || strings.Contains(name, t.only)
}

func (t *table) wantedAny(names ...string) bool { return slices.ContainsFunc(names, t.wanted) }

// row takes samples in turns, so that what the machine does meanwhile meets all. What a
// peer cannot do, or fails in, is a note in its cell; Muelle's failure ends the run.
func (t *table) row(name, budget, unit string, samples int, sample func(e *engine) (float64, error)) error {
	t.order++
	if !t.wanted(name) {
		return nil
	}
	log.Print(name)
	values := map[string][]float64{}
	cells, remarks := map[string]cell{}, map[string]string{}
	for range samples {
		for i, e := range t.engines {
			if cells[e.name].Note != "" {
				continue
			}
			err := e.out
			var v float64
			if err == nil {
				v, err = sample(e)
				remarks[e.name], e.remark = e.remark, ""
			}
			var reason notMeasured
			switch {
			case err == nil:
				values[e.name] = append(values[e.name], v)
				continue
			case i == 0:
				return fmt.Errorf("%s: %s: %w", name, e.name, err)
			case !errors.As(err, &reason):
				log.Printf("%s: %v", e.name, err)
			}
			e.strike(err)
			cells[e.name] = cell{Note: note(err)}
		}
	}
	for engine, v := range values {
		if cells[engine].Note == "" {
			cells[engine] = cell{Value: median(v), Note: remarks[engine]}
		}
	}
	t.results.Rows = append(t.results.Rows, row{t.order, name, budget, unit, cells})
	if t.path == "" {
		return nil
	}
	return t.results.save(t.path)
}

// message is what nerdctl, and others that log, have to say in a line of theirs.
var message = regexp.MustCompile(`time="[^"]*" level=fatal msg=("(?:[^"\\]|\\.)*")`)

// note is an error as a footnote: in one line, and not much of it.
func note(err error) string {
	text := message.ReplaceAllStringFunc(err.Error(), func(line string) string {
		said, err := strconv.Unquote(message.FindStringSubmatch(line)[1])
		if err != nil {
			return line
		}
		return said
	})
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return strings.TrimSuffix(text, ".")
}

// host describes the machine.
func host() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		log.Print(err)
	}
	version := "v1"
	if all, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil && len(all) > 0 {
		version = "v2"
	}
	return fmt.Sprintf("Linux %s, %d cores, cgroup %s", unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), version)
}

// write writes the results as Markdown: a table, its footnotes, and what made it.
func (r results) write(w io.Writer, made []results) {
	fmt.Fprintf(w, "Medians, %s, %s", r.Made.UTC().Format(time.DateOnly), r.Host)
	for _, e := range r.Engines {
		fmt.Fprintf(w, ", %s %s", e.Name, e.Version)
	}
	fmt.Fprint(w, ". In brackets: times Muelle's.\n\n| what | budget |")
	for _, e := range r.Engines {
		fmt.Fprintf(w, " %s |", e.Name)
	}
	fmt.Fprint(w, "\n|---|---|", strings.Repeat("---|", len(r.Engines)), "\n")
	var notes []string
	for _, line := range r.Rows {
		fmt.Fprintf(w, "| %s | %s |", line.Name, line.Budget)
		own := line.Cells[r.Engines[0].Name].Value
		for i, e := range r.Engines {
			c, ok := line.Cells[e.Name]
			text := ""
			switch {
			case c.Value == 0 && c.Note != "":
				text = " -"
			case !ok: // not in these runs
			case i == 0 || own <= 0:
				text = " " + amount(c.Value, line.Unit)
			default:
				text = fmt.Sprintf(" %s (×%s)", amount(c.Value, line.Unit), ratio(c.Value/own))
			}
			if c.Note != "" {
				note := e.Name + ": " + c.Note
				if !slices.Contains(notes, note) {
					notes = append(notes, note)
				}
				text += fmt.Sprintf(" <sup>%d</sup>", slices.Index(notes, note)+1)
			}
			fmt.Fprint(w, text, " |")
		}
		fmt.Fprintln(w)
	}
	for i, text := range notes {
		if i == 0 {
			fmt.Fprint(w, "\n")
		}
		fmt.Fprintf(w, "%d. %s.\n", i+1, text)
	}
	if missed := r.missed(); len(missed) > 0 {
		fmt.Fprintf(w, "\nMuelle misses its budget in: %s.\n", strings.Join(missed, "; "))
	} else {
		fmt.Fprint(w, "\nMuelle keeps every budget.\n")
	}
	fmt.Fprint(w, "\nMade by")
	for i, m := range made {
		fmt.Fprintf(w, "%s `%s` (%s UTC)", []string{"", ","}[min(i, 1)], m.Command, m.Made.UTC().Format("2006-01-02 15:04"))
	}
	fmt.Fprint(w, ".\n")
}

// missed are the rows in which Muelle, the first, needs more than its budget.
func (r results) missed() []string {
	var all []string
	for _, line := range r.Rows {
		var limit float64
		var unit string
		if n, _ := fmt.Sscan(line.Budget, &limit, &unit); n != 2 {
			continue
		}
		if unit == "s" {
			limit *= 1000
		}
		if v := line.Cells[r.Engines[0].Name].Value; v > limit {
			all = append(all, fmt.Sprintf("%s (%s)", line.Name, amount(v, line.Unit)))
		}
	}
	return all
}

// amount is a value as a reader wants it: long times in seconds.
func amount(v float64, unit string) string {
	if unit == "ms" && v >= 10000 {
		v, unit = v/1000, "s"
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}

func ratio(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}
