package container_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"muelle/internal/container"
	"muelle/internal/runtime"
)

func TestParseBind(t *testing.T) {
	tests := []struct {
		name, in string
		want     container.MountPoint
		err      string
	}{
		{name: "bind", in: "/a:/b", want: container.MountPoint{Type: "bind", Source: "/a", Destination: "/b", RW: true, Propagation: "rprivate", CreateSource: true}},
		{name: "read-only", in: "/a/:/b/:ro,z", want: container.MountPoint{Type: "bind", Source: "/a", Destination: "/b", Mode: "ro,z", Propagation: "rprivate", CreateSource: true}},
		{name: "propagation", in: "/a:/b:rshared", want: container.MountPoint{Type: "bind", Source: "/a", Destination: "/b", Mode: "rshared", RW: true, Propagation: "rshared", CreateSource: true}},
		{name: "volume", in: "data:/b", want: container.MountPoint{Type: "volume", Name: "data", Destination: "/b", RW: true}},
		{name: "volume nocopy", in: "data:/b:nocopy,ro", want: container.MountPoint{Type: "volume", Name: "data", Destination: "/b", Mode: "nocopy,ro", NoCopy: true}},
		{name: "anonymous", in: "/b", want: container.MountPoint{Type: "volume", Destination: "/b", RW: true, Anonymous: true}},
		{name: "mode without destination", in: "/b:ro", err: "invalid volume specification: '/b:ro'"},
		{name: "root", in: "/a:/", err: "invalid volume specification: '/a:/': invalid specification: destination can't be '/'"},
		{name: "relative", in: "/a:b", err: "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute"},
		{name: "mode", in: "/a:/b:nope", err: "invalid volume specification: '/a:/b:nope': invalid mode: nope"},
		{name: "twice", in: "/a:/b:ro,rw", err: "invalid volume specification: '/a:/b:ro,rw': invalid mode: ro,rw"},
		{name: "too many", in: "/a:/b:ro:x", err: "invalid volume specification: '/a:/b:ro:x'"},
		{name: "nocopy of a bind", in: "/a:/b:nocopy", err: "invalid volume specification: '/a:/b:nocopy': invalid mode: nocopy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := container.ParseBind(tt.in, "")
			if tt.err != "" {
				if err == nil || err.Error() != tt.err || !errdefs.IsInvalidArgument(err) {
					t.Fatalf("got error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseMountsPrecedence(t *testing.T) {
	cfg := &ctypes.Config{Volumes: map[string]struct{}{"/img": {}, "/bound": {}, "/tmpfs": {}}}
	hc := &ctypes.HostConfig{
		VolumesFrom: []string{"other:ro"}, Binds: []string{"/host:/bound"},
		Mounts: []mount.Mount{{Type: "tmpfs", Target: "/mem", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20, Mode: 0o1777}}},
		Tmpfs:  map[string]string{"/tmpfs": "size=1m,exec"},
	}
	got, err := container.ParseMounts(cfg, hc, func(string) ([]container.MountPoint, error) {
		return []container.MountPoint{
			{Type: "volume", Name: "v", Destination: "/from", RW: true},
			{Type: "volume", Name: "w", Destination: "/bound", RW: true},
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range got {
		rw := "ro"
		if m.RW {
			rw = "rw"
		}
		name := m.Name
		if m.Anonymous {
			name = "anonymous"
		}
		list = append(list, strings.Join([]string{string(m.Type), name, m.Source, m.Destination, rw, strings.Join(m.TmpfsOptions, ",")}, " "))
	}
	want := []string{
		"volume v  /from ro ", "bind  /host /bound rw ",
		"tmpfs   /mem rw noexec,nosuid,nodev,rprivate,mode=1777,size=1048576", "volume anonymous  /img rw ",
	}
	if d := cmp.Diff(want, list); d != "" {
		t.Error(d)
	}
	hc.Binds = append(hc.Binds, "/x:/mem")
	if _, err := container.ParseMounts(cfg, hc, func(string) ([]container.MountPoint, error) { return nil, nil }); err == nil || err.Error() != "Duplicate mount point: /mem" {
		t.Errorf("got %v", err)
	}
}

func TestMergeImage(t *testing.T) {
	image := func() *dockerspec.DockerOCIImageConfig {
		c := &dockerspec.DockerOCIImageConfig{}
		c.Entrypoint, c.Cmd = []string{"/entry"}, []string{"arg"}
		c.Env = []string{"PATH=/bin", "A=1"}
		c.Labels = map[string]string{"l": "image", "m": "image"}
		c.ExposedPorts = map[string]struct{}{"80/tcp": {}}
		c.User, c.WorkingDir, c.StopSignal = "app", "/w", "SIGQUIT"
		c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Retries: 7}
		return c
	}
	tests := []struct {
		name            string
		in              ctypes.Config
		entrypoint, cmd []string
	}{
		{"all of the image", ctypes.Config{}, []string{"/entry"}, []string{"arg"}},
		{"own command", ctypes.Config{Cmd: []string{"x"}}, []string{"/entry"}, []string{"x"}},
		{"own entrypoint", ctypes.Config{Entrypoint: []string{"/own"}}, []string{"/own"}, nil},
		{"no entrypoint", ctypes.Config{Entrypoint: []string{""}, Cmd: []string{"x"}}, nil, []string{"x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.in
			container.MergeImage(&c, image())
			if d := cmp.Diff([][]string{tt.entrypoint, tt.cmd}, [][]string{c.Entrypoint, c.Cmd}); d != "" {
				t.Error(d)
			}
		})
	}
	c := ctypes.Config{Env: []string{"A=2", "B=3"}, Labels: map[string]string{"m": "own"}, Healthcheck: &ctypes.HealthConfig{Interval: time.Minute}}
	container.MergeImage(&c, image())
	if d := cmp.Diff([]string{"A=2", "B=3", "PATH=/bin"}, c.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"l": "image", "m": "own"}, c.Labels); d != "" {
		t.Error(d)
	}
	want := &ctypes.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Minute, Retries: 7}
	if d := cmp.Diff(want, c.Healthcheck); d != "" {
		t.Error(d)
	}
	if c.User != "app" || c.WorkingDir != "/w" || c.StopSignal != "SIGQUIT" || len(c.ExposedPorts) != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestBackoff(t *testing.T) {
	var b container.Backoff
	short, long := time.Second, 10*time.Second
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000}
	for i, w := range want {
		if got := container.BackoffNext(&b, short); got != w*time.Millisecond {
			t.Fatalf("restart %d: waits %v, want %v", i, got, w*time.Millisecond)
		}
	}
	if got := container.BackoffNext(&b, long); got != 100*time.Millisecond {
		t.Errorf("after a long run: waits %v", got)
	}
}

func TestWantsRestart(t *testing.T) {
	tests := []struct {
		policy         ctypes.RestartPolicy
		code, restarts int
		stopped, want  bool
	}{
		{policy: ctypes.RestartPolicy{}, code: 1},
		{policy: ctypes.RestartPolicy{Name: "no"}, code: 1},
		{policy: ctypes.RestartPolicy{Name: "always"}, want: true},
		{policy: ctypes.RestartPolicy{Name: "always"}, stopped: true},
		{policy: ctypes.RestartPolicy{Name: "unless-stopped"}, want: true},
		{policy: ctypes.RestartPolicy{Name: "on-failure"}},
		{policy: ctypes.RestartPolicy{Name: "on-failure"}, code: 3, restarts: 99, want: true},
		{policy: ctypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}, code: 3, restarts: 1, want: true},
		{policy: ctypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}, code: 3, restarts: 2},
	}
	for _, tt := range tests {
		if got := container.WantsRestart(tt.policy, tt.code, tt.restarts, tt.stopped); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339Nano) }
	zero := time.Time{}.Format(time.RFC3339Nano)
	tests := []struct {
		in   ctypes.State
		want string
	}{
		{ctypes.State{Status: "created", StartedAt: zero, FinishedAt: zero}, "Created"},
		{ctypes.State{Running: true, StartedAt: ago(3 * time.Second), FinishedAt: zero}, "Up 3 seconds"},
		{ctypes.State{Running: true, StartedAt: ago(3 * time.Minute), Health: &ctypes.Health{Status: "healthy"}}, "Up 3 minutes (healthy)"},
		{ctypes.State{Running: true, StartedAt: ago(3 * time.Minute), Health: &ctypes.Health{Status: "starting"}}, "Up 3 minutes (health: starting)"},
		{ctypes.State{Running: true, Paused: true, StartedAt: ago(time.Hour)}, "Up About an hour (Paused)"},
		{ctypes.State{Running: true, Restarting: true, ExitCode: 2, StartedAt: ago(time.Hour), FinishedAt: ago(5 * time.Second)}, "Restarting (2) 5 seconds ago"},
		{ctypes.State{Status: "exited", ExitCode: 137, StartedAt: ago(time.Hour), FinishedAt: ago(2 * time.Minute)}, "Exited (137) 2 minutes ago"},
	}
	for _, tt := range tests {
		if got := container.StatusText(&tt.in, now); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]syscall.Signal{"9": 9, "KILL": 9, "sigterm": 15, "SIGUSR1": 10, "RTMIN+3": 37, "SIGRTMAX-1": 63} {
		if got, err := container.ParseSignal(in); err != nil || got != want {
			t.Errorf("%s: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0", "65", "-1", "NOPE", "RTMIN+99"} {
		if _, err := container.ParseSignal(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: got %v", in, err)
		}
	}
}

func TestProbe(t *testing.T) {
	start := time.Now()
	p := container.ProbeOf(&ctypes.Config{Healthcheck: &ctypes.HealthConfig{Test: []string{"CMD-SHELL", "curl x"}, StartPeriod: time.Minute, Interval: 7 * time.Second}})
	if got := container.ProbeWait(p, ctypes.Starting, start, start.Add(time.Second)); got != 5*time.Second {
		t.Errorf("in the start period: waits %v", got)
	}
	if got := container.ProbeWait(p, ctypes.Healthy, start, start.Add(time.Second)); got != 7*time.Second {
		t.Errorf("healthy: waits %v", got)
	}
	h := &ctypes.Health{Status: ctypes.Starting}
	step := func(code int, after time.Duration) string {
		h = container.ProbeNext(p, *h, &ctypes.HealthcheckResult{Start: start.Add(after), ExitCode: code}, start)
		return string(h.Status)
	}
	var got []string
	for _, r := range []struct {
		code  int
		after time.Duration
	}{{1, time.Second}, {1, 2 * time.Second}, {1, 3 * time.Second}, {1, 4 * time.Second}, {0, 5 * time.Second}, {1, 6 * time.Second}, {1, 7 * time.Second}, {1, 8 * time.Second}, {0, 9 * time.Second}} {
		got = append(got, step(r.code, r.after))
	}
	want := []string{"starting", "starting", "starting", "starting", "healthy", "healthy", "healthy", "unhealthy", "healthy"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(h.Log) != 5 {
		t.Errorf("keeps %d results", len(h.Log))
	}
	for _, test := range [][]string{nil, {"NONE"}, {"CMD"}} {
		if container.ProbeOf(&ctypes.Config{Healthcheck: &ctypes.HealthConfig{Test: test}}) != nil {
			t.Errorf("%v is a check", test)
		}
	}
}

func TestStartError(t *testing.T) {
	missing := &runtime.StartError{Code: 127, Err: errors.New(`exec: "nope": executable file not found in $PATH`)}
	code, err := container.StartError(missing)
	want := `failed to create task for container: failed to create shim task: OCI runtime create failed: exec: "nope": executable file not found in $PATH: unknown`
	if code != 127 || err.Error() != want || !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %d, %v", code, err)
	}
	if code, err := container.StartError(errors.New("other")); code != 128 || errdefs.IsInvalidArgument(err) {
		t.Errorf("got %d, %v", code, err)
	}
}

func TestCopyUpKeepsAttributesAndLinks(t *testing.T) {
	layer, target := t.TempDir(), t.TempDir()
	data := filepath.Join(layer, "data")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(data, "sub"), 0o750))
	must(os.WriteFile(filepath.Join(data, "sub/file"), []byte("x"), 0o640))
	must(os.Link(filepath.Join(data, "sub/file"), filepath.Join(data, "twin")))
	must(os.Symlink("/etc/passwd", filepath.Join(data, "out")))
	must(os.Chmod(data, 0o711|os.ModeSticky))
	// A link in the image that points out of it is followed inside the image.
	must(os.Symlink("/data", filepath.Join(layer, "way")))
	past := time.Unix(1e9, 0)
	must(os.Chtimes(filepath.Join(data, "sub/file"), past, past))
	must(container.CopyUp(t.Context(), []string{layer}, "/way", target))
	info, err := os.Lstat(target)
	must(err)
	if info.Mode() != os.ModeDir|0o711|os.ModeSticky {
		t.Errorf("mode of the volume is %v", info.Mode())
	}
	file, err := os.Stat(filepath.Join(target, "sub/file"))
	must(err)
	twin, err := os.Stat(filepath.Join(target, "twin"))
	must(err)
	if !os.SameFile(file, twin) || file.Mode() != 0o640 || !file.ModTime().Equal(past) {
		t.Errorf("file %v %v, same as its link: %v", file.Mode(), file.ModTime(), os.SameFile(file, twin))
	}
	if link, err := os.Readlink(filepath.Join(target, "out")); err != nil || link != "/etc/passwd" {
		t.Errorf("link: %q, %v", link, err)
	}
	must(container.CopyUp(t.Context(), []string{layer}, "/missing", t.TempDir()))
	if err := container.CopyUp(t.Context(), []string{layer}, "/data/twin", t.TempDir()); !errdefs.IsInvalidArgument(err) {
		t.Errorf("over a file: %v", err)
	}
}

func TestReadInLayers(t *testing.T) {
	top, bottom := t.TempDir(), t.TempDir()
	for dir, content := range map[string]string{top: "top", bottom: "bottom"} {
		if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "etc", content), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"top", "bottom"} {
		if got, err := container.ReadInLayers([]string{top, bottom}, "/etc/"+name); err != nil || string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := container.ReadInLayers([]string{top, bottom}, "/etc/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestParsePs(t *testing.T) {
	tests := map[string][]string{
		"":                 {"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"},
		"-ef":              {"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"},
		"aux":              {"USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"},
		"-o pid,comm=NAME": {"PID", "NAME"},
	}
	for in, want := range tests {
		cols, err := container.ParsePs(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		var titles []string
		for _, c := range cols {
			titles = append(titles, c.Title())
		}
		if d := cmp.Diff(want, titles); d != "" {
			t.Errorf("%q: %s", in, d)
		}
	}
	if _, err := container.ParsePs("--forest"); !errdefs.IsNotImplemented(err) {
		t.Errorf("got %v", err)
	}
}
