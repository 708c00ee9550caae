//go:build root

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestComposeCopyExportCommit: the files of a project's containers, as of single ones.
func TestComposeCopyExportCommit(t *testing.T) {
	c := ours(world.daemon)
	dir, image := t.TempDir(), c.unique(t, "img")
	file := filepath.Join(dir, "compose.yaml")
	for name, text := range map[string]string{
		"compose.yaml": "name: files\nservices:\n  app:\n    image: busybox\n    command: sleep 1000\n    stop_grace_period: 0s\n    deploy: {replicas: 2}\n",
		"local":        "from here",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	compose := func(args ...string) []string { return append([]string{"compose", "-f", file}, args...) }
	c.must(t, compose("up", "-d")...)
	defer c.must(t, compose("down", "-t", "0")...)
	c.must(t, compose("cp", filepath.Join(dir, "local"), "app:/both")...)
	c.must(t, compose("cp", "--index", "2", filepath.Join(dir, "local"), "app:/second")...)
	for name, want := range map[string]string{"files-app-1": "/both", "files-app-2": "/both\n/second"} {
		if got := c.must(t, "exec", name, "sh", "-c", "ls -d /both /second 2>/dev/null || true"); got != want {
			t.Errorf("%s has %q", name, got)
		}
	}
	c.must(t, compose("stop", "-t", "0")...)
	c.must(t, compose("cp", "--index", "2", "app:/second", filepath.Join(dir, "back"))...)
	if got, err := os.ReadFile(filepath.Join(dir, "back")); string(got) != "from here" {
		t.Errorf("came back as %q, %v", got, err)
	}
	if r := c.try(t, compose("cp", "app:/both", "-")...); r.code != 0 || strings.Join(tarNames(t, r.out+strings.Repeat("\x00", 1024)), " ") != "both" {
		t.Errorf("to standard output: %d %s", r.code, r.err)
	}
	out := filepath.Join(dir, "fs.tar")
	c.must(t, compose("export", "--index", "2", "-o", out, "app")...)
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if names := " " + strings.Join(tarNames(t, string(data)), " ") + " "; !strings.Contains(names, " second ") {
		t.Error("the export has no file of the container")
	}
	c.must(t, compose("commit", "-m", "why", "-a", "me", "-c", "CMD cat /both", "app", image)...)
	defer c.must(t, "rmi", image)
	if got := c.must(t, "run", "--rm", image); got != "from here" {
		t.Errorf("the image runs as %q", got)
	}
	for _, tc := range []struct {
		args []string
		err  string
	}{
		{[]string{"cp", "app:/a", "app:/b"}, "copying between services is not supported"},
		{[]string{"cp", "a", "b"}, "unknown copy direction"},
		{[]string{"cp", "--index", "7", "app:/both", dir}, `service "app" has no container #7`},
		{[]string{"cp", "nope:/x", dir}, "no such service: nope"},
		{[]string{"cp", "-", "app:/tmp"}, "name one with --index"},
	} {
		if r := c.try(t, compose(tc.args...)...); r.code != 1 || !strings.Contains(r.err, tc.err) {
			t.Errorf("%v: %+v", tc.args, r)
		}
	}
}
