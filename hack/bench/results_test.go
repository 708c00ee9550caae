package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(minute int) time.Time { return time.Date(2026, 11, 22, 16, minute, 0, 0, time.UTC) }

// runs are a run of everything, a later one that measured again a row of it, and another
// part; they are given in no order.
func runs() []results {
	whole := results{
		Made: at(0), Command: "make bench", Host: "Linux 6, 2 cores, cgroup v1",
		Engines: []engineName{{"Muelle", "1"}, {"Docker", "20"}, {"nerdctl", "1.7"}},
		Rows: []row{
			{1, "start", "30 ms", "ms", map[string]cell{"Muelle": {Value: 10}, "Docker": {Value: 250}, "nerdctl": {Note: "`nerdctl run` did not end within 2m0s and was killed"}}},
			{101, "build", "15 ms", "ms", map[string]cell{"Muelle": {Value: 20}, "Docker": {Value: 30}, "nerdctl": {Note: "has no builder"}}},
			{102, "built again", "0.1 s", "ms", map[string]cell{"Muelle": {Value: 20}, "Docker": {Value: 12345}, "nerdctl": {Note: "has no builder"}}},
		},
	}
	networks := results{
		Made: at(20), Command: "make bench-networks", Host: whole.Host,
		Engines: []engineName{{"Muelle", "1"}, {"Podman", "4"}},
		Rows:    []row{{10001, "200 networks", "", "ms", map[string]cell{"Muelle": {Value: 100}, "Podman": {Value: 100000, Note: "one at a time"}}}},
	}
	again := results{
		Made: at(10), Command: "hack/bench/run.sh -only start", Host: whole.Host,
		Engines: []engineName{{"Muelle", "1"}, {"nerdctl", "1.7"}},
		Rows:    []row{{1, "start", "30 ms", "ms", map[string]cell{"Muelle": {Value: 11}, "nerdctl": {Value: 500}}}},
	}
	return []results{networks, again, whole}
}

const wantTable = `Medians, 2026-11-22, Linux 6, 2 cores, cgroup v1, Muelle 1, Docker 20, Podman 4, nerdctl 1.7. In brackets: times Muelle's.

| what | budget | Muelle | Docker | Podman | nerdctl |
|---|---|---|---|---|---|
| start | 30 ms | 11.0 ms | 250.0 ms (×22.7) | | 500.0 ms (×45.5) |
| build | 15 ms | 20.0 ms | 30.0 ms (×1.5) | | - <sup>1</sup> |
| built again | 0.1 s | 20.0 ms | 12.3 s (×617) | | - <sup>1</sup> |
| 200 networks |  | 100.0 ms | | 100.0 s (×1000) <sup>2</sup> | |

1. nerdctl: has no builder.
2. Podman: one at a time.

Muelle misses its budget in: build (20.0 ms).

Made by ` + "`make bench` (2026-11-22 16:00 UTC), `hack/bench/run.sh -only start` (2026-11-22 16:10 UTC), `make bench-networks` (2026-11-22 16:20 UTC).\n"

func TestTableOfSeveralRuns(t *testing.T) {
	var got strings.Builder
	all := byTime(runs())
	merge(all).write(&got, all)
	if diff := cmp.Diff(wantTable, got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTableIntoAPage(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for i, r := range runs() {
		paths = append(paths, filepath.Join(t.TempDir(), string(rune('a'+i))))
		if err := r.save(paths[i]); err != nil {
			t.Fatal(err)
		}
	}
	o := options{into: page}
	write("before\n" + tableBegin + "old\n" + tableEnd + "after\n")
	for range 2 { // what was written can be written again
		if err := o.writeTable(paths); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("before\n"+tableBegin+wantTable+tableEnd+"after\n", string(got)); diff != "" {
			t.Fatal(diff)
		}
	}
	for _, text := range []string{"no marks\n", tableBegin + "no end\n", tableEnd + tableBegin} {
		write(text)
		if err := o.writeTable(paths); err == nil {
			t.Errorf("no error for %q", text)
		}
		if got, err := os.ReadFile(page); err != nil || string(got) != text {
			t.Errorf("the page %q became %q (%v)", text, got, err)
		}
	}
}

// The page that the table is for has the marks.
func TestPageHasTheMarks(t *testing.T) {
	page, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replaceTable(string(page), ""); err != nil {
		t.Error(err)
	}
}

func TestPlotLeavesOutWhatHasNoFigure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plot.svg")
	all := runs()
	all[2].Rows = append(all[2].Rows, row{103, "alone", "", "ms", map[string]cell{"Muelle": {Value: 1}, "Docker": {Note: "no"}}})
	if err := merge(all).plot(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var words []string
	bars := -1 // the ground is a rectangle too
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			if x.Name.Local == "rect" {
				bars++
			}
		case xml.CharData:
			words = append(words, string(x))
		}
	}
	if want := 4 + 3 + 2 + 2 + 2; bars != want { // four engines; start, build, built again, networks
		t.Errorf("%d bars, want %d", bars, want)
	}
	if text := strings.Join(words, " "); strings.Contains(text, "alone") || !strings.Contains(text, "12.3 s") {
		t.Errorf("text: %s", text)
	}
}

func TestMissingFoldersAreMadeAndKnown(t *testing.T) {
	dir := t.TempDir()
	made, err := missing([]string{dir, dir + "/a/b", dir + "/a/c"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{dir + "/a/c", dir + "/a/b", dir + "/a"}, made); diff != "" {
		t.Error(diff)
	}
	for _, d := range made {
		if err := os.Remove(d); err != nil {
			t.Error(err)
		}
	}
}

func TestNoteIsWhatTheProgramSaid(t *testing.T) {
	for _, c := range []struct{ say, want string }{
		{`exit status 1: time="2026-11-22T14:29:36Z" level=fatal msg="1 errors:\nerror reading \"x\""`, `exit status 1: 1 errors: error reading "x"`},
		{"one line.\nanother", "one line. another"},
		{`level=fatal msg=`, "level=fatal msg="},
		{strings.Repeat("x", 400), strings.Repeat("x", 300) + "…"},
	} {
		if got := note(errors.New(c.say)); got != c.want {
			t.Errorf("note of %q is %q, want %q", c.say, got, c.want)
		}
	}
}
