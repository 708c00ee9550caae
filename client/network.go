package client

import (
	"context"
	"net/url"

	"github.com/moby/moby/api/types/network"
)

// Networks are the calls below /networks.
type Networks struct{ c *Client }

// Create makes a network.
func (s Networks) Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	var out network.CreateResponse
	// Servers before 1.44 allow two networks of a name unless told not to.
	in := struct {
		network.CreateRequest
		CheckDuplicate bool
	}{r, true}
	err := s.c.Post(ctx, "/networks/create", nil, in, &out)
	return out, err
}

// List lists networks.
func (s Networks) List(ctx context.Context, f Filters) ([]network.Summary, error) {
	q := url.Values{}
	f.set(q)
	var out []network.Summary
	err := s.c.Get(ctx, "/networks", q, &out)
	return out, err
}

// Inspect returns everything known of a network.
func (s Networks) Inspect(ctx context.Context, ref string) (network.Inspect, error) {
	var out network.Inspect
	err := s.c.Get(ctx, "/networks/"+ref, nil, &out)
	return out, err
}

// InspectRaw returns the daemon's own JSON.
func (s Networks) InspectRaw(ctx context.Context, ref string, verbose bool) ([]byte, error) {
	var out []byte
	err := s.c.Get(ctx, "/networks/"+ref, values("verbose", map[bool]string{true: "true"}[verbose]), &out)
	return out, err
}

// Remove removes a network.
func (s Networks) Remove(ctx context.Context, ref string) error {
	return s.c.Delete(ctx, "/networks/"+ref, nil, nil)
}

// Prune removes unused networks.
func (s Networks) Prune(ctx context.Context, f Filters) (network.PruneReport, error) {
	q := url.Values{}
	f.set(q)
	var out network.PruneReport
	err := s.c.Post(ctx, "/networks/prune", q, nil, &out)
	return out, err
}

// Connect gives a container an endpoint in a network.
func (s Networks) Connect(ctx context.Context, ref, container string, e *network.EndpointSettings) error {
	return s.c.Post(ctx, "/networks/"+ref+"/connect", nil, network.ConnectRequest{Container: container, EndpointConfig: e}, nil)
}

// Disconnect takes it away.
func (s Networks) Disconnect(ctx context.Context, ref, container string, force bool) error {
	return s.c.Post(ctx, "/networks/"+ref+"/disconnect", nil, network.DisconnectRequest{Container: container, Force: force}, nil)
}
