package policy_test

import (
	"net/netip"
	"testing"

	"muelle/api"
	"muelle/internal/policy"
)

// A port of the host is asked for by the address that it is published on: that one must
// be listed, the gateway's does not open it.
func TestPublishedToALimitedZone(t *testing.T) {
	for _, tt := range []struct {
		egress, at string
		want       bool
	}{
		{"192.0.2.0/24", "192.0.2.2:8080", true},
		{"192.0.2.0/24", "0.0.0.0:8080", true}, // by this host's address on the LAN
		{"192.0.2.2", "0.0.0.0:8080", true},
		{"192.0.2.3", "0.0.0.0:8080", false}, // somebody else's
		{"192.0.2.0/24", "[::]:8080", false},
		{"192.0.2.0/24", "172.18.0.1:8080", false},
		{"2001:db8:18::/64", "[::]:8080", true},
		{"2001:db8:18::/64", "0.0.0.0:8080", false},
		{"host.docker.internal", "172.18.0.1:8080", true},
		{"172.18.0.1", "192.0.2.2:8080", false},
		{"host.docker.internal", "192.0.2.2:8080", false},
		{"host.docker.internal", "0.0.0.0:8080", true},
		{"172.18.0.1", "0.0.0.0:8080", true},
		{"example.org", "0.0.0.0:8080", false},
	} {
		w := &policy.World{
			Networks: []policy.Network{
				{Key: "some", Name: "some", Between: true, Zone: api.Zone{Egress: []string{tt.egress}}, Gateways: []netip.Addr{netip.MustParseAddr("172.18.0.1")}},
				{Key: "front", Name: "front", Between: true},
			},
			Members:   []policy.Member{{Name: "client", Networks: []string{"some"}, Way: "some"}},
			Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8:18::2")},
		}
		b := policy.Publication{Host: netip.MustParseAddrPort(tt.at), Network: "front"}
		if v := w.Published("client", "some", b); v.Allowed != tt.want {
			t.Errorf("egress %s, %s: %+v", tt.egress, tt.at, v)
		}
	}
}
