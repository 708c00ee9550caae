package policy_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/policy"
)

// kinds is a project with one service on each kind of network.
func kinds() *api.ProjectSpec {
	const mode = "com.docker.network.bridge.gateway_mode_ipv"
	yes := true
	spec := project(nil)
	spec.Networks = nil
	spec.Services = nil
	for _, n := range []struct {
		key, driver string
		internal    bool
		options     map[string]string
	}{
		{"routed", "", false, map[string]string{mode + "4": "routed"}},
		{"six", "", false, map[string]string{mode + "6": "routed"}},
		{"open", "bridge", false, map[string]string{mode + "4": "nat-unprotected"}},
		{"alone", "", true, map[string]string{mode + "4": "isolated"}},
		{"link", "macvlan", false, map[string]string{"parent": "eth0"}},
		{"private", "ipvlan", true, map[string]string{"ipvlan_flag": "private"}},
		{"trusting", "", false, map[string]string{"com.docker.network.bridge.trusted_host_interfaces": "eth0"}},
	} {
		p := api.ProjectNetwork{Key: n.key, Name: "p_" + n.key}
		p.Create.Driver, p.Create.Internal, p.Create.Options = n.driver, n.internal, n.options
		if n.key == "six" {
			p.Create.EnableIPv6 = &yes
		}
		spec.Networks = append(spec.Networks, p)
		spec.Services = append(spec.Services, service(n.key, map[string]string{"80/tcp": "80", "81/tcp": ""}, n.key), service(n.key+"2", nil, n.key))
	}
	for name, mode := range map[string]string{"machine": "host", "nowhere": "none", "default": "bridge"} {
		s := service(name, map[string]string{"80/tcp": ""})
		s.HostConfig.NetworkMode = container.NetworkMode(mode)
		spec.Services = append(spec.Services, s)
	}
	return spec
}

func TestOtherNetworks(t *testing.T) {
	for sentence, want := range map[string]bool{
		"lan -> routed:80": true, "internet -> routed:80": true, "lan -> routed:81": false, "host -> routed:81": true, "open -> routed:80": false, "routed2 -> routed:81": true,
		"lan -> six:80": true, "lan -> six:81": false, "open -> six:80": false, "open !-> six:80": false, // by the host's port of IPv4
		"lan -> open:80": true, "internet -> open:81": true, "routed -> open:81": false,
		"host -> alone:80": false, "alone2 -> alone:80": true, "alone -> host": false, "lan -> alone:80": false,
		"lan -> link:81": true, "internet -> link:81": true, "host -> link:80": false, "link -> host": false, "link2 -> link:81": true, "link -> internet": true, "open -> link:80": false,
		"lan -> private:80": false, "private2 -> private:80": false, "private -> internet": false,
		"lan -> trusting:80": true, "lan -> trusting:81": false,
		"machine -> routed:81": true, "lan -> machine:80": true, "routed -> machine:80": true, "alone -> machine:80": false, "link -> machine:80": false,
		"* -> nowhere": false, "nowhere -> internet": false, "default -> internet": true, "lan -> default:80": false, "host -> default:80": true,
	} {
		spec := kinds()
		spec.Expect = []string{sentence}
		if err := policy.CheckSpec(spec, &policy.Engine{}); (err == nil) != want {
			t.Errorf("%s: %v", sentence, err)
		}
	}
}

// Without an engine nobody knows whether a listed address is this host's: what depends
// on it is not judged, and with one it is.
func TestHostAddresses(t *testing.T) {
	for _, tt := range []struct {
		egress, sentence            string
		somewhere, there, elsewhere bool
	}{
		{"192.0.2.7", "cliente -> host", true, true, false},
		{"192.0.2.7", "cliente !-> host", true, false, true},
		{"192.0.2.0/24", "cliente -> host", true, true, false},
		{"example.org", "cliente -> host", false, false, false},
		{"none", "cliente !-> host", true, true, true},
		{"host.docker.internal", "cliente -> host", true, true, true},
	} {
		spec := project(map[string]api.Zone{"public": {Egress: []string{tt.egress}}})
		spec.Expect = []string{tt.sentence}
		for _, e := range []struct {
			engine *policy.Engine
			want   bool
		}{
			{nil, tt.somewhere},
			{&policy.Engine{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, tt.there},
			{&policy.Engine{Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}, tt.elsewhere},
		} {
			if err := policy.CheckSpec(spec, e.engine); (err == nil) != e.want {
				t.Errorf("egress %s, %s, engine %+v: %v", tt.egress, tt.sentence, e.engine, err)
			}
		}
	}
}

// What another firewall drops is not reached, by whichever way it drops, and is told.
func TestBesideAnotherFirewall(t *testing.T) {
	w := &policy.World{
		Networks: []policy.Network{{Key: "f", Name: "front", Between: true}, {Key: "b", Name: "back", Between: true}},
		Members: []policy.Member{
			{Name: "web", Networks: []string{"f"}, Way: "f", Ports: []policy.Port{{Protocol: "tcp", Number: 80, Published: []policy.Publication{{Host: netip.MustParseAddrPort("0.0.0.0:80"), Network: "f"}}}}},
			{Name: "api", Networks: []string{"f"}, Way: "f"},
			{Name: "job", Networks: []string{"b"}, Way: "b"},
			{Name: "vpn", Host: true, Ports: []policy.Port{{Protocol: "udp", Number: 51820}}},
		},
	}
	drop := func(is func(policy.Way) bool) {
		w.Beside = func(way policy.Way) string {
			if is(way) {
				return "policy of ip filter FORWARD (ufw)"
			}
			return ""
		}
	}
	for _, tt := range []struct {
		name      string
		is        func(policy.Way) bool
		hold, not []string
	}{
		{"into networks", func(way policy.Way) bool { return way.Out == "f" && way.In != "f" && way.From != policy.Host },
			[]string{"lan !-> web:80", "job !-> web", "host -> web:80", "api -> web:80", "web -> internet"}, []string{"internet -> web:80"}},
		{"out of them", func(way policy.Way) bool { return way.In == "b" && way.Out == "" },
			[]string{"job !-> internet", "job !-> host", "job !-> vpn", "web -> internet", "lan -> vpn:51820/udp"}, []string{"job -> internet"}},
		{"within one", func(way policy.Way) bool { return way.In == way.Out },
			[]string{"api !-> web:80"}, []string{"api -> web:80"}},
		{"into the host", func(way policy.Way) bool { return way.To == "vpn" }, []string{"lan !-> vpn", "host -> vpn:51820/udp"}, []string{"lan -> vpn:51820/udp"}},
	} {
		drop(tt.is)
		for _, want := range []bool{true, false} {
			list := tt.hold
			if !want {
				list = tt.not
			}
			for _, sentence := range list {
				e, err := policy.Expect(sentence, []string{"web", "api", "job", "vpn"})
				if err != nil {
					t.Fatal(err)
				}
				bad := w.Violations([]policy.Expectation{e})
				if (len(bad) == 0) != want || !want && !strings.Contains(bad[0].String(), "another firewall on this host drops it: policy of ip filter FORWARD (ufw)") {
					t.Errorf("%s: %s: %v", tt.name, sentence, bad)
				}
			}
		}
	}
}
