package jsonfile_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/jsonfile"
)

type line struct {
	Log, Stream string
	Time        time.Time
	Attrs       map[string]string
}

func readLines(t *testing.T, path string) []line {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for dec := json.NewDecoder(bytes.NewReader(data)); dec.More(); {
		var l line
		if err := dec.Decode(&l); err != nil {
			t.Fatalf("%v in %q", err, data)
		}
		lines = append(lines, l)
	}
	return lines
}

func newWriter(t *testing.T, cfg logdriver.Config) *jsonfile.Writer {
	t.Helper()
	w, err := jsonfile.NewWriter(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestLinesAndPieces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c-json.log")
	w := newWriter(t, logdriver.Config{Path: path, Extra: `{"tier":"front"}`})
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for i, piece := range []string{"one\ntw", "o\n", "\n", "tail"} {
		if err := w.Write(logdriver.Stdout, []byte(piece), at.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Write(logdriver.Stderr, []byte("err\n"), at); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	attrs := map[string]string{"tier": "front"}
	want := []line{
		{"one\n", "stdout", at, attrs},
		{"two\n", "stdout", at, attrs}, // the time of its first byte
		{"\n", "stdout", at.Add(2 * time.Second), attrs},
		{"err\n", "stderr", at, attrs},
		{"tail", "stdout", at.Add(3 * time.Second), attrs},
	}
	if diff := cmp.Diff(want, readLines(t, path)); diff != "" {
		t.Error(diff)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, logdriver.Config{Path: path})
	text := strings.Repeat("x", 2*logdriver.MaxLine+10) + "\n"
	for p := text; p != ""; {
		n := min(1000, len(p))
		if err := w.Write(logdriver.Stdout, []byte(p[:n]), time.Now()); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	lines := readLines(t, path)
	var got []int
	joined := ""
	for _, l := range lines {
		got = append(got, len(l.Log))
		joined += l.Log
	}
	if diff := cmp.Diff([]int{logdriver.MaxLine, logdriver.MaxLine, 11}, got); diff != "" {
		t.Error(diff)
	}
	if joined != text {
		t.Error("the pieces do not make the line")
	}
}

func TestRotationKeepsTheNewestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	cfg := logdriver.Config{Path: path, MaxSize: 200, MaxFile: 3}
	w := newWriter(t, cfg)
	for range 20 {
		if err := w.Write(logdriver.Stdout, []byte("a line of some length\n"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	names := func() []string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
			if st, _ := e.Info(); st.Size() > cfg.MaxSize {
				t.Errorf("%s has %d bytes", e.Name(), st.Size())
			}
		}
		return names
	}
	if diff := cmp.Diff([]string{"log", "log.000008", "log.000009"}, names()); diff != "" {
		t.Error(diff)
	}
	// A later writer goes on counting.
	w = newWriter(t, cfg)
	for range 2 {
		if err := w.Write(logdriver.Stdout, []byte("a line of some length\n"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"log", "log.000009", "log.000010"}, names()); diff != "" {
		t.Error(diff)
	}
}

func TestSingleFileIsEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, logdriver.Config{Path: path, MaxSize: 200, MaxFile: 1})
	for range 10 {
		if err := w.Write(logdriver.Stdout, []byte("a line of some length\n"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(readLines(t, path)); n < 1 || n > 2 {
		t.Errorf("%d lines kept", n)
	}
}

func TestLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	if w, err := jsonfile.NewWriter(&logdriver.Config{Path: filepath.Join(dir, "log")}); err == nil {
		w.Close()
		t.Error("the log was opened through a symbolic link")
	}
}

// FuzzEscaping: whatever a process prints is one JSON document a line that gives
// the same text back, invalid UTF-8 excepted.
func FuzzEscaping(f *testing.F) {
	f.Add([]byte("plain \"quoted\" \\ \x00\x1f\x7f\t\r é \xff\xfe \u2028 <&>"), []byte("x\xc3"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		a = bytes.ReplaceAll(a, []byte("\n"), nil)
		b = bytes.ReplaceAll(b, []byte("\n"), nil)
		if len(a)+len(b) >= logdriver.MaxLine-1 {
			return
		}
		path := filepath.Join(t.TempDir(), "log")
		w := newWriter(t, logdriver.Config{Path: path})
		w.Write(logdriver.Stdout, a, time.Now())
		w.Write(logdriver.Stdout, append(b, '\n'), time.Now())
		lines := readLines(t, path)
		if len(lines) != 1 {
			t.Fatalf("%d lines", len(lines))
		}
		want := string(a) + string(b) + "\n"
		if utf8.ValidString(want) && lines[0].Log != want {
			t.Errorf("%q, want %q", lines[0].Log, want)
		}
	})
}

// A writer that goes on for another has its file, also where its name leads elsewhere
// now, its unfinished lines with their times, its count and its numbers.
func TestResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c-json.log")
	cfg := logdriver.Config{Path: path, MaxSize: 300, MaxFile: 3}
	w, err := jsonfile.NewWriter(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	long := strings.Repeat("x", logdriver.MaxLine)
	for _, piece := range []string{long + "\n", "one\n", "hal"} {
		if err := w.Write(logdriver.Stderr, []byte(piece), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	fd, next := w.Position()
	half, since := w.Lines().Unfinished(logdriver.Stderr)
	again, err := jsonfile.Resume(&cfg, fd, next)
	if err != nil {
		t.Fatal(err)
	}
	again.Lines().Continue(w.Partial())
	again.Lines().Hold(logdriver.Stderr, half, since)
	if err := again.Write(logdriver.Stderr, []byte("f\n"), at.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := again.Partial(); got != 1 {
		t.Errorf("counts %d pieces, want 1", got)
	}
	if _, n := again.Position(); n != next || next < 2 {
		t.Errorf("the next file's number is %d, was %d, want at least 2 of both", n, next)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	lines := readLines(t, path+".moved")
	want := line{Log: "half\n", Stream: "stderr", Time: at}
	if d := cmp.Diff(want, lines[len(lines)-1]); d != "" {
		t.Errorf("the last line (-want +got):\n%s", d)
	}
}
