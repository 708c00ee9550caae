package api_test

import (
	"net/netip"
	"testing"

	"muelle/api"
)

func TestWordsOfExposure(t *testing.T) {
	r := &api.ExposureReport{Ports: []api.ExposedPort{
		{ContainerID: "a", Protocol: "tcp", Address: "0.0.0.0", Port: 80, Reach: api.ReachEveryone},
		{ContainerID: "a", Protocol: "tcp", Address: "::", Port: 80, Reach: api.ReachLAN},
		{ContainerID: "b", Protocol: "tcp", Address: "0.0.0.0", Port: 81, Reach: api.ReachLAN, RouterDecides: true},
		{ContainerID: "b", Protocol: "udp", Address: "127.0.0.1", Port: 53, Reach: api.ReachHost},
		{ContainerID: "c", Protocol: "tcp", Address: "0.0.0.0", Port: 82, Reach: api.ReachEveryone, Partly: true},
		{ContainerID: "d", Protocol: "tcp", Address: "0.0.0.0", Port: 83, Reach: api.ReachNobody},
		{Protocol: "tcp", Address: "0.0.0.0", Port: 2375, Reach: api.ReachLAN},
		{ContainerID: "f", Protocol: "udp", Address: "0.0.0.0", Port: 84, Reach: api.ReachLAN},
		{ContainerID: "f", Protocol: "udp", Address: "::", Port: 84, Reach: api.ReachHost, Because: []string{"rule 1 of ip6 filter FORWARD"}},
		{ContainerID: "g", Protocol: "tcp", Address: "0.0.0.0", Port: 85, Reach: api.ReachLAN},
		{ContainerID: "g", Protocol: "tcp", Address: "::", Port: 85, Reach: api.ReachEveryone},
		{ContainerID: "g", Protocol: "tcp", Address: "::1", Port: 86, Reach: api.ReachHost},
		{ContainerID: "h", Protocol: "tcp", Address: "0.0.0.0", Port: 87, Reach: api.ReachLAN, Partly: true, Sources: &api.Sources{Pass: ranges("192.0.2.0/25"), Drop: ranges("192.0.2.128/25")}},
		{ContainerID: "h", Protocol: "tcp", Address: "::", Port: 87, Reach: api.ReachLAN},
	}}
	for id, want := range map[string]string{
		"a": "everyone", "b": "81 LAN, 53/udp this host", "c": "some of everyone", "d": "nobody", "f": "LAN (IPv6: this host)", "g": "85 everyone (IPv4: LAN), 86 this host", "h": "LAN (IPv4: LAN (some: 192.0.2.0/25))", "e": "", "": "",
	} {
		if got := r.Of(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	if got := r.Ports[2].Words(); got != "LAN, and whoever the router lets in" {
		t.Errorf("got %q", got)
	}
}

func ranges(list ...string) (out []api.SourceRange) {
	for _, text := range list {
		out = append(out, api.SourceRange{Prefix: netip.MustParsePrefix(text), Interface: "eth0"})
	}
	return out
}

func TestWordsOfSources(t *testing.T) {
	low, high, one := ranges("192.0.2.0/25"), ranges("192.0.2.128/25"), ranges("192.0.2.7/32")
	elsewhere := []api.SourceRange{{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Interface: "eth1"}}
	for _, tt := range []struct {
		s    api.Sources
		want string
	}{
		{api.Sources{Pass: low}, ""},
		{api.Sources{Drop: low}, ""},
		{api.Sources{Pass: low, Drop: high}, "some: 192.0.2.0/25"},
		{api.Sources{Pass: one, Drop: append(low, high...)}, "some: 192.0.2.7"},
		{api.Sources{Pass: append(low, high...), Drop: one}, "all but 192.0.2.7"},
		{api.Sources{Pass: append(low, elsewhere...), Drop: append(high, append(one, one...)...)}, "some: 192.0.2.0/25 by eth0 and 198.51.100.0/24 by eth1"},
		{api.Sources{Pass: ranges("fe80::/64"), Drop: ranges("2001:db8::/64")}, "some: fe80::/64 by eth0"},
		{api.Sources{Pass: append(low, append(high, one...)...), Drop: append(one, append(one, append(one, one...)...)...)}, "some: 192.0.2.0/25, 192.0.2.128/25 and 1 more"},
		{api.Sources{Open: low, DependsOn: []string{"the time", "chance"}}, "depends on the time, chance"},
		{api.Sources{Open: one, Drop: low, DependsOn: []string{"the time"}}, "some: 192.0.2.7 depends on the time"},
		{api.Sources{Open: one, Pass: low, DependsOn: []string{"the time"}}, "all, but 192.0.2.7 depends on the time"},
		{api.Sources{Open: one, Pass: low, Drop: high, DependsOn: []string{"the time"}}, "some: 192.0.2.0/25; 192.0.2.7 depends on the time"},
	} {
		if got := tt.s.Words(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
