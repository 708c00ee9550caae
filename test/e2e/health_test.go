//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
)

// buildHealthd compiles the program of that folder once.
var buildHealthd = sync.OnceValues(func() (string, error) {
	path := filepath.Join(world.dir, "healthd")
	cmd := exec.Command("go", "build", "-o", path, "./healthd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build healthd: %w: %s", err, out)
	}
	return path, nil
})

// programImage is an image that holds one program and nothing else. Changes are those
// of import.
func programImage(t *testing.T, c client, name, program string, changes ...string) {
	t.Helper()
	tar, err := exec.Command("tar", "-C", filepath.Dir(program), "-c", filepath.Base(program)).Output()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"import"}
	for _, change := range append([]string{`CMD ["/` + filepath.Base(program) + `"]`}, changes...) {
		args = append(args, "-c", change)
	}
	if r := c.pipe(t, tar, append(args, "-", name)...); r.code != 0 {
		t.Fatalf("import: %+v", r)
	}
	t.Cleanup(func() { c.try(t, "rmi", "-f", name) })
}

func healthOf(t *testing.T, c client, name string) (h ctypes.Health) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.must(t, "inspect", "-f", "{{json .State.Health}}", name)), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// awaitHealth waits for a health status and gives the last result.
func awaitHealth(t *testing.T, c client, name string, want ctypes.HealthStatus) *ctypes.HealthcheckResult {
	t.Helper()
	var h ctypes.Health
	err := eventually(20*time.Second, func() error {
		if h = healthOf(t, c, name); h.Status != want || len(h.Log) == 0 {
			return fmt.Errorf("%s is %s, want %s: %+v", name, h.Status, want, h)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h.Log[len(h.Log)-1]
}

// setHealth tells a healthd what to answer from now on.
func setHealth(t *testing.T, c client, name string, status int) {
	t.Helper()
	ip := c.must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
	resp, err := http.Get(fmt.Sprintf("http://%s:8080/set/%d", ip, status))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestProbesByTheEngine(t *testing.T) {
	program, err := buildHealthd()
	if err != nil {
		t.Fatal(err)
	}
	forEach(t, func(t *testing.T, c client) {
		img := c.unique(t, "healthd")
		programImage(t, c, img, program)
		// The Docker client has no flag for it: labels serve it as well.
		asked := func(kind, target string) []string {
			if c.name == "muelle" {
				return []string{"--health-" + kind, target}
			}
			return []string{"-l", "io.muelle.health." + kind + "=" + target}
		}
		timings := []string{"--health-interval", "100ms", "--health-retries", "2", "--health-timeout", "5s"}
		for kind, target := range map[string]string{"http": ":8080/healthz,status=200,body=I say", "grpc": "9090", "tcp": "8080"} {
			name := c.unique(t, kind)
			c.must(t, append(append(append([]string{"run", "-d", "--name", name}, timings...), asked(kind, target)...), img)...)
			c.remove(t, name)
			if r := awaitHealth(t, c, name, ctypes.Healthy); r.ExitCode != 0 {
				t.Errorf("%s: %+v", kind, r)
			}
			if kind == "tcp" {
				continue
			}
			setHealth(t, c, name, 503)
			if r := awaitHealth(t, c, name, ctypes.Unhealthy); r.ExitCode != 1 || kind == "http" && !strings.Contains(r.Output, "503 Service Unavailable\nI say 503") {
				t.Errorf("%s: %+v", kind, r)
			}
			if ps := c.must(t, "ps", "--filter", "health=unhealthy", "--filter", "name="+name, "--format", "{{.Status}}"); !strings.HasSuffix(ps, "(unhealthy)") {
				t.Errorf("ps: %q", ps)
			}
			setHealth(t, c, name, 200)
			awaitHealth(t, c, name, ctypes.Healthy)
			if h := healthOf(t, c, name); len(h.Log) > 5 {
				t.Errorf("%d results are kept, want Docker's five", len(h.Log))
			}
		}
	})
}

func TestHealthOfAnImageAndFlags(t *testing.T) {
	program, err := buildHealthd()
	if err != nil {
		t.Fatal(err)
	}
	c := ours(world.daemon)
	img := c.unique(t, "labelled")
	programImage(t, c, img, program, "LABEL io.muelle.health.http=:8080/healthz", "LABEL io.muelle.health.interval=100ms")
	run := func(name string, flags ...string) {
		t.Helper()
		c.must(t, append(append([]string{"run", "-d", "--name", name}, flags...), img)...)
		c.remove(t, name)
	}
	labelled, none, other := c.unique(t, "labelled"), c.unique(t, "none"), c.unique(t, "other")
	run(labelled)
	awaitHealth(t, c, labelled, ctypes.Healthy)
	run(none, "--no-healthcheck")
	if got := c.must(t, "inspect", "-f", "{{.State.Health}}", none); got != "<nil>" {
		t.Errorf("--no-healthcheck: %s", got)
	}
	run(other, "--health-tcp", "1", "--health-retries", "1")
	if r := awaitHealth(t, c, other, ctypes.Unhealthy); !strings.Contains(r.Output, "nothing listens on port 1 of the container") {
		t.Errorf("%+v", r)
	}
	for _, bad := range [][]string{{"--health-http", "http://db/"}, {"--health-http", "80", "--health-cmd", "true"}, {"--health-on-failure", "reboot"}, {"-l", "io.muelle.health.htttp=80"}} {
		if r := c.try(t, append(append([]string{"create"}, bad...), img)...); r.code != 125 && r.code != 1 {
			t.Errorf("%v: %+v", bad, r)
		}
	}
}

func TestHealthOnFailure(t *testing.T) {
	program, err := buildHealthd()
	if err != nil {
		t.Fatal(err)
	}
	c := ours(world.daemon)
	img := c.unique(t, "failing")
	programImage(t, c, img, program)
	start := func(action string, flags ...string) string {
		t.Helper()
		name := c.unique(t, strings.Join(append([]string{action}, flags...), ""))
		name = strings.NewReplacer("--", "-", ":", "-").Replace(name)
		args := append([]string{"run", "-d", "--name", name, "--health-http", ":8080/healthz", "--health-interval", "100ms", "--health-retries", "1", "--health-on-failure", action,
			"--health-start-period", "1m", "--health-start-interval", "100ms"}, flags...)
		c.must(t, append(args, img)...)
		c.remove(t, name)
		awaitHealth(t, c, name, ctypes.Healthy)
		setHealth(t, c, name, 500)
		return name
	}
	state := func(name, want string) {
		t.Helper()
		if err := eventually(20*time.Second, func() error {
			if got := c.must(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", name); got != want {
				return fmt.Errorf("%s: %s, want %s", name, got, want)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	state(start("kill"), "exited 137 0")
	state(start("stop", "--restart", "always"), "exited 2 0")
	restarted := start("restart")
	state(restarted, "running 0 1")
	awaitHealth(t, c, restarted, ctypes.Healthy)
	limited := start("restart", "--restart", "on-failure:1")
	state(limited, "running 0 1")
	awaitHealth(t, c, limited, ctypes.Healthy)
	setHealth(t, c, limited, 500)
	state(limited, "exited 2 1")
	// A kill is a failure to a restart policy.
	state(start("kill", "--restart", "on-failure:3"), "running 0 1")
}

func TestProbesGoOnAfterACrashOfTheDaemon(t *testing.T) {
	program, err := buildHealthd()
	if err != nil {
		t.Fatal(err)
	}
	d := own(t)
	c := ours(d)
	img, name := c.unique(t, "survivor"), c.unique(t, "c")
	programImage(t, c, img, program)
	c.must(t, "run", "-d", "--name", name, "--health-http", ":8080/healthz", "--health-interval", "100ms", "--health-retries", "1", img)
	c.remove(t, name)
	// Is asked to stop by a daemon that dies meanwhile, and ends when asked again.
	stubborn := c.unique(t, "stubborn")
	c.must(t, "run", "-d", "--name", stubborn, "--stop-timeout", "600", "--health-cmd", "test ! -e /ready", "--health-interval", "100ms", "--health-retries", "1",
		"--health-on-failure", "stop", "busybox", "sh", "-c", `trap "test -e /asked && exit 3; touch /asked" TERM; touch /ready; while :; do sleep 0.02; done`)
	c.remove(t, stubborn)
	awaitHealth(t, c, name, ctypes.Healthy)
	c.must(t, "exec", stubborn, "sh", "-c", "until test -e /asked; do sleep 0.02; done")
	d.kill(t)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	setHealth(t, c, name, 500)
	awaitHealth(t, c, name, ctypes.Unhealthy)
	if code := c.must(t, "wait", stubborn); code != "3" {
		t.Errorf("asked to stop again: exit code %s, want 3", code)
	}
}

func TestComposeHealthExtension(t *testing.T) {
	program, err := buildHealthd()
	if err != nil {
		t.Fatal(err)
	}
	c := ours(world.daemon)
	img := c.unique(t, "composed")
	programImage(t, c, img, program)
	doc := func(path string) string {
		return `
services:
  web:
    image: ` + img + `
    x-health: {http: ":8080` + path + `", interval: 100ms, retries: 2}
  after:
    image: ` + img + `
    depends_on: {web: {condition: service_healthy}}
`
	}
	compose := project(t, strings.Replace(doc("/healthz"), "retries: 2", "retries: 100", 1))
	if r := compose("up", "-d", "--wait"); r.code != 0 || !strings.Contains(r.err, "Healthy") {
		t.Fatalf("up: %+v", r)
	}
	id := strings.TrimSpace(compose("ps", "-q", "web").out)
	if h := healthOf(t, c, id); h.Status != ctypes.Healthy {
		t.Errorf("health %+v", h)
	}
	compose("up", "-d")
	if again := strings.TrimSpace(compose("ps", "-q", "web").out); again != id {
		t.Error("an unchanged project was recreated")
	}
	if r := compose("config", "-q"); r.code != 0 {
		t.Errorf("config: %+v", r)
	}
	failing := project(t, doc("/nowhere"))
	if r := failing("up", "-d", "--no-deps", "web"); !strings.Contains(r.err, "Recreated") {
		t.Errorf("another x-health recreates nothing: %+v", r)
	}
	failing("down", "-t", "1")
	if r := failing("up", "-d"); r.code == 0 || !strings.Contains(r.err, "unhealthy") {
		t.Errorf("up of a project whose dependency is not well: %+v", r)
	}
	broken := project(t, strings.Replace(doc("/"), "retries", "retry", 1))
	if r := broken("config", "-q"); r.code == 0 || !strings.Contains(r.err, "x-health.retry: unknown attribute") {
		t.Errorf("config: %+v", r)
	}
}

func TestHealthOfACommand(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		run := func(what, cmd string, flags ...string) string {
			t.Helper()
			name := c.unique(t, what)
			args := append([]string{"run", "-d", "--name", name, "--health-cmd", cmd, "--health-interval", "50ms", "--health-retries", "2"}, flags...)
			c.must(t, append(args, "busybox", "sleep", "1000")...)
			c.remove(t, name)
			return name
		}
		// The text is Docker's; what the command left running is gone.
		slow := run("slow", "echo waiting; sleep 777", "--health-timeout", "200ms")
		if r := awaitHealth(t, c, slow, ctypes.Unhealthy); r.ExitCode != -1 || r.Output != "Health check exceeded timeout (200ms): waiting\n" {
			t.Errorf("%+v", r)
		}
		long := run("long", "head -c 5000 /dev/zero | tr '\\0' x; exit 1")
		if r := awaitHealth(t, c, long, ctypes.Unhealthy); len(r.Output) != 4096+len("...") || !strings.HasSuffix(r.Output, "x...") || r.ExitCode != 1 {
			t.Errorf("%d bytes, exit code %d", len(r.Output), r.ExitCode)
		}
		patient := run("patient", "exit 1", "--health-start-period", "1h", "--health-start-interval", "50ms")
		awaitHealth(t, c, patient, ctypes.Starting)
		if h := healthOf(t, c, patient); h.FailingStreak != 0 {
			t.Errorf("failures count in the start period: %+v", h)
		}
		// A paused container is not asked.
		c.must(t, "pause", patient)
		before := healthOf(t, c, patient)
		c.must(t, "unpause", patient)
		if err := eventually(20*time.Second, func() error {
			if h := healthOf(t, c, patient); len(h.Log) == 0 || !h.Log[len(h.Log)-1].Start.After(before.Log[len(before.Log)-1].Start) {
				return fmt.Errorf("no check after unpause: %+v", h)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

// TestWhyUnhealthyAndDeaf: a container that is stopped for its health and does not heed
// the stop's signal was ended for its health all the same.
func TestWhyUnhealthyAndDeaf(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "deaf")
	c.must(t, "run", "-d", "--name", name, "--stop-timeout", "1", "--health-tcp", "1", "--health-interval", "100ms", "--health-retries", "1",
		"--health-on-failure", "stop", "busybox", "sleep", "1000")
	c.remove(t, name)
	c.must(t, "wait", name)
	wantCause(t, name, "stopped-unhealthy", "did not end within 1 s", "SIGTERM sent at", "nothing listens on port 1")
}
