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

// TestCompletionOfBash: what bash offers after the script that the program prints: names
// of containers, images, networks and volumes, and a Compose project's services.
func TestCompletionOfBash(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "tab")
	c.must(t, "run", "-d", "--name", name, "busybox", "sleep", "1000")
	c.remove(t, name)
	for _, kind := range []string{"network", "volume"} {
		c.must(t, kind, "create", name)
		t.Cleanup(func() { c.must(t, kind, "rm", "-f", name) })
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("name: tabs\nservices: {website: {image: a}, database: {image: b}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What bash-completion has for this, in four words.
	const script = `_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
__ltrim_colon_completions() { :; }
source <(muelle completion bash)
for line in "$@"; do
	IFS=' ' read -ra COMP_WORDS <<<"$line."
	COMP_WORDS[-1]=${COMP_WORDS[-1]%.} COMP_CWORD=$((${#COMP_WORDS[@]}-1)) COMP_TYPE=9 COMPREPLY=()
	__start_muelle
	echo "${COMPREPLY[*]}"
done`
	lines := map[string]string{
		"muelle stop " + name[:len(name)-1]: name, "muelle network inspect " + name[:len(name)-1]: name, "muelle volume inspect " + name[:len(name)-1]: name,
		"muelle run --rm busy": "busybox:latest", "muelle compose logs ": "database website", "muelle compose exec w": "website",
		"muelle compo": "compose", "muelle run --pull ": "always missing never",
	}
	var typed, want []string
	for line, w := range lines {
		typed, want = append(typed, line), append(want, w)
	}
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"--norc", "-c", script, "bash"}, typed...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "MUELLE_HOST="+world.daemon.host(), "PATH="+world.bin+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	for i := range want {
		if i >= len(got) || strings.Join(strings.Fields(got[i]), " ") != want[i] {
			t.Errorf("%q: %q, want %q", typed[i], got, want[i])
		}
	}
}
