package api_test

import (
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
	}}
	for id, want := range map[string]string{
		"a": "everyone", "b": "81 LAN, 53/udp this host", "c": "some of everyone", "d": "nobody", "f": "LAN (IPv6: this host)", "g": "85 everyone (IPv4: LAN), 86 this host", "e": "", "": "",
	} {
		if got := r.Of(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	if got := r.Ports[2].Words(); got != "LAN, and whoever the router lets in" {
		t.Errorf("got %q", got)
	}
}
