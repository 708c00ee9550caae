//go:build root

package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The lifecycle from a Python program with Debian's python3-docker, at the version that
// it agrees on with the daemon, at the oldest, and at Debian's.
func TestDockerPy(t *testing.T) {
	for _, version := range []string{"auto", "1.24", "1.41"} {
		t.Run(version, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/docker_py.py", version, "py"+strings.ReplaceAll(version, ".", ""))
			cmd.Env = append(os.Environ(), "DOCKER_HOST="+world.daemon.host(), "PYTHONPATH=")
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "ok" {
				t.Errorf("%v (Debian's python3-docker must be installed)\n%s", err, out)
			}
		})
	}
}
