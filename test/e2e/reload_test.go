//go:build root

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crowd is a registry that keeps what is pushed, holds blobs back until as many are on
// their way as may be, and remembers the most that ever were.
type crowd struct {
	mu     sync.Mutex
	stored map[string][]byte
	kinds  map[string]string
	limit  int
	now    map[string]int // by method
	most   map[string]int
	full   chan struct{}
	refuse bool // blobs cannot be had
	tries  map[string]int
}

func newCrowd() *crowd {
	return &crowd{stored: map[string][]byte{}, kinds: map[string]string{}, now: map[string]int{}, most: map[string]int{}, tries: map[string]int{}, full: make(chan struct{}), limit: 1}
}

// expect sets the limit and forgets what was seen.
func (s *crowd) expect(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.most, s.full = limit, map[string]int{}, make(chan struct{})
}

func (s *crowd) seen(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most[method]
}

// hold keeps one request back until as many are here as may be.
func (s *crowd) hold(method string) (leave func()) {
	s.mu.Lock()
	s.now[method]++
	s.most[method] = max(s.most[method], s.now[method])
	if s.most[method] == s.limit {
		select {
		case <-s.full:
		default:
			close(s.full)
		}
	}
	full := s.full
	s.mu.Unlock()
	select {
	case <-full:
	case <-time.After(10 * time.Second): // so few never were on their way: the test says so
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now[method]--
	}
}

func (s *crowd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path, digest := r.URL.Path, r.URL.Query().Get("digest")
	switch {
	case path == "/v2/":
	case r.Method == http.MethodPost:
		w.Header().Set("Location", path+"1")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && digest != "":
		defer s.hold(r.Method)()
		s.keep(strings.TrimSuffix(path, "uploads/1")+digest, r)
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		b := s.keep(path, r)
		digest = fmt.Sprintf("sha256:%x", sha256.Sum256(b))
		s.mu.Lock()
		name := path[:strings.LastIndexByte(path, '/')+1] + digest
		s.stored[name], s.kinds[name] = b, s.kinds[path]
		s.mu.Unlock()
		w.Header().Set("Docker-Content-Digest", digest)
		w.WriteHeader(http.StatusCreated)
	default:
		s.give(w, r)
	}
}

func (s *crowd) keep(name string, r *http.Request) []byte {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored[name], s.kinds[name] = b, r.Header.Get("Content-Type")
	return b
}

