package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"muelle/api"
)

// Projects are the calls about Compose projects, below /muelle/v1/projects.
type Projects struct{ c *Client }

// Up brings a project to what its document says; progress is called for each line
// of the answer but the last.
func (s Projects) Up(ctx context.Context, name string, r api.ProjectUpRequest, progress func(api.ProjectProgress)) error {
	return s.act(ctx, name, "up", r, progress)
}

// Down removes a project's containers and networks.
func (s Projects) Down(ctx context.Context, name string, o api.ProjectDownOptions, progress func(api.ProjectProgress)) error {
	return s.act(ctx, name, "down", o, progress)
}

// Start starts a project's containers in order.
func (s Projects) Start(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error {
	return s.act(ctx, name, "start", o, progress)
}

// Stop stops them in the opposite order.
func (s Projects) Stop(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error {
	return s.act(ctx, name, "stop", o, progress)
}

// Restart restarts them.
func (s Projects) Restart(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error {
	return s.act(ctx, name, "restart", o, progress)
}

// Get reads a project's document.
func (s Projects) Get(ctx context.Context, name string) (*api.ProjectSpec, error) {
	out := new(api.ProjectSpec)
	if err := s.c.Get(ctx, api.Prefix+"/projects/"+name, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

// List reads what the daemon answers to GET projects into out.
func (s Projects) List(ctx context.Context, out any) error {
	return s.c.Get(ctx, api.Prefix+"/projects", nil, out)
}

func (s Projects) act(ctx context.Context, name, verb string, in any, progress func(api.ProjectProgress)) error {
	res, err := s.c.do(ctx, request{method: http.MethodPost, path: api.Prefix + "/projects/" + name + "/" + verb, in: in})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	for d := json.NewDecoder(res.Body); ; {
		var p api.ProjectProgress
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return fmt.Errorf("the daemon ended project %s %s without a result", name, verb)
		} else if err != nil {
			return fmt.Errorf("read progress of project %s: %w", name, err)
		}
		if !p.Done {
			if progress != nil {
				progress(p)
			}
			continue
		}
		if p.Error == "" {
			return nil
		}
		if p.Code == 0 {
			p.Code = http.StatusInternalServerError
		}
		return &Error{Status: p.Code, Message: p.Error}
	}
}
