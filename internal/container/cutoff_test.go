package container_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
	"muelle/internal/runtime"
	"muelle/internal/volume"
)

// What a killed daemon leaves half done, the next one finishes.

func TestCreatedOnesThatRemoveThemselvesAreGone(t *testing.T) {
	b := newBench(t)
	auto := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{AutoRemove: true}})
	plain := b.create(container.CreateOptions{})
	b.reopen()
	if _, err := b.ID(auto); err == nil {
		t.Error("nobody starts it any more, and it stays")
	}
	if _, err := b.ID(plain); err != nil {
		t.Error(err)
	}
}

func TestHalfWrittenRecordsAreSwept(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{})
	b.close()
	half := filepath.Join(b.dir, "containers", id, ".tmp-state.json-123")
	if err := os.WriteFile(half, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	if _, err := os.Stat(half); err == nil {
		t.Error("it stays")
	}
}

func (b *bench) volumeNames() (names []string) {
	b.t.Helper()
	list, err := b.vols.List(b.t.Context(), filter.Args{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, v := range list {
		names = append(names, v.Name)
	}
	return names
}

func TestAnonymousVolumesGoWithTheirContainer(t *testing.T) {
	with := &ctypes.Config{Volumes: map[string]struct{}{"/v": {}}}
	for _, tt := range []struct {
		name string
		auto bool
		cut  func(b *bench, id string) error
		kept int
	}{
		{"removal cut off", false, func(b *bench, id string) error {
			return os.Remove(filepath.Join(b.dir, "containers", id, "container.json"))
		}, 0},
		{"reboot", true, func(b *bench, _ string) error { return os.RemoveAll(filepath.Join(b.dir, "exec")) }, 0},
		{"nothing", false, func(*bench, string) error { return nil }, 1},
		{"removed without its volumes", false, func(b *bench, id string) error {
			b.open()
			defer b.close()
			return b.Remove(b.t.Context(), id, container.RemoveOptions{})
		}, 1},
		{"removed with its volumes", false, func(b *bench, id string) error {
			b.open()
			defer b.close()
			return b.Remove(b.t.Context(), id, container.RemoveOptions{Volumes: true})
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			id := b.create(container.CreateOptions{Config: &ctypes.Config{Volumes: with.Volumes}, HostConfig: &ctypes.HostConfig{AutoRemove: tt.auto}})
			if n := b.volumeNames(); len(n) != 1 {
				t.Fatalf("volumes %v", n)
			}
			b.close()
			if err := tt.cut(b, id); err != nil {
				t.Fatal(err)
			}
			var errs []error
			if b.vols, errs = volume.Open(filepath.Join(b.dir, "volumes"), b.bus); len(errs) > 0 {
				t.Fatal(errs) // who holds a volume is known in memory only
			}
			b.open()
			b.reopen() // what is done in the background is done
			if n := b.volumeNames(); len(n) != tt.kept {
				t.Errorf("volumes %v, want %d", n, tt.kept)
			}
		})
	}
}

func TestRemovalOutlivesItsClient(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{AutoRemove: true}})
	b.start(id)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Remove(ctx, id, container.RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if _, err := b.ID(id); err == nil {
		t.Error("is still there")
	}
}

func TestLastRestartSurvivesTheDaemon(t *testing.T) {
	b := newBench(t)
	b.rt.end = &runtime.Exit{Code: 3}
	id := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 1}}})
	b.start(id)
	b.await(id, "the end", func(s *ctypes.State) bool { return s.Restarting || s.Status == ctypes.StateExited })
	b.reopen()
	b.await(id, "the end", func(s *ctypes.State) bool {
		b.rt.mu.Lock()
		defer b.rt.mu.Unlock()
		return s.Status == ctypes.StateExited && b.rt.runs[id] == 2
	})
}