func (s *crowd) give(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	b, ok := s.stored[r.URL.Path]
	kind, refuse := s.kinds[r.URL.Path], s.refuse
	s.mu.Unlock()
	blob := strings.Contains(r.URL.Path, "/blobs/")
	if blob && r.Method == http.MethodGet && len(b) > 0 && b[0] != '{' { // a layer, not the configuration
		if refuse {
			s.mu.Lock()
			s.tries[r.URL.Path]++
			s.mu.Unlock()
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		defer s.hold(r.Method)()
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("Docker-Content-Digest", fmt.Sprintf("sha256:%x", sha256.Sum256(b)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(b)
	}
}

// reloading is a daemon with a daemon.json that says everything, and is changed.
type reloading struct {
	*daemon
	t      *testing.T
	conf   map[string]any
	events *json.Decoder
}

func newReloading(t *testing.T, conf map[string]any) *reloading {
	t.Helper()
	d := &reloading{daemon: newDaemon(strings.ToLower(t.Name())), t: t, conf: conf}
	maps.Copy(conf, map[string]any{
		"graph": filepath.Join(d.dir, "data"), "exec-root": filepath.Join(d.dir, "run"), "pidfile": filepath.Join(d.dir, "pid"), "hosts": []string{d.host()},
	})
	d.daemon.file = d.text()
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	resp, err := d.http().Get(`http://muelle/events?filters={"type":["daemon"]}`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	d.events = json.NewDecoder(resp.Body)
	return d
}

func (d *reloading) text() string {
	b, err := json.Marshal(d.conf)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

// set writes keys, sends SIGHUP and waits for the event that tells of it, whose
// attributes it gives.
func (d *reloading) set(keys map[string]any) map[string]string {
	d.t.Helper()
	maps.Copy(d.conf, keys)
	if err := os.WriteFile(filepath.Join(d.dir, "daemon.json"), []byte(d.text()), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
	var e struct {
		Action string
		Actor  struct{ Attributes map[string]string }
	}
	if err := d.events.Decode(&e); err != nil || e.Action != "reload" {
		d.t.Fatalf("%+v, %v\n%s", e, err, tail(d.log()))
	}
	return e.Actor.Attributes
}

// layered makes an image of so many layers that nobody else has.
func layered(t *testing.T, c client, name string, layers int) {
	t.Helper()
	c.must(t, "pull", "-q", "busybox")
	c.must(t, "tag", "busybox", name)
	for i := range layers - 1 {
		c.must(t, "run", "--name", "layer", name, "sh", "-c", fmt.Sprintf("echo %s %d >/layer%d", name, i, i))
		c.must(t, "commit", "layer", name)
		c.must(t, "rm", "layer")
	}
}

// TestReload: SIGHUP takes over each key that docs/drop-in.md says so of, one after
// the other; of others the log says that they wait. On the way the keys host-gateway-ip
// and graph, the old names, and the limits of transfers and of the daemon's end have
// their effect.
func TestReload(t *testing.T) {
	reg := newCrowd()
	server := httptest.NewServer(reg)
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	d := newReloading(t, map[string]any{"registry-mirrors": []string{"http://" + registryAddr}, "host-gateway-ip": "192.0.2.8", "live-restore": true})
	c := ours(d.daemon)
	if got := c.must(t, "info", "-f", "{{.DockerRootDir}}"); got != filepath.Join(d.dir, "data") {
		t.Errorf("graph: %s", got)
	}
	if got := c.must(t, "run", "--rm", "--add-host", "gate:host-gateway", "busybox", "grep", "gate$", "/etc/hosts"); got != "192.0.2.8\tgate" {
		t.Errorf("host-gateway-ip: %q", got)
	}
	layered(t, c, addr+"/x/one:1", 6)
	info := func(format, want string) {
		t.Helper()
		if got := c.must(t, "info", "-f", format); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: %s, want %s", format, got, want)
		}
	}
	inspect := func(format, want string) {
		t.Helper()
		c.must(t, "run", "-d", "--name", "reloaded", "busybox", "sleep", "1000")
		if got := c.must(t, "inspect", "-f", format, "reloaded"); got != want {
			t.Errorf("%s: %s, want %s", format, got, want)
		}
		c.must(t, "rm", "-f", "reloaded")
	}
	done := map[string]bool{"runtimes": true, "default-runtime": true} // by TestDockerdUnit
	step := func(keys map[string]any, check func(told map[string]string)) {
		t.Helper()
		check(d.set(keys))
		for k := range keys {
			done[k] = true
		}
	}
	step(map[string]any{"debug": true}, func(map[string]string) { info("{{.Debug}}", "^true$") })
	step(map[string]any{"labels": []string{"rack=8"}}, func(map[string]string) { info("{{.Labels}}", `^\[rack=8\]$`) })
	step(map[string]any{"live-restore": false}, func(map[string]string) { info("{{.LiveRestoreEnabled}}", "^false$") })
	step(map[string]any{"features": map[string]bool{"cdi": false}}, func(map[string]string) { info("{{.CDISpecDirs}}", `^\[\]$`) })
	step(map[string]any{"insecure-registries": []string{"https://reg.test:5000", "10.9.0.0/16"}}, func(map[string]string) {
		info("{{range .RegistryConfig.IndexConfigs}}{{.Name}}={{.Secure}} {{end}}{{.RegistryConfig.InsecureRegistryCIDRs}}", "reg.test:5000=false .*10.9.0.0/16")
	})
	step(map[string]any{"default-shm-size": "9M"}, func(map[string]string) { inspect("{{.HostConfig.ShmSize}}", "9437184") })
	step(map[string]any{"default-ipc-mode": "shareable"}, func(map[string]string) { inspect("{{.HostConfig.IpcMode}}", "shareable") })
	step(map[string]any{"default-cgroupns-mode": "private"}, func(map[string]string) { inspect("{{.HostConfig.CgroupnsMode}}", "private") })
	step(map[string]any{"default-stop-timeout": 0}, func(map[string]string) {
		c.must(t, "run", "-d", "--name", "stubborn", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
		c.must(t, "stop", "stubborn") // would take ten seconds
		if got := c.must(t, "inspect", "-f", "{{.State.ExitCode}}", "stubborn"); got != "137" {
			t.Errorf("default-stop-timeout: %s", got)
		}
		c.must(t, "rm", "stubborn")
	})
	for i, limit := range []int{1, 3} {
		name := addr + "/x/up:" + strconv.Itoa(i)
		c.must(t, "tag", addr+"/x/one:1", name)
		reg.mu.Lock()
		clear(reg.stored)
		reg.mu.Unlock()
		reg.expect(limit)
		step(map[string]any{"max-concurrent-uploads": limit}, func(map[string]string) { c.must(t, "push", name) })
		if got := reg.seen(http.MethodPut); got != limit {
			t.Errorf("max-concurrent-uploads %d: %d at once", limit, got)
		}
	}
	// What is pulled was made by another daemon: this one has nothing of it.
	reg.expect(1)
	other := ours(world.daemon)
	for _, tag := range []string{"1", "2", "3"} {
		name := addr + "/x/down:" + tag
		layered(t, other, name, 4)
		other.must(t, "push", name)
		other.must(t, "rmi", name)
	}
	other.must(t, "image", "prune", "-f")
	for _, limit := range []int{1, 2} {
		reg.expect(limit)
		step(map[string]any{"max-concurrent-downloads": limit}, func(map[string]string) { c.must(t, "pull", addr+"/x/down:"+strconv.Itoa(limit)) })
		if got := reg.seen(http.MethodGet); got != limit {
			t.Errorf("max-concurrent-downloads %d: %d at once", limit, got)
		}
	}
	reg.mu.Lock()
	reg.refuse = true
	reg.mu.Unlock()
	step(map[string]any{"max-download-attempts": 1}, func(map[string]string) {
		if r := c.try(t, "pull", addr+"/x/down:3"); r.code == 0 {
			t.Errorf("a pull without layers: %+v", r)
		}
		reg.mu.Lock()
		defer reg.mu.Unlock()
		// One attempt asks up to two times: by TLS, and without.
		if tries := slices.Collect(maps.Values(reg.tries)); len(tries) == 0 || slices.Max(tries) > 2 {
			t.Errorf("max-download-attempts: %v", reg.tries)
		}
	})
	step(map[string]any{"registry-mirrors": []string{server.URL}}, func(map[string]string) {
		info("{{.RegistryConfig.Mirrors}}", server.URL)
		if r := c.try(t, "pull", "busybox:1.36"); r.code == 0 {
			t.Errorf("pulled past the mirror that has nothing: %+v", r)
		}
	})
	d.set(map[string]any{"mtu": 1400, "log-driver": "local"})
	log := tail(d.log())
	for _, key := range []string{"mtu", "log-driver"} {
		if !strings.Contains(log, key+" has changed, which takes effect when the daemon is started again") {
			t.Errorf("%s: nothing in the log", key)
		}
	}
	step(map[string]any{"log-level": "error", "debug": false}, func(map[string]string) {
		before := strings.Count(tail(d.log()), "level=INFO")
		d.set(map[string]any{"labels": []string{"rack=9"}})
		if after := strings.Count(tail(d.log()), "level=INFO"); after > before+1 {
			t.Errorf("log-level: %d lines more", after-before)
		}
	})
	// The daemon's end waits for a container as long as that may take to stop, though it is
	// told less; see StopAllTimeout for more.
	c.must(t, "run", "-d", "--name", "slow", "--stop-timeout", "600", "busybox", "sh", "-c", "trap 'sleep 1.2; exit 7' TERM; touch /ready; while :; do sleep 0.1; done")
	c.must(t, "exec", "slow", "sh", "-c", "until test -e /ready; do usleep 10000; done")
	step(map[string]any{"shutdown-timeout": 1}, func(told map[string]string) {
		if told["shutdown-timeout"] != "1" {
			t.Errorf("event: %v", told)
		}
	})
	d.leave(t)
	d.daemon.file = d.text()
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.shutdown(); err != nil {
			t.Error(err)
		}
	})
	if got := c.must(t, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "slow"); got != "exited 7" {
		t.Errorf("shutdown-timeout: %s", got)
	}
	c.must(t, "rm", "slow")
	for _, key := range reloadable(t) {
		if !done[key] {
			t.Errorf("%s is said to be reloaded, and was not tried", key)
		}
	}
}

// reloadable are the keys that docs/drop-in.md says SIGHUP reloads.
func reloadable(t *testing.T) (keys []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/drop-in.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\|[^|]*\\| `([a-z0-9-]+)` \\| [^|]*SIGHUP reloads it").FindAllStringSubmatch(string(text), -1) {
		keys = append(keys, m[1])
	}
	if len(keys) < 13 {
		t.Fatalf("only %v", keys)
	}
	return keys
}
