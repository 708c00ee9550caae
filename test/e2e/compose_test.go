//go:build root

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// zones copies the example and gives the function that runs a script or a command
// in its root.
func zones(t *testing.T, d *daemon) (run func(name string, args ...string) result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "zones")
	if out, err := exec.Command("cp", "-r", "../../examples/zones", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return func(name string, args ...string) result {
		t.Helper()
		if name == "muelle" {
			name = ours(d).path
		}
		cmd := client{name, name, d}.command(context.WithoutCancel(t.Context()), args...)
		cmd.Dir = dir
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if _, ok := err.(*exec.ExitError); err != nil && !ok {
			t.Fatal(err)
		}
		return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	}
}

const checkURL = "http://127.0.0.1:5000/healthcheck/mongo"

// TestZonesExample is the whole main job: built from Dockerfiles, brought up by one
// command, zoned, healthy; the database away and back.
func TestZonesExample(t *testing.T) {
	d := world.daemon
	run := zones(t, d)
	if r := run("./run-all.sh"); r.code != 0 {
		t.Fatalf("run-all.sh: %+v", r)
	}
	t.Cleanup(func() {
		if r := run("./stop-all.sh", "-v"); r.code != 0 {
			t.Errorf("stop-all.sh: %+v", r)
		}
	})
	healthy := `{"status":200,"message":"MongoDB connection is successful (default alias)","db_name":"mongo_db_default","collections_count":3}`
	if body, err := get(checkURL); err != nil || body != healthy {
		t.Fatalf("%q, %v", body, err)
	}
	compose := func(args ...string) result {
		return run("muelle", append([]string{"compose", "-f", "docker/compose.yaml"}, args...)...)
	}
	inside := func(ok bool, service string, args ...string) {
		t.Helper()
		if r := compose(append([]string{"exec", "-T", service}, args...)...); (r.code == 0) != ok {
			t.Errorf("%s: %v: %+v, want success: %v", service, args, r, ok)
		}
	}
	mongo := ours(d).must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "zones-mongo-1")
	inside(true, "cliente", "curl", "-fsS", "http://app:5000/healthcheck/mongo")
	inside(false, "cliente", "nslookup", "mongo")
	inside(false, "cliente", "nc", "-w", "2", mongo, "27017")
	inside(true, "app", "nc", "-w", "2", "mongo", "27017")
	inside(true, "-u0", "app", "ping", "-c", "1", "-W", "2", "cliente")

	explained := func(code int, source, target, want string) {
		t.Helper()
		if r := run("muelle", "explain", source, target); r.code != code || !strings.Contains(r.out, want) {
			t.Errorf("explain %s %s: %+v, want %q", source, target, r, want)
		}
	}
	explained(0, "cliente", "app:5000", "cliente reaches app:5000.")
	explained(0, "zones/app", "zones/mongo", "app reaches mongo:27017.")
	explained(1, "cliente", "mongo", "cliente cannot resolve mongo: they share no network.")
	explained(1, "outside", "mongo", "mongo does not publish port 27017")

	var ps []struct{ Service, State, Health string }
	out := compose("ps", "--format", "json").out
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var p struct{ Service, State, Health string }
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		ps = append(ps, p)
	}
	if len(ps) != 3 {
		t.Errorf("compose ps: %s", out)
	}
	for _, p := range ps {
		if p.State != "running" || p.Service == "app" && p.Health != "healthy" {
			t.Errorf("%+v", p)
		}
	}

	health := func(want string) {
		t.Helper()
		if err := eventually(20*time.Second, func() error {
			if got := ours(d).must(t, "inspect", "-f", "{{.State.Health.Status}}", "zones-app-1"); got != want {
				return fmt.Errorf("app is %s, want %s", got, want)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	if r := compose("stop", "mongo"); r.code != 0 {
		t.Fatalf("stop mongo: %+v", r)
	}
	if body, err := get(checkURL); err != nil || body != `{"status":503,"message":"MongoDB connection FAILED for alias 'default'"}` {
		t.Errorf("without the database: %q, %v", body, err)
	}
	health("unhealthy")
	if r := compose("start", "mongo"); r.code != 0 {
		t.Fatalf("start mongo: %+v", r)
	}
	if err := eventually(15*time.Second, func() error {
		body, err := get(checkURL)
		if err == nil && body != healthy {
			err = fmt.Errorf("%q", body)
		}
		return err
	}); err != nil {
		t.Errorf("with the database back: %v", err)
	}
	health("healthy")
	// A second up changes nothing.
	ids := ours(d).must(t, "ps", "-q", "--filter", "label=com.docker.compose.project=zones")
	if r := run("./run-all.sh"); r.code != 0 {
		t.Errorf("second run-all.sh: %+v", r)
	}
	if again := ours(d).must(t, "ps", "-q", "--filter", "label=com.docker.compose.project=zones"); again != ids {
		t.Errorf("the second up replaced containers: %q, before %q", again, ids)
	}
	if r := compose("logs", "cliente"); !strings.Contains(r.out, "cliente-1") || !strings.Contains(r.out, "successful") {
		t.Errorf("logs: %+v", r)
	}
	// From docker/, without the .env of the root, the unset variables are named.
	cmd := ours(d).command(t.Context(), "compose", "-f", "compose.yaml", "config", "-q")
	cmd.Dir = "../../examples/zones/docker"
	warned, _ := cmd.CombinedOutput()
	for _, want := range []string{"MONGO_PASSWORD", "MONGO_USER", ".env"} {
		if !strings.Contains(string(warned), want) {
			t.Errorf("%s is not named in %s", want, warned)
		}
	}
}

// project writes a compose file and gives a function that runs muelle compose on it.
func project(t *testing.T, text string) (compose func(args ...string) result) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	compose = func(args ...string) result {
		return ours(world.daemon).try(t, append([]string{"compose", "--project-directory", dir, "-f", filepath.Join(dir, "compose.yaml")}, args...)...)
	}
	t.Cleanup(func() {
		c := ours(world.daemon)
		if out, err := exec.Command(c.path, "-H", c.daemon.host(), "compose", "--project-directory", dir, "-f", filepath.Join(dir, "compose.yaml"), "down", "-v", "-t", "1").CombinedOutput(); err != nil {
			t.Errorf("down: %v: %s", err, out)
		}
	})
	return compose
}

// TestComposeMountedImage: an image that a service mounts is pulled as its own is.
func TestComposeMountedImage(t *testing.T) {
	c := ours(world.daemon)
	const image = registryAddr + "/library/alpine:3.20"
	c.try(t, "rmi", image)
	t.Cleanup(func() { c.try(t, "rmi", image) })
	compose := project(t, `
services:
  app:
    image: busybox
    command: ls /tree/bin/busybox
    volumes: [{type: image, source: "`+image+`", target: /tree}]
`)
	if r := compose("up", "--no-log-prefix"); r.code != 0 || !strings.Contains(r.out, "/tree/bin/busybox") {
		t.Errorf("%+v", r)
	}
}

func TestDependsOnConditions(t *testing.T) {
	compose := project(t, `
services:
  job:
    image: busybox
    command: sh -c 'sleep 0.3; echo migrated >/data/done'
    volumes: [data:/data]
  slow:
    image: busybox
    command: sh -c 'sleep 0.5; touch /tmp/ok; sleep 1000'
    healthcheck: {test: "test -e /tmp/ok", interval: 100ms, retries: 100}
    stop_grace_period: 0s
  app:
    image: busybox
    command: sh -c 'cat /data/done; sleep 1000'
    volumes: [data:/data]
    stop_grace_period: 0s
    depends_on:
      job: {condition: service_completed_successfully}
      slow: {condition: service_healthy}
volumes: {data: {}}
`)
	if r := compose("up", "-d"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if err := eventually(30*time.Second, func() error {
		if r := compose("logs", "--no-log-prefix", "app"); strings.TrimSpace(r.out) != "migrated" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if r := compose("ps", "-a", "--services"); strings.Join(strings.Fields(r.out), " ") != "app job slow" {
		t.Errorf("%+v", r)
	}
}

func TestFailedDependencyIsTold(t *testing.T) {
	compose := project(t, `
services:
  bad:
    image: busybox
    command: sh -c 'exit 3'
  app:
    image: busybox
    command: sleep 1000
    depends_on:
      bad: {condition: service_completed_successfully}
`)
	r := compose("up", "-d")
	if r.code == 0 || !strings.Contains(r.err, "bad") || !strings.Contains(r.err, "exit 3") && !strings.Contains(r.err, "(3)") && !strings.Contains(r.err, "code 3") {
		t.Errorf("%+v", r)
	}
}

func TestComposeForeground(t *testing.T) {
	compose := project(t, `
services:
  one: {image: busybox, command: "sh -c 'echo from one; sleep 0.2'"}
  two: {image: busybox, command: "sh -c 'echo from two; exit 4'"}
`)
	r := compose("up", "--no-color", "--abort-on-container-exit", "--exit-code-from", "two")
	if r.code != 4 || !strings.Contains(r.out, "one-1  | from one") && !strings.Contains(r.out, "one-1 | from one") {
		t.Errorf("%+v", r)
	}
}

func TestComposeRecreatesOnlyWhatChanged(t *testing.T) {
	text := `
services:
  a: {image: busybox, command: sleep 1000, environment: {V: "%s"}, stop_grace_period: 0s}
  b: {image: busybox, command: sleep 1000, stop_grace_period: 0s}
`
	dir := filepath.Join(t.TempDir(), "changes")
	os.Mkdir(dir, 0o755)
	c := ours(world.daemon)
	compose := func(v string, args ...string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), fmt.Appendf(nil, text, v), 0o644); err != nil {
			t.Fatal(err)
		}
		return c.must(t, append([]string{"compose", "-f", filepath.Join(dir, "compose.yaml")}, args...)...)
	}
	compose("1", "up", "-d")
	a, b := compose("1", "ps", "-q", "a"), compose("1", "ps", "-q", "b")
	compose("2", "up", "-d")
	if got := compose("2", "ps", "-q", "a"); got == a {
		t.Error("a changed and was not recreated")
	}
	if got := compose("2", "ps", "-q", "b"); got != b {
		t.Error("b did not change and was recreated")
	}
	if got := c.must(t, "inspect", "-f", "{{index .Config.Env 0}}", "changes-a-1"); got != "V=2" {
		t.Errorf("environment %q", got)
	}
	compose("2", "down")
	if got := c.must(t, "ps", "-aq", "--filter", "label=com.docker.compose.project=changes"); got != "" {
		t.Errorf("down left %s", got)
	}
	if got := c.must(t, "network", "ls", "-q", "--filter", "label=com.docker.compose.project=changes"); got != "" {
		t.Errorf("down left the network %s", got)
	}
}
