package display_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/compose/display"
)

func TestPlain(t *testing.T) {
	var out bytes.Buffer
	p := display.NewProgress(&out, display.ModeAuto, "up", false)
	p.On(display.Event{ID: "Container a", Text: "Starting"})
	p.On(display.Event{ID: "abc", Parent: "Image x", Text: "Downloading", Current: 1, Total: 2})
	p.On(display.Event{ID: "Container a", Text: "Error", Details: "no luck", State: display.Error})
	p.Warn("beware")
	p.Close()
	p.On(display.Event{ID: "late"})
	if diff := cmp.Diff(" Container a Starting\n Container a Error no luck\nWARN beware\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	p := display.NewProgress(&out, display.ModeJSON, "up", false)
	p.On(display.Event{ID: "Container a", Text: "Started", State: display.Done})
	p.Close()
	if diff := cmp.Diff(`{"id":"Container a","status":"Done","text":"Started"}`+"\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

// Lines are drawn over: what counts is the last drawing.
func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	p := display.NewTestProgress(&out, 50, 20)
	p.On(display.Event{ID: "Network n", Text: "Created", State: display.Done})
	p.On(display.Event{ID: "Image x", Text: "Pulling"})
	p.On(display.Event{ID: "l1", Parent: "Image x", Text: "Pull complete", State: display.Done})
	p.On(display.Event{ID: "l2", Parent: "Image x", Text: "Downloading", Current: 1e6, Total: 2e6})
	p.On(display.Event{ID: "Container a", Text: "Error", Details: "a reason that is too long for the line", State: display.Error})
	p.Close()
	want := "\x1b[?25l[+] up 2/3\n" +
		" ✔ Network n                       Created    1.0s\n" +
		" ⠋ Image x [⣿⣤]     1MB / 2MB     Pulling    6.0s\n" +
		" ✘ Container a                     Error a ... 1.0s\n\x1b[?25h"
	got := out.String()
	for i, line := range strings.Split(want, "\n") {
		lines := strings.Split(got, "\n")
		if i >= len(lines) {
			t.Fatalf("%q is missing", line)
		}
		// The columns matter, not how many blanks there are.
		if strings.Join(strings.Fields(lines[i]), " ") != strings.Join(strings.Fields(line), " ") {
			t.Errorf("line %d: %q\nwant   %q", i, lines[i], line)
		}
	}
}

func TestTerminalIsRedrawnInPlace(t *testing.T) {
	var out bytes.Buffer
	p := display.NewTestProgress(&out, 60, 5)
	for i := range 6 {
		p.On(display.Event{ID: fmt.Sprintf("Container %d", i), Text: "Starting"})
	}
	p.Warn("first")
	p.Close()
	got := out.String()
	if !strings.Contains(got, " ... 4 more\n") {
		t.Errorf("%q does not say how many lines are not shown", got)
	}
	if !strings.Contains(got, "\x1b[4A\x1b[0J") {
		t.Errorf("%q is not drawn over", got)
	}
}

// Log lines that come while the display is drawn stand above it.
func TestLogsBesideProgress(t *testing.T) {
	var out bytes.Buffer
	p := display.NewTestProgress(&out, 60, 20)
	l := display.NewLogs(&out, &out, false, true)
	l.Share(p.Beside)
	p.On(display.Event{ID: "Container a", Text: "Stopping"})
	l.Line("a-1", false, "one")
	l.Line("a-1", false, "two")
	p.Close()
	l.Line("a-1", false, "three")
	got := out.String()
	if strings.Count(got, "\x1b[2A\x1b[0J") != 2 || !strings.Contains(got, "\x1b[2A\x1b[0Ja-1  | two\n") || !strings.HasSuffix(got, "\x1b[?25ha-1  | three\n") {
		t.Errorf("%q", got)
	}
}

func TestLogs(t *testing.T) {
	var out, errs bytes.Buffer
	l := display.NewLogs(&out, &errs, false, true)
	l.Register("app-1")
	l.Register("database-1")
	w := l.Writer("app-1", false)
	for _, part := range []string{"one\ntw", "o\r\n\nlast"} {
		if _, err := io.WriteString(w, part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l.Line("database-1", true, "oops")
	l.Status("app-1", "exited with code 1")
	want := "app-1       | one\napp-1       | two\napp-1       | \napp-1       | last\napp-1 exited with code 1\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("database-1  | oops\n", errs.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLogsInColour(t *testing.T) {
	var out bytes.Buffer
	l := display.NewLogs(&out, &out, true, true)
	l.Line("a-1", false, "x")
	l.Line("b-1", false, "y")
	if diff := cmp.Diff("\x1b[36ma-1  | \x1b[0mx\n\x1b[33mb-1  | \x1b[0my\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestLogsWithoutPrefix(t *testing.T) {
	var out bytes.Buffer
	l := display.NewLogs(&out, &out, true, false)
	l.Line("a-1", false, "x")
	if diff := cmp.Diff("x\n", out.String()); diff != "" {
		t.Error(diff)
	}
}
