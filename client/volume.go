package client

import (
	"context"
	"net/url"

	"github.com/moby/moby/api/types/volume"
)

// Volumes are the calls below /volumes.
type Volumes struct{ c *Client }

// Create makes a volume or returns the one of that name.
func (s Volumes) Create(ctx context.Context, r volume.CreateRequest) (volume.Volume, error) {
	var out volume.Volume
	err := s.c.Post(ctx, "/volumes/create", nil, r, &out)
	return out, err
}

// List lists volumes.
func (s Volumes) List(ctx context.Context, f Filters) (volume.ListResponse, error) {
	q := url.Values{}
	f.set(q)
	var out volume.ListResponse
	err := s.c.Get(ctx, "/volumes", q, &out)
	return out, err
}

// Inspect returns a volume.
func (s Volumes) Inspect(ctx context.Context, name string) (volume.Volume, error) {
	var out volume.Volume
	err := s.c.Get(ctx, "/volumes/"+name, nil, &out)
	return out, err
}

// InspectRaw returns the daemon's own JSON.
func (s Volumes) InspectRaw(ctx context.Context, name string) ([]byte, error) {
	var out []byte
	err := s.c.Get(ctx, "/volumes/"+name, nil, &out)
	return out, err
}

// Remove removes a volume.
func (s Volumes) Remove(ctx context.Context, name string, force bool) error {
	return s.c.Delete(ctx, "/volumes/"+name, values("force", flag(force)), nil)
}

// Prune removes unused volumes, anonymous ones only unless the filter all=1 is given.
func (s Volumes) Prune(ctx context.Context, f Filters) (volume.PruneReport, error) {
	q := url.Values{}
	f.set(q)
	var out volume.PruneReport
	err := s.c.Post(ctx, "/volumes/prune", q, nil, &out)
	return out, err
}
