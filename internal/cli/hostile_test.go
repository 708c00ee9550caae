package cli_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"muelle/api"
)

// nasty clears the screen, sets the title, forges a line and turns the direction of writing.
const nasty = "x\x1b[2J\x1b]0;owned\a\r\nforged: ok\u009b31m\u202e\x7fz"

// What containers choose themselves (names by labels, processes, what they look up) is
// text on the terminal, and no line of its own.
func TestHostileTextIsNotObeyed(t *testing.T) {
	body := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	evidence := []api.WhyEvidence{{Source: nasty, Text: strings.ReplaceAll(nasty, "\n", "")}}
	hop := func(state string) api.ExplainHop {
		return api.ExplainHop{Hop: nasty, State: state, What: nasty, Evidence: evidence, Do: []string{nasty}, YAML: strings.ReplaceAll(nasty, "\n", ""), File: nasty}
	}
	for name, tt := range map[string]struct {
		method, path string
		answer       string
		args         []string
	}{
		"zones": {"GET", "/muelle/v1/zones", body(api.ZoneReport{Project: nasty, Verified: true,
			Zones:   []api.ZoneView{{Name: nasty, Members: []string{nasty}, Zone: api.Zone{Publish: nasty, Between: nasty, Egress: []string{nasty}}}},
			Members: []api.ZoneMember{{Name: nasty, Networks: []string{nasty}}},
			Cells:   []api.ZoneCell{{From: nasty, To: nasty, Port: 1, Protocol: nasty, Tries: []api.ZoneTry{{To: nasty, Result: nasty, Why: nasty, Differs: true}}}},
			Expect:  []api.ZoneExpectation{{Sentence: nasty, Holds: true}, {Sentence: nasty, Why: nasty}},
		}), []string{"zones", "shop"}},
		"exposure": {"GET", "/muelle/v1/exposure", body(api.ExposureReport{Warnings: []string{nasty}, Ports: []api.ExposedPort{
			{Container: nasty, Project: nasty, Service: nasty, Network: nasty, Protocol: nasty, Address: nasty, Process: nasty, Reach: nasty, Because: []string{nasty}},
			{Process: nasty, Protocol: nasty, Address: nasty, Reach: nasty, Because: []string{nasty}, Warning: nasty},
		}}), []string{"exposure"}},
		"exposure --format": {"GET", "/muelle/v1/exposure", body(api.ExposureReport{Ports: []api.ExposedPort{
			{Container: nasty, Project: nasty, Service: nasty, Network: nasty, Protocol: nasty, Address: nasty, Warning: nasty},
		}}), []string{"exposure", "--format", "{{.Name}} {{.Published}} {{.Target}} {{.Project}} {{.Service}} {{.Network}} {{.Warning}}"}},
		"dns log": {"GET", "/muelle/v1/containers/abc/dns", body(api.DNSQuery{Name: nasty, Type: nasty, Code: nasty, From: nasty, Reason: nasty}) +
			body(api.DNSQuery{Name: nasty, Type: "TXT", Code: "NOERROR", Answer: []string{nasty}}), []string{"dns", "log", "web"}},
		"explain": {"POST", "/muelle/v1/explain", body(api.Explanation{Source: nasty, Target: nasty, Port: 80, Proto: nasty,
			Hops: []api.ExplainHop{hop(api.HopOK), hop(api.HopUnknown), hop(api.HopWarning), hop(api.HopBroken)}}), []string{"explain", "a", "b"}},
		"why": {"GET", "/muelle/v1/why/web", body(api.WhyReport{Name: nasty, Status: nasty, Findings: []api.WhyFinding{
			{What: strings.ReplaceAll(nasty, "\n", ""), Evidence: evidence, Do: []string{nasty}}}}), []string{"why", "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, map[string]string{"GET /containers/web/json": `{"Id":"abc","Name":"/web"}`})
			e.handlers[tt.method+" "+tt.path] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(tt.answer))
			}
			r := e.run("muelle", "", tt.args...)
			if !strings.Contains(r.Out, "owned") {
				t.Fatalf("nothing is shown: %+v", r)
			}
			if !utf8.ValidString(r.Out) {
				t.Errorf("it is no UTF-8: %q", r.Out)
			}
			for _, c := range r.Out {
				if c < ' ' && c != '\n' || c >= 0x7f && c < 0xa0 || c == 0x202e {
					t.Fatalf("%q is in %q", c, r.Out)
				}
			}
			for line := range strings.Lines(r.Out) {
				if strings.HasPrefix(line, "forged") {
					t.Fatalf("a line of its own: %q", r.Out)
				}
			}
		})
	}
}
