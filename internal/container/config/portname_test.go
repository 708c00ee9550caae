package config_test

import (
	"testing"

	ctypes "github.com/moby/moby/api/types/container"

	"github.com/google/go-cmp/cmp"

	"muelle/api"
	"muelle/internal/container/config"
)

func TestPortNames(t *testing.T) {
	for _, tc := range []struct {
		label string
		want  map[string][]uint16
		bad   bool
	}{
		{"", nil, false},
		{"web=8080/tcp", map[string][]uint16{"web/tcp": {8080}}, false},
		{"Web=8080, dns=53/udp,dns=53/tcp,web=81", map[string][]uint16{"web/tcp": {8080, 81}, "dns/udp": {53}, "dns/tcp": {53}}, false},
		{"web", nil, true}, {"=80/tcp", nil, true}, {"web=0/tcp", nil, true}, {"web=80/icmp", nil, true}, {"a.b=80/tcp", nil, true},
		{"web=80/tcp,", nil, true}, {"-web=80/tcp", nil, true}, {"web=65536/tcp", nil, true},
	} {
		labels := map[string]string{api.LabelPortNames: tc.label}
		got, err := config.PortNames(labels)
		if diff := cmp.Diff(tc.want, got); diff != "" || (err != nil) != tc.bad {
			t.Errorf("%q: %v %s", tc.label, err, diff)
		}
		if err := config.Validate(&ctypes.Config{Labels: labels}); (err != nil) != tc.bad {
			t.Errorf("a container with the label %q: %v", tc.label, err)
		}
	}
}
