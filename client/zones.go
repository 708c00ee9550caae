package client

import (
	"context"
	"net/http"
	"net/url"

	"muelle/api"
)

// Zones says who reaches whom on a project's networks, or on all; with verify every way
// is tried.
func (s System) Zones(ctx context.Context, project string, verify bool) (api.ZoneReport, error) {
	q := url.Values{}
	if project != "" {
		q.Set("project", project)
	}
	if verify {
		q.Set("verify", "1")
	}
	var out api.ZoneReport
	err := s.c.call(ctx, http.MethodGet, api.Prefix+"/zones", q, nil, &out)
	return out, err
}
