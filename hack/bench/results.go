package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// results is what one run measured, as it is kept in a file.
type results struct {
	Made    time.Time
	Command string // that measured it
	Host    string // kernel, processors, cgroup version
	Engines []engineName
	Rows    []row
}

type engineName struct{ Name, Version string }

// row is a line of the table: one cell an engine.
type row struct {
	Order              int // in the table; rows are sorted by it
	Name, Budget, Unit string
	Cells              map[string]cell
}

// cell is a value, or why there is none.
type cell struct {
	Value float64 `json:",omitempty"`
	Note  string  `json:",omitempty"`
}

func readResults(paths []string) ([]results, error) {
	var all []results
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		var r results
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("read %s: %w", p, err)
		}
		all = append(all, r)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no results: make bench and make bench-networks write them")
	}
	return all, nil
}

func (r results) save(path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// byTime sorts runs, the oldest first.
func byTime(all []results) []results {
	return slices.SortedFunc(slices.Values(all), func(a, b results) int { return a.Made.Compare(b.Made) })
}

// merge makes one of several runs: a cell is the one that was measured last.
func merge(all []results) results {
	all = byTime(all)
	var sum results
	for _, r := range all {
		sum.Made, sum.Host = r.Made, r.Host
		for _, e := range r.Engines {
			if i := slices.IndexFunc(sum.Engines, func(o engineName) bool { return o.Name == e.Name }); i >= 0 {
				sum.Engines[i] = e
			} else {
				sum.Engines = append(sum.Engines, e)
			}
		}
		for _, line := range r.Rows {
			i := slices.IndexFunc(sum.Rows, func(o row) bool { return o.Name == line.Name })
			if i < 0 {
				i = len(sum.Rows)
				sum.Rows = append(sum.Rows, row{line.Order, line.Name, line.Budget, line.Unit, map[string]cell{}})
			}
			for engine, c := range line.Cells {
				sum.Rows[i].Cells[engine] = c
			}
		}
	}
	columns := []string{"Muelle", "Docker", "Podman", "nerdctl"}
	slices.SortStableFunc(sum.Engines, func(a, b engineName) int {
		return cmp.Compare(slices.Index(columns, a.Name), slices.Index(columns, b.Name))
	})
	slices.SortStableFunc(sum.Rows, func(a, b row) int { return cmp.Compare(a.Order, b.Order) })
	return sum
}

const (
	tableBegin = "<!-- bench: what hack/bench/table.sh writes -->\n"
	tableEnd   = "<!-- bench: end -->\n"
)

// replaceTable gives a page with what stands between the marks replaced.
func replaceTable(page, table string) (string, error) {
	head, rest, ok := strings.Cut(page, tableBegin)
	_, tail, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		return "", fmt.Errorf("the page has no marks %q and %q", strings.TrimSpace(tableBegin), strings.TrimSpace(tableEnd))
	}
	return head + tableBegin + table + tableEnd + tail, nil
}
