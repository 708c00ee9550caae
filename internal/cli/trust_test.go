package cli_test

import (
	"strings"
	"testing"
)

// TestContentTrust: who asks for signatures, by the flag or as docker by the variable, is refused.
func TestContentTrust(t *testing.T) {
	t.Setenv("DOCKER_CONTENT_TRUST", "1")
	e := newEngine(t, map[string]string{"POST /images/create": `{"status":"Status: Image is up to date for busybox:latest"}`})
	for _, tt := range []struct {
		name    string
		args    []string
		refused bool
	}{
		{"docker", []string{"pull", "busybox"}, true},
		{"docker", []string{"push", "busybox"}, true},
		{"docker", []string{"run", "busybox"}, true},
		{"docker", []string{"create", "busybox"}, true},
		{"docker", []string{"pull", "--disable-content-trust", "busybox"}, false},
		{"muelle", []string{"pull", "busybox"}, false},
		{"muelle", []string{"pull", "--disable-content-trust=false", "busybox"}, true},
	} {
		r := e.run(tt.name, "", tt.args...)
		if got := r.Code != 0 && strings.Contains(r.Err, "content trust is not supported"); got != tt.refused || !tt.refused && r.Code != 0 {
			t.Errorf("%s %v: %+v", tt.name, tt.args, r)
		}
	}
}
