package zonemap_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"muelle/api"
	"muelle/internal/cli/zonemap"
)

var update = flag.Bool("update", false, "write golden files")

// shop is a stack of three zones: web is published, api is between, db is inside, pay has
// one way out; one way went otherwise than the model says.
func shop() *api.ZoneReport {
	at := netip.MustParseAddrPort
	r := &api.ZoneReport{
		Project: "shop",
		Zones: []api.ZoneView{
			{Name: "back", Network: "shop_back", Internal: true, Zone: api.Zone{Publish: api.ZoneNone}, Members: []string{"api", "db"}},
			{Name: "front", Network: "shop_front", Members: []string{"api", "web"}},
			{Name: "out", Network: "shop_out", Zone: api.Zone{Publish: api.ZoneHost, Egress: []string{"pay.example.org", "192.0.2.0/24"}, Between: api.ZoneDeny}, Members: []string{"pay"}},
		},
		Members: []api.ZoneMember{
			{Name: "api", Networks: []string{"back", "front"}, Ports: []api.ZonePort{{Port: 5000, Protocol: "tcp", Listening: true}}},
			{Name: "db", Networks: []string{"back"}, Ports: []api.ZonePort{{Port: 27017, Protocol: "tcp", Listening: true}}},
			{Name: "pay", Networks: []string{"out"}, Ports: []api.ZonePort{{Port: 7000, Protocol: "udp", Published: []netip.AddrPort{at("127.0.0.1:7000")}}}},
			{Name: "web", Networks: []string{"front"}, Ports: []api.ZonePort{{Port: 80, Protocol: "tcp", Listening: true, Published: []netip.AddrPort{at("0.0.0.0:8080")}}}},
		},
		Expect: []api.ZoneExpectation{
			{Sentence: "web -> api:5000", Holds: true},
			{Sentence: "web !-> db", Holds: true},
			{Sentence: "internet !-> pay", Holds: true, Why: "not judged: nothing of it runs"},
			{Sentence: "lan !-> web", Why: "lan !-> web: must not be reached and is: front publishes it on 0.0.0.0:8080"},
		},
		Verified: true, Violations: 2,
	}
	reached := map[string]bool{"api db": true, "api web": true, "web api": true, "host web": true, "lan web": true, "internet web": true, "host pay": true, "host api": true}
	for _, from := range []string{"api", "db", "pay", "web", "host", "lan", "internet"} {
		for _, to := range r.Members {
			if to.Name != from {
				c := api.ZoneCell{From: from, To: to.Name, Port: to.Ports[0].Port, Protocol: to.Ports[0].Protocol, Reached: reached[from+" "+to.Name]}
				c.ByHost = from == "db" && to.Name == "web"
				c.Reached = c.Reached || c.ByHost
				if from == "web" && to.Name == "db" {
					c.Differs = true
					c.Tries = []api.ZoneTry{{From: "shop-web-1", To: "shop-db-1", Address: at("172.20.0.2:27017"), Why: "no network in common", Result: api.ZoneOpen, Differs: true}}
				}
				if from == "lan" {
					c.Tries = []api.ZoneTry{{From: "lan", Result: api.ZoneUnproved}}
				}
				r.Cells = append(r.Cells, c)
			}
		}
		switch from {
		case "api", "web":
			r.Cells = append(r.Cells, api.ZoneCell{From: from, To: "host", Reached: true}, api.ZoneCell{From: from, To: "internet", Reached: true})
		case "db", "pay":
			r.Cells = append(r.Cells, api.ZoneCell{From: from, To: "host"}, api.ZoneCell{From: from, To: "internet", Some: from == "pay"})
		}
	}
	return r
}

// Names that want to be more than text: markup, quotation, a terminal's commands, ends of
// lines, the other direction of writing, bytes that are no UTF-8.
var hostile = []string{`<script>alert(1)</script>`, `"]; evil [label="`, "\x1b[2J\x1b]0;owned\a", "db\nexpected  web !-> db  yes", "a\u202eb\u009b31m", "\xff\xfe", `back\slash & ' ]]>`, "\ufffe\x00", "host (service)"}

