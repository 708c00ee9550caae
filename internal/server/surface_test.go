package server_test

import (
	_ "embed"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muelle/internal/server"
)

// endpoints has a line for each operation of Docker's Engine API, those that only its
// sources tell of included: method, path, and what becomes of it. "works" is served,
// "absent" answers 501 and names itself, "swarm" answers as a node that is no manager.
//
//go:embed testdata/endpoints.txt
var endpoints string

// TestEveryEndpointOfDocker: each is known to the router, with the oldest version's
// prefix, the newest's and without one. No service stands behind: a handler that is
// reached asks nobody and is answered for with status 500, or refuses the request before.
func TestEveryEndpointOfDocker(t *testing.T) {
	s := server.New(server.Options{})
	count := 0
	for line := range strings.Lines(endpoints) {
		f := strings.Fields(line)
		method, path, kind := f[0], f[1], f[2]
		for _, name := range []string{"id", "name", "checkpoint"} {
			path = strings.ReplaceAll(path, "{"+name+"}", "some/"+name)
		}
		if !strings.HasPrefix(path, "/images/") && !strings.HasPrefix(path, "/distribution/") && !strings.HasPrefix(path, "/plugins/") {
			path = strings.ReplaceAll(path, "some/", "some-")
		}
		for _, prefix := range []string{"", "/v1.24", "/v1.56"} {
			count++
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(method, prefix+path, nil))
			body := w.Body.String()
			ok := false
			switch kind {
			case "works":
				ok = w.Code != http.StatusNotImplemented && w.Code != http.StatusServiceUnavailable && !strings.Contains(body, "page not found") &&
					(w.Code != http.StatusNotFound || method != http.MethodHead)
			case "absent":
				ok = w.Code == http.StatusNotImplemented && strings.Contains(body, "not supported")
			case "swarm":
				ok = w.Code == http.StatusServiceUnavailable && strings.Contains(body, "This node is not a swarm manager")
			}
			if !ok {
				t.Errorf("%s %s (%s): %d %s", method, prefix+path, kind, w.Code, body)
			}
		}
	}
	if count < 300 {
		t.Errorf("only %d requests", count)
	}
}
