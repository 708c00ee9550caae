package client

import (
	"context"
	"net/http"

	"muelle/api"
)

// Why explains what happened to a container, or to a service given as PROJECT/SERVICE.
func (s System) Why(ctx context.Context, name string) (api.WhyReport, error) {
	var out api.WhyReport
	err := s.c.call(ctx, http.MethodGet, api.Prefix+"/why/"+name, nil, nil, &out)
	return out, err
}

// Explain follows a connection hop by hop.
func (s System) Explain(ctx context.Context, r api.ExplainRequest) (api.Explanation, error) {
	var out api.Explanation
	err := s.c.Post(ctx, api.Prefix+"/explain", nil, r, &out)
	return out, err
}
