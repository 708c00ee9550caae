package cli_test

import (
	"context"
	_ "embed"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/cli"
)

// dockerFlags has a line for each command of Docker's client that Muelle has, but for
// those of builds, and its flags.
//
//go:embed testdata/docker-flags.txt
var dockerFlags string

// hiddenFlags are for Windows or of a swarm: they are refused by name, not shown.
var hiddenFlags = map[string]bool{"--cpu-count": true, "--cpu-percent": true, "--io-maxbandwidth": true, "--io-maxiops": true}

func TestEveryFlagOfDocker(t *testing.T) {
	e := newEngine(t, nil)
	for line := range strings.Lines(dockerFlags) {
		command, flags, _ := strings.Cut(strings.TrimSpace(line), ":")
		words := strings.Fields(command)
		r := e.run("docker", "", append(words, "--help")...)
		use := "docker " + command
		if command == "" {
			use = "docker"
		}
		if r.Code != 0 || !strings.HasPrefix(r.Out, "Usage:  ") || !strings.Contains(strings.SplitN(r.Out, "\n", 2)[0], strings.TrimSpace(use)) {
			t.Errorf("docker %s: code %d, help begins %.60q", command, r.Code, r.Out)
			continue
		}
		for f := range strings.FieldsSeq(flags) {
			if !hiddenFlags[f] && !regexp.MustCompile(`(?m)(^|[\s,])`+regexp.QuoteMeta(f)+`([\s,]|$)`).MatchString(r.Out) {
				t.Errorf("docker %s has no %s", command, f)
			}
			if hiddenFlags[f] {
				if r := e.run("docker", "", append(words, f+"=1", "image")...); !strings.Contains(r.Err, "only supported on a Docker daemon running on windows") {
					t.Errorf("docker %s %s: %s", command, f, r.Err)
				}
			}
		}
	}
}

// TestAbsentCommands: what Docker's client has and Muelle has not says why.
func TestAbsentCommands(t *testing.T) {
	e := newEngine(t, nil)
	for _, line := range []string{"swarm init", "node ls", "service create x", "stack deploy -c f s", "secret ls", "config ls", "checkpoint create a b", "plugin ls", "manifest inspect x"} {
		for _, name := range []string{"docker", "muelle"} {
			word, _, _ := strings.Cut(line, " ")
			if r := e.run(name, "", strings.Fields(line)...); r.Code != 1 || !strings.HasPrefix(r.Err, name+": "+word+" is not supported: ") {
				t.Errorf("%s %s: %+v", name, line, r)
			}
		}
	}
}

// TestPlugin: an unknown word is a plugin of Docker's client under the name docker
// only, and learns where the daemon is. The plugin takes the process's place, so it
// runs in one of its own.
func TestPlugin(t *testing.T) {
	if dir := os.Getenv("TEST_PLUGIN"); dir != "" {
		runProgram(os.Getenv("TEST_NAME"), strings.Fields(os.Getenv("TEST_ARGS")))
		return
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "cli-plugins"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$DOCKER_HOST $*\"\n"
	if err := os.WriteFile(filepath.Join(dir, "cli-plugins", "docker-hello"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, args, want string }{
		{"docker", "hello a -b", "unix:///run/muelle/muelle.sock hello a -b\n"},
		{"docker", "-H unix:///x hello", " -H unix:///x hello\n"},
		{"docker", "goodbye", "docker: unknown command: docker goodbye"},
		{"muelle", "hello", "muelle: unknown command: muelle hello"},
	} {
		out := again(t, "TestPlugin", "TEST_PLUGIN=1", "TEST_NAME="+tc.name, "TEST_ARGS="+tc.args, "DOCKER_CONFIG="+dir, "HOME="+dir)
		if !strings.HasPrefix(out, tc.want) {
			t.Errorf("%s %s: %q, want %q", tc.name, tc.args, out, tc.want)
		}
	}
}

func TestPruneFiltersOfTheConfiguration(t *testing.T) {
	e := newEngine(t, map[string]string{"POST /containers/prune": `{}`})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"pruneFilters":["label!=keep","label=a","until=1h"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := e.run("docker", "", "--config", dir, "container", "prune", "-f", "--filter", "label!=a")
	if r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	want := `POST /v1.56/containers/prune?filters={"label!":{"a":true,"keep":true},"until":{"1h":true}}`
	if diff := cmp.Diff([]string{want}, e.queries()); diff != "" {
		t.Error(diff)
	}
}

// queries are the requests that came, unescaped.
func (e *engine) queries() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]string, len(e.seen))
	for i, s := range e.seen {
		var err error
		if out[i], err = url.QueryUnescape(s); err != nil {
			e.t.Fatal(err)
		}
	}
	return out
}

// again runs one test of this program in a process of its own and gives what it
// printed.
func again(t *testing.T, test string, env ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+test+"$")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

// runProgram is the program's main.
func runProgram(name string, args []string) {
	code := cli.Run(context.Background(), append([]string{name}, args...), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, cli.Build{})
	os.Exit(code)
}
