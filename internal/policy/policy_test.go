package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/policy"
)

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		key, value string
		want       api.Zone
		err        string
	}{
		{"publish", "lan", api.Zone{Publish: "lan"}, ""},
		{"publish", "lna", api.Zone{}, `publish: "lna" is none of none, host, lan, any`},
		{"publsh", "lan", api.Zone{}, `did you mean publish?`},
		{"between", "deny", api.Zone{Between: "deny"}, ""},
		{"between", "yes", api.Zone{}, `none of allow, deny`},
		{"egress", "none", api.Zone{Egress: []string{"none"}}, ""},
		{"egress", "API.example.org., *.Example.com,10.1.2.3/8,10.0.0.0/8, 2001:db8::1", api.Zone{Egress: []string{"api.example.org", "*.example.com", "10.0.0.0/8", "2001:db8::1"}}, ""},
		{"egress", "none,example.org", api.Zone{}, "none stands alone"},
		{"egress", "", api.Zone{}, `"" is neither none nor any`},
		{"egress", "example.org:443", api.Zone{}, "ports are not part of it"},
		{"egress", "https://example.org", api.Zone{}, "neither none nor any"},
		{"egress", "10.0.0.1/40", api.Zone{}, "neither none nor any"},
		{"egress", "a.*.org", api.Zone{}, "neither none nor any"},
		{"egress", "fe80::1%eth0", api.Zone{}, "neither none nor any"},
	} {
		var z api.Zone
		err := policy.Set(&z, tt.key, tt.value)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s=%s: got %v, want %q", tt.key, tt.value, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s=%s: %v", tt.key, tt.value, err)
		}
		if diff := cmp.Diff(tt.want, z); diff != "" {
			t.Errorf("%s=%s (-want +got):\n%s", tt.key, tt.value, diff)
		}
		back, err := policy.FromOptions(policy.ToOptions(map[string]string{"a": "b"}, z))
		if err != nil || !policy.Equal(back, z) {
			t.Errorf("%+v by options: %+v, %v", z, back, err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		zone     api.Zone
		driver   string
		internal bool
		ok       bool
	}{
		{api.Zone{}, "macvlan", false, true},
		{api.Zone{Publish: "host"}, "macvlan", false, false},
		{api.Zone{Publish: "host"}, "bridge", true, true},
		{api.Zone{Publish: "lan"}, "", true, false},
		{api.Zone{Egress: []string{"any"}}, "", true, false},
		{api.Zone{Egress: []string{"none"}}, "", true, true},
	} {
		if err := policy.Check(tt.zone, tt.driver, tt.internal); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		entry, name string
		want        bool
	}{
		{"example.org", "example.org", true},
		{"example.org", "www.example.org", false},
		{"*.example.org", "www.example.org", true},
		{"*.example.org", "a.b.example.org", true},
		{"*.example.org", "example.org", false},
		{"*.example.org", "evilexample.org", false},
	} {
		if got := policy.Names(tt.entry, tt.name); got != tt.want {
			t.Errorf("%s, %s: %v", tt.entry, tt.name, got)
		}
	}
}

func service(name string, ports map[string]string, networks ...string) api.ProjectService {
	s := api.ProjectService{Name: name, Config: &container.Config{ExposedPorts: network.PortSet{}}, HostConfig: &container.HostConfig{PortBindings: network.PortMap{}}, Endpoints: map[string]*network.EndpointSettings{}}
	for _, n := range networks {
		s.Endpoints[n] = nil
	}
	for inside, host := range ports {
		p := network.MustParsePort(inside)
		s.Config.ExposedPorts[p] = struct{}{}
		if host == "" {
			continue
		}
		b := network.PortBinding{HostPort: host}
		if a, port, ok := strings.Cut(host, "|"); ok {
			b.HostIP, b.HostPort = netip.MustParseAddr(a), port
		}
		s.HostConfig.PortBindings[p] = []network.PortBinding{b}
	}
	return s
}

// project is the example of zones, and more.
func project(zones map[string]api.Zone) *api.ProjectSpec {
	spec := &api.ProjectSpec{Name: "p", Services: []api.ProjectService{
		service("app", map[string]string{"5000/tcp": "5000"}, "public", "back"),
		service("mongo", map[string]string{"27017/tcp": ""}, "back"),
		service("cliente", nil, "public"),
		service("admin", map[string]string{"8080/tcp": "127.0.0.1|8080", "53/udp": "5353"}, "other"),
	}}
	for _, key := range []string{"back", "other", "public"} {
		n := api.ProjectNetwork{Key: key, Name: "p_" + key, Create: network.CreateRequest{Internal: key == "back"}}
		if z, ok := zones[key]; ok {
			n.Zone = &z
		}
		spec.Networks = append(spec.Networks, n)
	}
	return spec
}

