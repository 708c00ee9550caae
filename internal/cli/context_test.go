package cli_test

import (
	"strings"
	"testing"
)

// TestContextHosts: a context that no client could use is not made.
func TestContextHosts(t *testing.T) {
	t.Setenv("DOCKER_CLIENT", "")
	e := newEngine(t, nil)
	for _, host := range []string{"x", "ftp://x", "tcp://", "unix://", "ssh://", "ssh://u:password@h"} {
		if got := e.run("muelle", "", "context", "create", "far", "--docker", "host="+host); got.Code != 1 || got.Out != "" || !strings.HasPrefix(got.Err, "unable to create docker endpoint config: ") {
			t.Errorf("%q: %+v", host, got)
		}
	}
	for _, host := range []string{"ssh://u@h:22", "tcp://127.0.0.1:2376", "unix:///x"} {
		if got := e.run("muelle", "", "context", "create", "far", "--docker", "host="+host); got.Code != 0 || got.Out != "far\n" {
			t.Errorf("%q: %+v", host, got)
		}
	}
}
