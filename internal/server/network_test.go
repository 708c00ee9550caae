package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"muelle/internal/server"
)

type toldNetworks struct{ server.Networks }

func (toldNetworks) Inspect(_ context.Context, ref string, status bool) (network.Inspect, error) {
	n := network.Inspect{Network: network.Network{Name: ref, Scope: "local"}}
	if status {
		n.Status = &network.Status{}
	}
	return n, nil
}

// TestInspectNetwork: the counts of addresses are for clients that know them, and a
// network of another scope is not there.
func TestInspectNetwork(t *testing.T) {
	h := serve(t, server.Options{Networks: toldNetworks{}})
	for _, tc := range []struct {
		path     string
		code     int
		contains string
		status   bool
	}{
		{"/v1.51/networks/n?verbose=true", http.StatusOK, `"Name":"n"`, false},
		{"/v1.52/networks/n", http.StatusOK, `"Name":"n"`, true},
		{"/networks/n?scope=local", http.StatusOK, `"Name":"n"`, true},
		{"/networks/n?scope=swarm", http.StatusNotFound, "network n not found", false},
		{"/networks/n?verbose=maybe", http.StatusBadRequest, "invalid value for verbose: maybe", false},
	} {
		res, body := h.do("GET", tc.path, "", "")
		if res.StatusCode != tc.code || !strings.Contains(body, tc.contains) || strings.Contains(body, `"Status"`) != tc.status {
			t.Errorf("%s: %d %s", tc.path, res.StatusCode, body)
		}
	}
}