func TestReadOnlyBindIsRecursive(t *testing.T) {
	b := newBench(t)
	for _, tt := range []struct {
		mount mount.Mount
		want  bool
	}{
		{mount.Mount{ReadOnly: true}, true},
		{mount.Mount{}, false},
		{mount.Mount{ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}}, false},
		{mount.Mount{ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyForceRecursive: true}}, true},
	} {
		tt.mount.Type, tt.mount.Source, tt.mount.Target = "bind", b.dir, "/m"
		got, err := b.asked(func(_ *ctypes.Config, h *ctypes.HostConfig) { h.Mounts = []mount.Mount{tt.mount} })
		if err != nil || strings.Contains(got, `"rro"`) != tt.want {
			t.Errorf("%+v: %v, %v", tt.mount, got, err)
		}
	}
}

func TestLogsOfACreatedContainerAreEmpty(t *testing.T) {
	b := newBench(t)
	for _, auto := range []bool{false, true} {
		id := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{AutoRemove: auto}})
		for _, follow := range []bool{false, true} {
			o := container.LogOptions{Follow: follow}
			o.Stdout, o.Tail = true, -1
			entries, _, err := b.Logs(t.Context(), id, o)
			if err != nil {
				t.Fatal(err)
			}
			for e, err := range entries {
				t.Errorf("auto remove %v, follow %v: %v, %v", auto, follow, e, err)
			}
		}
	}
}

func TestAnonymousVolumesHandedOn(t *testing.T) {
	b := newBench(t)
	first := b.create(container.CreateOptions{Config: &ctypes.Config{Volumes: map[string]struct{}{"/v": {}}}})
	name := b.volumeNames()[0]
	if err := b.Remove(t.Context(), first, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	handed := func() *ctypes.HostConfig {
		return &ctypes.HostConfig{Mounts: []mount.Mount{{
			Type: "volume", Source: name, Target: "/v", VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{api.LabelAnonymous: ""}},
		}}}
	}
	// A creation that fails leaves it.
	hc := handed()
	hc.Mounts = append(hc.Mounts, mount.Mount{Type: "volume", Source: "no/name", Target: "/w"})
	if _, err := b.Create(t.Context(), container.CreateOptions{Config: &ctypes.Config{Image: "box"}, HostConfig: hc}); err == nil {
		t.Fatal("a volume called no/name")
	}
	if n := b.volumeNames(); len(n) != 1 {
		t.Fatalf("after a creation that failed: %v", n)
	}
	second := b.create(container.CreateOptions{HostConfig: handed()})
	if err := b.Remove(t.Context(), second, container.RemoveOptions{Volumes: true}); err != nil {
		t.Fatal(err)
	}
	if n := b.volumeNames(); len(n) != 0 {
		t.Errorf("after its last container: %v", n)
	}
}

func TestBootStartsTheOwnerOfANamespaceFirst(t *testing.T) {
	b := newBench(t)
	always := func() *ctypes.HostConfig {
		return &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "always"}}
	}
	owner := b.create(container.CreateOptions{Name: "owner", Config: &ctypes.Config{Hostname: "owner"}, HostConfig: always()})
	hc := always()
	hc.NetworkMode = "container:owner"
	guest := b.create(container.CreateOptions{Name: "guest", HostConfig: hc})
	b.start(owner)
	b.start(guest)
	b.close()
	clear(b.rt.tasks) // a reboot
	held := make(chan struct{})
	b.rt.before = func(hostname string) {
		if hostname == "owner" {
			<-held // the guest has time to be too early
		}
	}
	b.open()
	close(held)
	b.await(guest, "its start", func(s *ctypes.State) bool { return s.Running })
	if st := b.state(owner); !st.Running {
		t.Errorf("owner: %+v", st)
	}
}

func TestRestartThatFailsRemovesWhatRemovesItself(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{AutoRemove: true}})
	b.start(id)
	b.rt.fail = errors.New("no more processes")
	if err := b.Restart(t.Context(), id, container.StopOptions{}); err == nil {
		t.Fatal("restarted")
	}
	if _, err := b.ID(id); err == nil {
		t.Error("is still there")
	}
}