func strangers() *api.ZoneReport {
	r := &api.ZoneReport{Project: hostile[0]}
	for i, n := range hostile {
		next := hostile[(i+1)%len(hostile)]
		r.Zones = append(r.Zones, api.ZoneView{Name: n, Network: n, Members: []string{n, next}, Zone: api.Zone{Publish: n, Between: n, Egress: []string{n, next}}})
		r.Members = append(r.Members, api.ZoneMember{Name: n, Networks: []string{n, hostile[(i+len(hostile)-1)%len(hostile)]},
			Ports: []api.ZonePort{{Port: 80, Protocol: n, Published: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80")}}}})
		r.Cells = append(r.Cells, api.ZoneCell{From: n, To: next, Port: 80, Protocol: next, Reached: true, Differs: i == 2,
			Tries: []api.ZoneTry{{From: n, To: next, Why: n, Result: n, Differs: true}}},
			api.ZoneCell{From: "host", To: n, Port: 80, Protocol: n, Reached: true})
		r.Expect = append(r.Expect, api.ZoneExpectation{Sentence: n, Why: n}, api.ZoneExpectation{Sentence: n + " !-> " + next, Holds: true, Why: n}, api.ZoneExpectation{Sentence: n, Holds: true})
	}
	r.Verified = true
	return r
}

func text(colour bool) func(io.Writer, *api.ZoneReport) error {
	return func(w io.Writer, r *api.ZoneReport) error { return zonemap.Text(w, r, 80, colour) }
}

func draw(t *testing.T, f func(io.Writer, *api.ZoneReport) error, r *api.ZoneReport) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		file   string
		draw   func(io.Writer, *api.ZoneReport) error
		report *api.ZoneReport
	}{
		{"shop.txt", text(false), shop()},
		{"shop.colour.txt", text(true), shop()},
		{"shop.dot", zonemap.DOT, shop()},
		{"shop.svg", zonemap.SVG, shop()},
		{"strangers.txt", text(false), strangers()},
		{"strangers.dot", zonemap.DOT, strangers()},
		{"strangers.svg", zonemap.SVG, strangers()},
		{"empty.txt", text(false), &api.ZoneReport{}},
		{"empty.dot", zonemap.DOT, &api.ZoneReport{}},
		{"empty.svg", zonemap.SVG, &api.ZoneReport{}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			got, path := draw(t, tt.draw, tt.report), filepath.Join("testdata", tt.file)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("%s (-want +got), go test -update writes it:\n%s", path, d)
			}
		})
	}
}

// The matrix of a stack keeps to the terminal's width: it goes on below.
func TestTextWidth(t *testing.T) {
	tables, _, _ := strings.Cut(draw(t, text(false), shop()), "by host: ")
	for line := range strings.Lines(tables) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// Nothing of a name is obeyed by a terminal, and none makes a line of its own.
func TestHostileNamesAreText(t *testing.T) {
	for name, f := range map[string]func(io.Writer, *api.ZoneReport) error{"text": text(false), "dot": zonemap.DOT, "svg": zonemap.SVG} {
		got := draw(t, f, strangers())
		for _, r := range got {
			if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0xfffe {
				t.Errorf("%s: %q in it", name, r)
			}
		}
		if !utf8.ValidString(got) {
			t.Errorf("%s is no UTF-8", name)
		}
		for line := range strings.Lines(got) {
			if strings.HasPrefix(line, "expected  web !-> db") {
				t.Errorf("%s: a name made a line: %s", name, line)
			}
		}
	}
}

// The picture is XML with no element or attribute but its own, whatever the names are.
func TestSVGIsWellFormed(t *testing.T) {
	own := map[string]bool{"svg": true, "title": true, "defs": true, "marker": true, "path": true, "rect": true, "text": true}
	for name, r := range map[string]*api.ZoneReport{"shop": shop(), "strangers": strangers(), "empty": {}} {
		got := draw(t, zonemap.SVG, r)
		texts := ""
		for d := xml.NewDecoder(strings.NewReader(got)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			switch e := token.(type) {
			case xml.StartElement:
				if !own[e.Name.Local] {
					t.Errorf("%s: an element %s", name, e.Name.Local)
				}
				for _, a := range e.Attr {
					if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
						t.Errorf("%s: an attribute %s", name, a.Name.Local)
					}
				}
			case xml.CharData:
				texts += string(e)
			}
		}
		if name == "strangers" && !strings.Contains(texts, hostile[0]) {
			t.Errorf("%q is not in the text", hostile[0])
		}
	}
}

// Outside quotation marks nothing of a name stands.
func TestDOTQuotes(t *testing.T) {
	var outside strings.Builder
	quoted, escaped := false, false
	for _, r := range draw(t, zonemap.DOT, strangers()) {
		switch {
		case escaped:
			escaped = false
			if r != '\\' && r != '"' && r != 'n' {
				t.Errorf("an escape of %q", r)
			}
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case !quoted:
			outside.WriteRune(r)
		}
	}
	if quoted {
		t.Error("a string does not end")
	}
	for _, word := range []string{"evil", "script", "owned", "slash", "expected"} {
		if strings.Contains(outside.String(), word) {
			t.Errorf("%q is outside the quotation marks", word)
		}
	}
}