func TestExpectations(t *testing.T) {
	for _, tt := range []struct {
		name      string
		zones     map[string]api.Zone
		hold, not []string
	}{
		{"plain", nil,
			[]string{"cliente -> app:5000", "cliente !-> mongo", "cliente !-> mongo:27017", "app -> mongo:27017", "host -> app:5000", "lan -> app:5000", "internet -> app:5000",
				"host -> mongo:27017", "mongo !-> internet", "cliente -> internet", "lan !-> admin:8080", "host -> admin:8080", "lan -> admin:53/udp", "lan !-> admin:53",
				"cliente !-> admin:8080", "lan !-> mongo"},
			// admin reaches app by the host's port only: not as a peer, and not not at all.
			[]string{"admin -> app:5000", "admin !-> app:5000", "admin -> app", "cliente -> mongo", "lan -> admin:8080", "mongo !-> app:1/udp", "* !-> mongo:27017", "mongo !-> app:5000"}},
		{"closed", map[string]api.Zone{"back": {Publish: "none"}, "public": {Publish: "host", Egress: []string{"none"}}},
			[]string{"host !-> mongo:27017", "host !-> mongo", "host -> app:5000", "lan !-> app:5000", "internet !-> app", "cliente !-> internet", "app !-> internet", "admin !-> app:5000",
				"cliente !-> host", "admin -> host", "app -> mongo"},
			[]string{"lan -> app:5000"}},
		{"lan and names", map[string]api.Zone{"public": {Publish: "lan", Egress: []string{"*.example.org", "192.0.2.0/24"}, Between: "deny"}},
			[]string{"lan -> app:5000", "internet !-> app:5000", "host -> app:5000", "admin !-> app:5000", "cliente -> api.example.org", "cliente !-> example.com", "cliente -> 192.0.2.7",
				"cliente !-> 198.51.100.1", "cliente !-> internet", "cliente !-> app:5000"},
			[]string{"cliente -> app:5000"}},
		{"apart, by published ports too", map[string]api.Zone{"public": {Between: "deny"}},
			[]string{"cliente !-> app:5000", "host -> app:5000", "cliente -> internet"}, []string{"cliente -> app:5000", "admin -> app:5000", "admin !-> app:5000"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, want := range []bool{true, false} {
				list := tt.hold
				if !want {
					list = tt.not
				}
				for _, sentence := range list {
					spec := project(tt.zones)
					spec.Expect = []string{sentence}
					if err := policy.CheckSpec(spec, nil); (err == nil) != want {
						t.Errorf("%s: %v", sentence, err)
					}
				}
			}
		})
	}
}

// One replica of web was connected to the store's network by hand: what is expected of
// web does not hold for that one.
func TestExpectationsOfReplicas(t *testing.T) {
	w := &policy.World{
		Networks: []policy.Network{{Key: "f", Name: "front", Between: true}, {Key: "s", Name: "store", Between: true, Zone: api.Zone{Egress: []string{"none"}}}},
		Members: []policy.Member{
			{Name: "db", Networks: []string{"s"}, Ports: []policy.Port{{Protocol: "tcp", Number: 1}}},
			{Name: "web-1", Of: "web", Networks: []string{"f"}, Way: "f"},
			{Name: "web-2", Of: "web", Networks: []string{"f", "s"}, Way: "s"},
		},
	}
	for _, tt := range []struct{ sentence, want string }{
		{"web !-> db", "by web-2"}, {"web -> db", "by web-1"}, {"* !-> db", "by web-2"}, {"web -> internet", "by web-2"}, {"web !-> internet", "by web-1"}, {"db -> web-2", ""}, {"db !-> web-1", ""},
	} {
		e, err := policy.Expect(tt.sentence, []string{"db", "web", "web-1", "web-2"})
		if err != nil {
			t.Fatal(err)
		}
		bad := w.Violations([]policy.Expectation{e})
		if len(bad) > 1 || (len(bad) == 0) != (tt.want == "") || len(bad) == 1 && !strings.Contains(bad[0].String(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.sentence, bad, tt.want)
		}
	}
}

func TestExpectErrors(t *testing.T) {
	members := []string{"app", "cliente", "mongo"}
	for sentence, want := range map[string]string{
		"app mongo":          "is not FROM -> TO",
		"app -> ":            "is not FROM -> TO",
		"app -> mongo:x":     `"x" is not a port`,
		"app -> mongo:70000": `"70000" is not a port`,
		"client -> mongo":    `there is no service "client" (did you mean cliente?)`,
		"app -> mogno":       `there is no service "mogno" (did you mean mongo?)`,
		"host -> internet":   "one side must be a service",
		"app -> app":         "from and to are the same",
	} {
		if _, err := policy.Expect(sentence, members); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", sentence, err, want)
		}
	}
}

func TestSpecErrors(t *testing.T) {
	spec := project(map[string]api.Zone{"other": {Publish: "none"}})
	if err := policy.CheckSpec(spec, nil); err == nil || !strings.Contains(err.Error(), "service admin publishes 53/udp, 8080/tcp, but every network of it publishes nothing (other)") {
		t.Errorf("got %v", err)
	}
	spec = project(map[string]api.Zone{"back": {Publish: "any"}})
	if err := policy.CheckSpec(spec, nil); err == nil || !strings.Contains(err.Error(), "an internal network publishes to this host at most") {
		t.Errorf("got %v", err)
	}
	spec = project(nil)
	spec.Expect = []string{"cliente -> mongo:27017"}
	if err := policy.CheckSpec(spec, nil); err == nil || !strings.Contains(err.Error(), "cliente -> mongo:27017: must be reached and is not: no network in common") {
		t.Errorf("got %v", err)
	}
}

func FuzzExpect(f *testing.F) {
	for _, s := range []string{"a -> b:1", "* !-> b", "host->b:1/udp", "a -> [::1]:80", "a -> 10.0.0.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := policy.Expect(s, []string{"a", "b"})
		if err == nil && (e.From == "" || e.To == "") {
			t.Errorf("%q: %+v", s, e)
		}
	})
}
