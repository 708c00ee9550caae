package policy_test

import (
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/policy"
)

// A service that is called as what is outside is judged as a service, and a sentence
// that could mean either is refused.
func TestServicesCalledAsTheOutside(t *testing.T) {
	service := func(name, net string) api.ProjectService {
		return api.ProjectService{Name: name, Config: &container.Config{}, HostConfig: &container.HostConfig{}, Endpoints: map[string]*network.EndpointSettings{net: {}}}
	}
	for _, tt := range []struct {
		expect, disabled, err string
	}{
		// As this machine it would reach db, and as the LAN be open to nobody.
		{"* !-> db", "", ""},
		{"web -> db", "", "must be reached and is not"},
		{"host -> db", "", "host is a word of these sentences and a service"},
		{"db !-> lan", "", "lan is a word of these sentences and a service"},
		{"internet !-> db", "", ""},
		{"internet !-> db", "internet", "internet is a word of these sentences and a service"},
	} {
		spec := &api.ProjectSpec{
			Networks: []api.ProjectNetwork{{Key: "front"}, {Key: "back"}},
			Services: []api.ProjectService{service("host", "front"), service("lan", "front"), service("web", "front"), service("db", "back")},
			Expect:   []string{tt.expect},
		}
		if tt.disabled != "" {
			spec.Disabled = []string{tt.disabled}
		}
		err := policy.CheckSpec(spec, nil)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.expect, err, tt.err)
		}
	}
}
