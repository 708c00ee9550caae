package server_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	containertypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
	"muelle/internal/server"
)

// FuzzRequest throws paths, queries and bodies at the server: it answers each with
// a status of its own and never panics (a panic is answered with 500).
func FuzzRequest(f *testing.F) {
	for _, seed := range [][3]string{
		{"/v1.44/containers/create", "name=x&platform={}", `{"Image":"a","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"1-2"}]}}}`},
		{"/v1.44/containers/create", "", `{"HostConfig":{"Binds":null}}`},
		{"/containers/a/b/start", "", ""},
		{"/v1.44/containers/x/wait", "condition=%00", ""},
		{"/v9999999999999.1/_ping", "", ""},
		{"/build", "buildargs={\"a\":null}&ulimits=[{}]&memory=-1", ""},
		{"/images/create", "fromImage=a:b@c&tag=sha256:0", ""},
		{"/muelle/v1/run", "", `{"Config":{},"HostConfig":{}}`},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	s := server.New(server.Options{Containers: containers{
		start: func(context.Context, string) error { return nil },
		create: func(container.CreateOptions) (containertypes.CreateResponse, error) {
			return containertypes.CreateResponse{ID: "id"}, nil
		},
	}})
	f.Fuzz(func(t *testing.T, path, query, body string) {
		if !strings.HasPrefix(path, "/") || !servedByFake(path) {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.URL = &url.URL{Path: path, RawQuery: query}
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s?%s %q: %s", path, query, body, w.Body)
		}
	})
}

// servedByFake keeps to the endpoints that the fakes can answer.
func servedByFake(path string) bool {
	return strings.HasSuffix(path, "/containers/create") || strings.HasSuffix(path, "/start") && strings.Contains(path, "/containers/") ||
		strings.HasSuffix(path, "/_ping")
}
