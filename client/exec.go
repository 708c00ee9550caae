package client

import (
	"context"

	"github.com/moby/moby/api/types/container"

	"muelle/api"
)

// Execs are the calls about processes run in a container beside its own.
type Execs struct{ c *Client }

// Create prepares a process and returns its id.
func (s Execs) Create(ctx context.Context, ref string, r container.ExecCreateRequest) (string, error) {
	var out container.ExecCreateResponse
	err := s.c.Post(ctx, "/containers/"+ref+"/exec", nil, r, &out)
	return out.ID, err
}

// Debug prepares a session with tools in a container, which goes on as an exec does.
func (s Execs) Debug(ctx context.Context, ref string, r api.DebugRequest) (string, error) {
	var out container.ExecCreateResponse
	err := s.c.Post(ctx, "/muelle/v1/containers/"+ref+"/debug", nil, r, &out)
	return out.ID, err
}

// Start starts a process without its streams.
func (s Execs) Start(ctx context.Context, id string, r container.ExecStartRequest) error {
	return s.c.Post(ctx, "/exec/"+id+"/start", nil, r, nil)
}

// Attach starts a process and takes over its streams.
func (s Execs) Attach(ctx context.Context, id string, r container.ExecStartRequest) (*Conn, error) {
	return s.c.Hijack(ctx, "/exec/"+id+"/start", nil, "tcp", nil, r)
}

// Inspect says whether a process runs and how it ended.
func (s Execs) Inspect(ctx context.Context, id string) (container.ExecInspectResponse, error) {
	var out container.ExecInspectResponse
	err := s.c.Get(ctx, "/exec/"+id+"/json", nil, &out)
	return out, err
}

// Resize sets the terminal's size.
func (s Execs) Resize(ctx context.Context, id string, width, height uint) error {
	return s.c.Post(ctx, "/exec/"+id+"/resize", size(width, height), nil, nil)
}
