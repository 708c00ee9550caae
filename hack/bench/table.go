package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errNotMeasured: this engine has nothing to compare in this row.
var errNotMeasured = errors.New("not measured")

// table collects rows: one cell an engine.
type table struct {
	runs    int
	only    string
	engines []*engine
	rows    []row
}

type row struct {
	name, budget, unit string
	cells              map[string]float64
}

func (t *table) wanted(name string) bool {
	return t.only == "" || strings.Contains(name, t.only)
}

// row takes samples in turns, so that what the machine does meanwhile meets all.
func (t *table) row(name, budget, unit string, samples int, sample func(e *engine) (float64, error)) error {
	if !t.wanted(name) {
		return nil
	}
	log.Print(name)
	values := map[string][]float64{}
	skip := map[string]bool{}
	for range samples {
		for _, e := range t.engines {
			if skip[e.name] {
				continue
			}
			v, err := sample(e)
			if errors.Is(err, errNotMeasured) {
				skip[e.name] = true
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %s: %w", name, e.name, err)
			}
			values[e.name] = append(values[e.name], v)
		}
	}
	r := row{name, budget, unit, map[string]float64{}}
	for engine, v := range values {
		r.cells[engine] = median(v)
	}
	t.rows = append(t.rows, r)
	return nil
}

func (t *table) print(w io.Writer) {
	var u unix.Utsname
	unix.Uname(&u)
	fmt.Fprintf(w, "\nMedians, %s, Linux %s, %d cores", time.Now().UTC().Format("2006-01-02"), unix.ByteSliceToString(u.Release[:]), runtime.NumCPU())
	for _, e := range t.engines {
		fmt.Fprintf(w, ", %s %s", e.name, e.version)
	}
	if host, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil && len(host) > 0 {
		fmt.Fprint(w, ", cgroup v2")
	} else {
		fmt.Fprint(w, ", cgroup v1")
	}
	fmt.Fprint(w, ". In brackets: times Muelle's.\n\n| what | budget |")
	for _, e := range t.engines {
		fmt.Fprintf(w, " %s |", e.name)
	}
	fmt.Fprint(w, "\n|---|---|", strings.Repeat("---|", len(t.engines)), "\n")
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %s |", r.name, r.budget)
		own := r.cells[t.engines[0].name]
		for i, e := range t.engines {
			v, ok := r.cells[e.name]
			switch {
			case !ok:
				fmt.Fprint(w, " |")
			case i == 0 || own <= 0:
				fmt.Fprintf(w, " %.1f %s |", v, r.unit)
			default:
				fmt.Fprintf(w, " %.1f %s (×%.1f) |", v, r.unit, v/own)
			}
		}
		fmt.Fprintln(w)
	}
}
