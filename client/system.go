package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"

	"muelle/api"
)

// System are the calls about the daemon itself.
type System struct{ c *Client }

// Ping asks whether the daemon answers, and settles the API version. It returns
// the server's newest version.
func (s System) Ping(ctx context.Context) (string, error) {
	res, err := s.c.do(ctx, request{method: http.MethodGet, path: "/_ping"})
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return "", err
	}
	server := res.Header.Get("Api-Version")
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if server != "" && versionLess(server, s.c.version) {
		s.c.version = server
	}
	s.c.settled = true
	return server, nil
}

// Version describes the server's parts.
func (s System) Version(ctx context.Context) (system.VersionResponse, error) {
	var out system.VersionResponse
	err := s.c.Get(ctx, "/version", nil, &out)
	return out, err
}

// Info describes the engine and its host.
func (s System) Info(ctx context.Context) (system.Info, error) {
	var out system.Info
	err := s.c.Get(ctx, "/info", nil, &out)
	return out, err
}

// DiskUsageRaw returns the JSON of /system/df, whose form depends on the version.
func (s System) DiskUsageRaw(ctx context.Context, q url.Values) ([]byte, error) {
	var out []byte
	err := s.c.Get(ctx, "/system/df", q, &out)
	return out, err
}

// Account tells what everything of the engine occupies on disk. A Docker engine
// answers with status 404.
func (s System) Account(ctx context.Context) (api.DiskUsage, error) {
	var out api.DiskUsage
	err := s.c.Get(ctx, "/muelle/v1/system/df", nil, &out)
	return out, err
}

// Check looks for leaks and damage; with repair the daemon mends them.
func (s System) Check(ctx context.Context, repair bool) (api.CheckReport, error) {
	var out api.CheckReport
	err := s.c.Post(ctx, "/muelle/v1/system/check", values("repair", flag(repair)), nil, &out)
	return out, err
}

// Events streams events.Message values; since and until are Unix times.
func (s System) Events(ctx context.Context, since, until string, f Filters) (io.ReadCloser, error) {
	q := values("since", since, "until", until)
	f.set(q)
	return s.c.Stream(ctx, http.MethodGet, "/events", q, nil, nil)
}

// Login checks credentials with a registry.
func (s System) Login(ctx context.Context, a registry.AuthConfig) (registry.AuthResponse, error) {
	var out registry.AuthResponse
	err := s.c.Post(ctx, "/auth", nil, a, &out)
	return out, err
}

// BuildPrune removes build cache.
func (s System) BuildPrune(ctx context.Context, all bool, f Filters) (build.CachePruneReport, error) {
	q := values("all", flag(all))
	f.set(q)
	var out build.CachePruneReport
	err := s.c.Post(ctx, "/build/prune", q, nil, &out)
	return out, err
}
