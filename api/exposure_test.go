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
	}}
	for id, want := range map[string]string{
		"a": "everyone", "b": "81 LAN, 53/udp this host", "c": "some of everyone", "d": "nobody", "e": "", "": "",
	} {
		if got := r.Of(id); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	if got := r.Ports[2].Words(); got != "LAN, and whoever the router lets in" {
		t.Errorf("got %q", got)
	}
}
