//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

//muelle:ring
func TestLifecycle(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		id := c.must(t, "create", "--name", name, "-l", "tier=test", "busybox", "sh", "-c", "echo started; trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done")
		c.remove(t, name)
		if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(id) {
			t.Errorf("create printed %q", id)
		}
		state := func(want string) {
			t.Helper()
			if got := c.must(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name); got != want {
				t.Errorf("state %q, want %q", got, want)
			}
		}
		state("created 0")
		if got := c.must(t, "start", name); got != name {
			t.Errorf("start printed %q", got)
		}
		state("running 0")
		if r := c.try(t, "start", name); r.code != 0 {
			t.Errorf("start of a started container: %+v", r)
		}
		ps := c.must(t, "ps", "--filter", "name="+name, "--format", "{{.Names}}|{{.Image}}|{{.State}}|{{.ID}}")
		if want := name + "|busybox|running|" + id[:12]; ps != want {
			t.Errorf("ps %q, want %q", ps, want)
		}
		if got := c.must(t, "exec", "-e", "X=5", "-w", "/tmp", "-u", "5", name, "sh", "-c", "echo $X; pwd; id -u"); got != "5\n/tmp\n5" {
			t.Errorf("exec %q", got)
		}
		if r := c.try(t, "exec", name, "sh", "-c", "exit 9"); r.code != 9 {
			t.Errorf("exec's exit status %d", r.code)
		}
		if r := c.try(t, "exec", name, "nope"); r.code != 127 {
			t.Errorf("exec of a missing program: %+v", r)
		}
		if r := c.pipe(t, []byte("hello"), "exec", "-i", name, "cat"); r.out != "hello" {
			t.Errorf("exec -i: %+v", r)
		}
		c.must(t, "exec", "-d", name, "touch", "/tmp/detached")
		if err := eventually(20*time.Second, func() error {
			if r := c.try(t, "exec", name, "ls", "/tmp/detached"); r.code != 0 {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if r := c.try(t, "rm", name); r.code == 0 || !strings.Contains(r.err, "container is running") {
			t.Errorf("rm of a running container: %+v", r)
		}
		c.must(t, "stop", name)
		state("exited 7")
		if got := c.must(t, "wait", name); got != "7" {
			t.Errorf("wait printed %q", got)
		}
		if got := c.must(t, "logs", name); got != "started\nbye" {
			t.Errorf("logs %q", got)
		}
		c.must(t, "restart", name)
		state("running 0")
		// Killed before it has printed anything, its log ends with the first run's.
		if err := eventually(20*time.Second, func() error {
			if got := c.must(t, "logs", name); got != "started\nbye\nstarted" {
				return fmt.Errorf("logs after the restart: %q", got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		c.must(t, "kill", name)
		if got := c.must(t, "wait", name); got != "137" {
			t.Errorf("wait after kill printed %q", got)
		}
		if got := c.must(t, "logs", "--tail", "1", name); got != "started" {
			t.Errorf("logs --tail 1 %q", got)
		}
		if r := c.try(t, "kill", name); r.code == 0 || !strings.Contains(r.err, "is not running") {
			t.Errorf("kill of a stopped container: %+v", r)
		}
	})
}

func TestNames(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "create", "--name", name, "busybox")
		c.remove(t, name)
		r := c.try(t, "create", "--name", name, "busybox")
		if r.code != 1 && r.code != 125 || !strings.Contains(r.err, `Conflict. The container name "/`+name+`" is already in use by container`) {
			t.Errorf("%+v", r)
		}
		for _, args := range [][]string{{"start", "none"}, {"stop", "none"}, {"rm", "none"}, {"logs", "none"}, {"exec", "none", "true"}, {"kill", "none"}, {"wait", "none"}} {
			if r := c.try(t, args...); r.code == 0 || !strings.Contains(r.err, "No such container: none") {
				t.Errorf("%v: %+v", args, r)
			}
		}
		other := c.unique(t, "other")
		c.must(t, "run", "-d", "--name", other, "busybox", "sleep", "1000")
		c.remove(t, other)
		if r := c.try(t, "rename", other, name); r.code != 1 || !strings.Contains(r.err, `Error when allocating new name: Conflict. The container name "/`+name+`" is already in use`) {
			t.Errorf("rename to a name that is taken: %+v", r)
		}
		// What is no path from the root is refused, not taken for one.
		if r := c.try(t, "exec", "-w", "tmp", other, "pwd"); r.code != 126 || !strings.Contains(r.out+r.err, "Cwd must be an absolute path") {
			t.Errorf("exec in a relative folder: %+v", r)
		}
		if r := c.try(t, "create", "--name", "-bad", "busybox"); r.code == 0 {
			t.Errorf("a bad name was taken: %+v", r)
		}
	})
}

func TestLogs(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "busybox", "sh", "-c", "for i in 1 2 3; do echo out $i; echo err $i >&2; done; sleep 0.3; echo last")
		c.remove(t, name)
		r := c.try(t, "logs", "-f", name)
		if r.out != "out 1\nout 2\nout 3\nlast\n" || r.err != "err 1\nerr 2\nerr 3\n" {
			t.Errorf("%+v", r)
		}
		stamped := c.must(t, "logs", "-t", "--tail", "1", name)
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z last$`).MatchString(stamped) {
			t.Errorf("with time: %q", stamped)
		}
	})
}

func TestInspectIsComplete(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "-p", "127.0.0.1::80", "-e", "A=1", "-v", "/data", "busybox", "sleep", "1000")
		c.remove(t, name)
		var all []struct {
			ID, Name, Image, Path, LogPath, Driver, Platform string
			Args                                             []string
			State                                            struct {
				Pid       int
				StartedAt time.Time
			}
			Config struct {
				Env   []string
				Image string
			}
			Mounts []struct {
				Type, Name, Destination string
				RW                      bool
			}
			NetworkSettings struct {
				Ports    map[string][]struct{ HostIP, HostPort string }
				Networks map[string]struct{ IPAddress, Gateway, MacAddress string }
			}
		}
		if err := json.Unmarshal([]byte(c.must(t, "inspect", name)), &all); err != nil {
			t.Fatal(err)
		}
		i := all[0]
		if i.Name != "/"+name || !strings.HasPrefix(i.Image, "sha256:") || i.Path != "sleep" || i.State.Pid == 0 || i.LogPath == "" || i.Platform != "linux" {
			t.Errorf("%+v", i)
		}
		if len(i.Mounts) != 1 || i.Mounts[0].Type != "volume" || i.Mounts[0].Destination != "/data" || !i.Mounts[0].RW {
			t.Errorf("mounts %+v", i.Mounts)
		}
		port := i.NetworkSettings.Ports["80/tcp"]
		if len(port) != 1 || port[0].HostIP != "127.0.0.1" || port[0].HostPort == "" {
			t.Errorf("ports %+v", i.NetworkSettings.Ports)
		}
		if n := i.NetworkSettings.Networks["bridge"]; n.IPAddress == "" || n.Gateway == "" || n.MacAddress == "" {
			t.Errorf("network %+v", n)
		}
		if got := c.must(t, "port", name); got != "80/tcp -> 127.0.0.1:"+port[0].HostPort {
			t.Errorf("port printed %q", got)
		}
	})
}

func TestEvents(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		since := fmt.Sprintf("%.9f", float64(time.Now().UnixNano())/1e9)
		if r := c.try(t, "run", "--rm", "--name", name, "busybox", "sh", "-c", "exit 5"); r.code != 5 {
			t.Fatalf("%+v", r)
		}
		until := fmt.Sprintf("%.9f", float64(time.Now().Add(time.Second).UnixNano())/1e9)
		out := c.must(t, "events", "--since", since, "--until", until, "--filter", "container="+name, "--format", "{{.Action}}")
		if want := "create\nattach\nstart\ndie\ndestroy"; out != want {
			t.Errorf("events %q, want %q", strings.ReplaceAll(out, "\n", " "), strings.ReplaceAll(want, "\n", " "))
		}
		kinds := []string{"container", "image", "volume", "network", "builder"}
		for _, kind := range kinds {
			c.must(t, kind, "prune", "-f", "--filter", map[bool]string{true: "id=none", false: "label=none"}[kind == "builder"])
		}
		until = fmt.Sprintf("%.9f", float64(time.Now().Add(time.Second).UnixNano())/1e9)
		out = c.must(t, "events", "--since", since, "--until", until, "--filter", "event=prune", "--format", `{{.Type}} {{index .Actor.Attributes "reclaimed"}}.`)
		for _, kind := range kinds {
			if !regexp.MustCompile(kind + ` \d+\.`).MatchString(out) {
				t.Errorf("%s prune is missing in %q", kind, out)
			}
		}
		code := c.must(t, "events", "--since", since, "--until", until, "--filter", "container="+name, "--filter", "event=die", "--format", `{{index .Actor.Attributes "exitCode"}}`)
		if code != "5" {
			t.Errorf("exit code %q", code)
		}
	})
}

//muelle:ring
func TestRestartPolicy(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 1")
		c.remove(t, name)
		if err := eventually(20*time.Second, func() error {
			if got := c.must(t, "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name); got != "exited 2" {
				return fmt.Errorf("state %q", got)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if got := c.must(t, "logs", name); got != "try\ntry\ntry" {
			t.Errorf("logs %q", got)
		}
	})
}

//muelle:ring
func TestHealth(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "--health-cmd", "test -e /tmp/ok", "--health-interval", "200ms", "--health-retries", "2", "busybox", "sleep", "1000")
		c.remove(t, name)
		await := func(want string) {
			t.Helper()
			if err := eventually(30*time.Second, func() error {
				if got := c.must(t, "inspect", "-f", "{{.State.Health.Status}}", name); got != want {
					return fmt.Errorf("health %q, want %q", got, want)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
		await("unhealthy")
		c.must(t, "exec", name, "touch", "/tmp/ok")
		await("healthy")
		if got := c.must(t, "ps", "--filter", "name="+name, "--format", "{{.Status}}"); !strings.HasSuffix(got, "(healthy)") {
			t.Errorf("status %q", got)
		}
	})
}
