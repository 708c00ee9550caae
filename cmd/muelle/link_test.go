package main_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestLinks names what muelle may link beyond the standard library: it has to start
// in a few milliseconds, and each of these was measured. Whatever brings compose-go,
// BuildKit, netlink, containerd's libraries or a regular expression compiled at
// start belongs to another program.
func TestLinks(t *testing.T) {
	allowed := []string{
		"muelle/api", "muelle/client", "muelle/internal/cli", "muelle/internal/console", "muelle/cmd/muelle",
		"muelle/internal/policy", "muelle/internal/spelling", "muelle/internal/linux/capture/pcap",
		"github.com/containerd/errdefs",
		"github.com/docker/go-units",
		"github.com/moby/docker-image-spec/specs-go",
		"github.com/moby/moby/api",
		"github.com/moby/moby/client/pkg/jsonmessage",
		"github.com/moby/term",
		"github.com/opencontainers/go-digest",
		"github.com/opencontainers/image-spec/specs-go",
		"github.com/spf13/cobra", "github.com/spf13/pflag",
		"golang.org/x/sys/unix",
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, p := range strings.Fields(string(out)) {
		ok := false
		for _, a := range allowed {
			ok = ok || p == a || strings.HasPrefix(p, a+"/")
		}
		if !ok {
			t.Errorf("muelle links %s", p)
		}
	}
}
