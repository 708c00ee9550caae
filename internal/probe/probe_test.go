package probe_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muelle/internal/probe"
)

var compare = []cmp.Option{
	cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b *regexp.Regexp) bool {
		return (a == nil) == (b == nil) && (a == nil || a.String() == b.String())
	}),
}

func TestParse(t *testing.T) {
	usual := []probe.StatusRange{{From: 200, To: 399}}
	tests := []struct {
		kind probe.Kind
		in   string
		want probe.Config
	}{
		{probe.HTTP, "8080", probe.Config{Port: 8080, Target: "/", Status: usual}},
		{probe.HTTP, "8080/healthz?a=b", probe.Config{Port: 8080, Target: "/healthz?a=b", Status: usual}},
		{probe.HTTP, ":8080/x", probe.Config{Port: 8080, Target: "/x", Status: usual}},
		{probe.HTTP, "/x", probe.Config{Port: 80, Target: "/x", Status: usual}},
		{probe.HTTP, "http://localhost/", probe.Config{Port: 80, Target: "/", Status: usual}},
		{probe.HTTP, "https://10.1.2.3", probe.Config{Port: 443, Target: "/", TLS: true, Addr: netip.MustParseAddr("10.1.2.3"), Status: usual}},
		{probe.HTTP, "http://[fd00::1]:81/", probe.Config{Port: 81, Target: "/", Addr: netip.MustParseAddr("fd00::1"), Status: usual}},
		{probe.HTTP, `:1/,status=204,status=300-302,body=is up,"match=a,b+",header=x-a: 1,host=example.test:8`, probe.Config{
			Port: 1, Target: "/", Status: []probe.StatusRange{{From: 204, To: 204}, {From: 300, To: 302}}, Body: "is up", Match: regexp.MustCompile("a,b+"),
			Headers: [][2]string{{"X-A", "1"}}, Host: "example.test:8"}},
		{probe.TCP, "5432", probe.Config{Port: 5432}},
		{probe.TCP, "localhost:5432", probe.Config{Port: 5432}},
		{probe.TCP, "[::1]:5432", probe.Config{Port: 5432, Addr: netip.IPv6Loopback()}},
		{probe.GRPC, ":50051", probe.Config{Port: 50051}},
		{probe.GRPC, "50051/my.Service,tls=true", probe.Config{Port: 50051, Service: "my.Service", TLS: true}},
	}
	for _, tt := range tests {
		got, err := probe.Parse(tt.kind, tt.in)
		if err != nil {
			t.Errorf("%s %q: %v", tt.kind, tt.in, err)
			continue
		}
		tt.want.Kind = tt.kind
		if diff := cmp.Diff(&tt.want, got, compare...); diff != "" {
			t.Errorf("%s %q: -want +got\n%s", tt.kind, tt.in, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		kind     probe.Kind
		in, want string
	}{
		{probe.HTTP, "", "empty"},
		{probe.HTTP, "ftp://:1/", "neither http nor https"},
		{probe.HTTP, "http://a:b@:1/", "header"},
		{probe.HTTP, ":0/", "not a port"},
		{probe.HTTP, ":70000/", "not a port"},
		{probe.HTTP, "http://db:80/", "resolves no names"},
		{probe.HTTP, ":1/,status=99", "not a status"},
		{probe.HTTP, ":1/,status=300-200", "not a status"},
		{probe.HTTP, ":1/,match=(", "missing"},
		{probe.HTTP, ":1/,header=a b: c", "not a header"},
		{probe.HTTP, ":1/,header=Host: c", "host=NAME"},
		{probe.HTTP, ":1/,header=Content-Length: 5", "the engine's own"},
		{probe.HTTP, ":1/,quick=yes", "unknown option"},
		{probe.HTTP, ":1/\n:2/", "more than one line"},
		{probe.HTTP, ":1/" + strings.Repeat("x", 9<<10), "longer"},
		{probe.TCP, "", "not a port"},
		{probe.TCP, "db:5432", "resolves no names"},
		{probe.TCP, "fe80::1%eth0:1", "resolves no names"},
		{probe.GRPC, "1,tls=maybe", "neither true nor false"},
		{probe.GRPC, "1,x=1", "unknown option"},
		{"udp", "1", "unknown kind"},
	}
	for _, tt := range tests {
		if _, err := probe.Parse(tt.kind, tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %.60q: %v, want %q", tt.kind, tt.in, err, tt.want)
		}
	}
}

func TestJoinIsReadBack(t *testing.T) {
	value := probe.Join(":80/a,b", [][2]string{{"match", `x,"y"`}, {"header", "X-Y: a, b"}})
	got, err := probe.Parse(probe.HTTP, value)
	if err != nil {
		t.Fatal(err)
	}
	if got.Target != "/a,b" || got.Match.String() != `x,"y"` || got.Headers[0] != [2]string{"X-Y", "a, b"} {
		t.Errorf("%q was read as %+v", value, got)
	}
}

func TestFromLabels(t *testing.T) {
	got, err := probe.FromLabels(map[string]string{
		"a": "b", "io.muelle.health.tcp": "80", "io.muelle.health.interval": "2s", "io.muelle.health.timeout": "1s",
		"io.muelle.health.start-period": "1m", "io.muelle.health.start-interval": "100ms", "io.muelle.health.retries": "5",
		"io.muelle.health.on-failure": "restart",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := probe.Settings{
		Probe: &probe.Config{Kind: probe.TCP, Port: 80}, Interval: 2 * time.Second, Timeout: time.Second,
		StartPeriod: time.Minute, StartInterval: 100 * time.Millisecond, Retries: 5, OnFailure: probe.Restart,
	}
	if diff := cmp.Diff(want, got, compare...); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for want, labels := range map[string]map[string]string{
		"one per container": {"io.muelle.health.tcp": "80", "io.muelle.health.http": "80"},
		"unknown label":     {"io.muelle.health.intervall": "1s"},
		"invalid duration":  {"io.muelle.health.interval": "often"},
		"is less than":      {"io.muelle.health.interval": "1us"},
		"retries":           {"io.muelle.health.retries": "-1"},
		"must be one of":    {"io.muelle.health.on-failure": "reboot"},
	} {
		if err := probe.CheckLabels(labels); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", labels, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{":8080/x,status=200", "[::1]:5", `"a`, "1/svc,tls=1", "http://%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, kind := range []probe.Kind{probe.HTTP, probe.TCP, probe.GRPC} {
			c, err := probe.Parse(kind, s)
			if err == nil && c.Port == 0 {
				t.Errorf("%s %q has no port", kind, s)
			}
			if err == nil && strings.ContainsAny(c.Target, "\r\n ") {
				t.Errorf("%s %q: target %q is not one word", kind, s, c.Target)
			}
		}
	})
}
