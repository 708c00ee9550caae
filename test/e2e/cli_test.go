//go:build root

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// client is a command line against one daemon: Docker's or ours.
type client struct {
	name   string
	path   string
	daemon *daemon
}

// clients gives both, so that every test holds for the one and the other.
func clients(t *testing.T, d *daemon) []client {
	t.Helper()
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal("the docker client must be on the PATH: make deps installs it")
	}
	return []client{{"docker", docker, d}, ours(d)}
}

func ours(d *daemon) client { return client{"muelle", filepath.Join(world.bin, "muelle"), d} }

// forEach runs a test once per client as a subtest.
func forEach(t *testing.T, f func(t *testing.T, c client)) {
	t.Helper()
	for _, c := range clients(t, world.daemon) {
		// On an emulated processor Docker's client takes a second for each command: there
		// it shows in one test that it works, and the engine is tested by ours.
		if c.name == "docker" && emulated() && t.Name() != "TestRestartPolicy" {
			continue
		}
		t.Run(c.name, func(t *testing.T) { f(t, c) })
	}
}

type result struct {
	out, err string
	code     int
}

func (c client) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.path, args...)
	home := filepath.Join(world.dir, "home")
	cmd.Env = []string{
		"PATH=" + world.bin + ":" + os.Getenv("PATH"), "HOME=" + home, "DOCKER_CONFIG=" + filepath.Join(home, ".docker"),
		"DOCKER_HOST=" + c.daemon.host(), "MUELLE_HOST=" + c.daemon.host(), "DOCKER_BUILDKIT=0", "TERM=dumb",
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// try runs a command and gives what came of it.
func (c client) try(t *testing.T, args ...string) result {
	t.Helper()
	return c.pipe(t, nil, args...)
}

// pipe is try with standard input.
func (c client) pipe(t *testing.T, in []byte, args ...string) result {
	t.Helper()
	// Not the test's own context: that has ended when cleanups run.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	cmd := c.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %s: no answer in time\nstdout: %s\nstderr: %s", c.name, strings.Join(args, " "), out.String(), errs.String())
	}
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatalf("%s %s: %v", c.name, strings.Join(args, " "), err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs a command that has to succeed and gives its standard output, trimmed.
func (c client) must(t *testing.T, args ...string) string {
	t.Helper()
	r := c.try(t, args...)
	if r.code != 0 {
		t.Fatalf("%s %s: exit status %d\nstdout: %s\nstderr: %s", c.name, strings.Join(args, " "), r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// remove deletes a container when the test ends, whatever its state.
func (c client) remove(t *testing.T, names ...string) {
	t.Helper()
	t.Cleanup(func() {
		cmd := c.command(context.Background(), append([]string{"rm", "-f", "-v"}, names...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("rm -f %v: %v %s", names, err, out)
		}
	})
}

// name makes a name that no other test has.
func (c client) unique(t *testing.T, what string) string {
	t.Helper()
	return strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())) + "-" + what
}
