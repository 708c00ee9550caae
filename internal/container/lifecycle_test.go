package container_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/container"
	"muelle/internal/filter"
	"muelle/internal/runtime"
)

// events collects the actions of containers until stop is called.
func (b *bench) events(f filter.Args) (stop func() []string) {
	ctx, cancel := context.WithCancel(b.t.Context())
	seq := b.bus.Subscribe(ctx, time.Time{}, time.Time{}, f)
	done := make(chan []string)
	go func() {
		var list []string
		for m := range seq {
			if m.Action == "health_status: end of test" {
				break
			}
			list = append(list, string(m.Action))
		}
		done <- list
	}()
	return func() []string {
		b.bus.Publish("container", "health_status: end of test", "", nil)
		defer cancel()
		return <-done
	}
}

func TestRunAndRemove(t *testing.T) {
	b := newBench(t)
	stop := b.events(nil)
	id := b.create(container.CreateOptions{Name: "one"})
	if got := b.state(id).Status; got != "created" {
		t.Errorf("after create: %s", got)
	}
	b.start("one")
	if err := b.Start(t.Context(), "one"); !errdefs.IsNotModified(err) {
		t.Errorf("second start: %v", err)
	}
	if err := b.Remove(t.Context(), "one", container.RemoveOptions{}); !errdefs.IsConflict(err) {
		t.Errorf("removal of a running one: %v", err)
	}
	wait, err := b.Wait(t.Context(), id[:12], "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context(), "/one", container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err := wait(t.Context()); err != nil || r.StatusCode != 143 {
		t.Errorf("wait: %+v, %v", r, err)
	}
	if st := b.state(id); st.Status != "exited" || st.ExitCode != 143 {
		t.Errorf("state: %+v", st)
	}
	if err := b.Stop(t.Context(), "one", container.StopOptions{}); !errdefs.IsNotModified(err) {
		t.Errorf("second stop: %v", err)
	}
	if err := b.Remove(t.Context(), "one", container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Inspect(t.Context(), id, false); !errdefs.IsNotFound(err) || err.Error() != "No such container: "+id {
		t.Errorf("after removal: %v", err)
	}
	want := []string{"create", "start", "kill", "die", "stop", "destroy"}
	if d := cmp.Diff(want, stop()); d != "" {
		t.Error(d)
	}
	b.close()
	b.leftovers()
	b.open()
}

// leftovers fails if anything of a container is left, after the Service was closed.
func (b *bench) leftovers() {
	b.t.Helper()
	for _, dir := range []string{"containers", "exec"} {
		entries, err := os.ReadDir(filepath.Join(b.dir, dir))
		if err != nil {
			b.t.Fatal(err)
		}
		for _, e := range entries {
			b.t.Errorf("left over: %s/%s", dir, e.Name())
		}
	}
	if len(b.images.held) > 0 || len(b.nets.on) > 0 {
		b.t.Errorf("still held: images %v, networks %v", b.images.held, b.nets.on)
	}
}

func TestAutoRemove(t *testing.T) {
	b := newBench(t)
	b.rt.end = &runtime.Exit{Code: 3}
	id := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{AutoRemove: true, Binds: []string{"/data"}}})
	removed, err := b.Wait(t.Context(), id, ctypes.WaitConditionRemoved)
	if err != nil {
		t.Fatal(err)
	}
	next, err := b.Wait(t.Context(), id, ctypes.WaitConditionNextExit)
	if err != nil {
		t.Fatal(err)
	}
	b.start(id)
	for _, wait := range []func(context.Context) (ctypes.WaitResponse, error){next, removed} {
		if r, err := wait(t.Context()); err != nil || r.StatusCode != 3 {
			t.Errorf("got %+v, %v", r, err)
		}
	}
	if list, err := b.vols.List(t.Context(), nil); err != nil || len(list) != 0 {
		t.Errorf("volumes: %v, %v", list, err)
	}
	b.close()
	b.leftovers()
	b.open()
}

// A run's end takes its counters from the shim to the sum; meanwhile nobody has them.
func TestCountersOfLogsDoNotGoBack(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{Name: "one"})
	b.start("one")
	want := runtime.Logged{Partial: 1, Unread: 10, Unwritten: 100}
	for _, deaf := range []bool{false, true} {
		b.rt.task(id).deaf.Store(deaf)
		if got := b.Logged(t.Context()); got != want {
			t.Errorf("the shim is silent: %t: %+v, want %+v", deaf, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{Name: "x1"})
	_, err := b.Create(t.Context(), container.CreateOptions{Name: "x1", Config: &ctypes.Config{Image: "box"}})
	want := `Conflict. The container name "/x1" is already in use by container "` + id + `". You have to remove (or rename) that container to be able to reuse that name.`
	if err == nil || err.Error() != want || !errdefs.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	if err := b.Rename(t.Context(), "x1", "x2"); err != nil {
		t.Fatal(err)
	}
	b.create(container.CreateOptions{Name: "x1"})
	if err := b.Rename(t.Context(), "x2", "x1"); !errdefs.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	if err := b.Rename(t.Context(), "x2", "-"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	b.reopen()
	if got, err := b.ID("x2"); err != nil || got != id {
		t.Errorf("after reopening: %s, %v", got, err)
	}
	if _, err := b.Inspect(t.Context(), "nope", false); err == nil || err.Error() != "No such container: nope" {
		t.Errorf("got %v", err)
	}
}

func TestFailedStart(t *testing.T) {
	b := newBench(t)
	b.rt.fail = &runtime.StartError{Code: 127, Err: errors.New(`exec: "nope": executable file not found in $PATH`)}
	id := b.create(container.CreateOptions{})
	if err := b.Start(t.Context(), id); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "executable file not found") {
		t.Errorf("got %v", err)
	}
	if st := b.state(id); st.Status != "created" || st.ExitCode != 127 || st.Error == "" {
		t.Errorf("state %+v", st)
	}
	if len(b.nets.on) != 0 {
		t.Error("the network is still prepared")
	}
	gone := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{AutoRemove: true}})
	if err := b.Start(t.Context(), gone); err == nil {
		t.Error("started")
	}
	if _, err := b.ID(gone); !errdefs.IsNotFound(err) {
		t.Errorf("container that goes when it ends: %v", err)
	}
	b.rt.fail, b.nets.fail = nil, errdefs.ErrConflict.WithMessage("port is taken")
	if err := b.Start(t.Context(), id); !errdefs.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	if st := b.state(id); st.ExitCode != 128 {
		t.Errorf("state %+v", st)
	}
	if n := b.rt.prepared.Load(); n != 0 {
		t.Errorf("%d shims wait for a container that did not start", n)
	}
}

func TestStopKillsAfterTheTimeout(t *testing.T) {
	b := newBench(t)
	b.rt.heeds = false
	id := b.create(container.CreateOptions{})
	b.start(id)
	zero := 0
	if err := b.Stop(t.Context(), id, container.StopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if st := b.state(id); st.ExitCode != 137 {
		t.Errorf("state %+v", st)
	}
}

func TestRestartPolicy(t *testing.T) {
	b := newBench(t)
	b.rt.end = &runtime.Exit{Code: 1}
	id := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "on-failure", MaximumRetryCount: 2}}})
	b.start(id)
	b.await(id, "the last retry", func(s *ctypes.State) bool { return s.Status == "exited" })
	if runs := b.rt.runs[id]; runs != 3 {
		t.Errorf("ran %d times", runs)
	}
	r, err := b.Inspect(t.Context(), id, false)
	if err != nil || r.RestartCount != 2 {
		t.Errorf("restarts %d, %v", r.RestartCount, err)
	}
	always := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: "always"}}})
	b.start(always)
	b.await(always, "a wait between runs", func(s *ctypes.State) bool { return s.Restarting })
	if err := b.Stop(t.Context(), always, container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if st := b.state(always); st.Status != "exited" {
		t.Errorf("after stop: %+v", st)
	}
}

func TestRestartKeepsAutoRemove(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{HostConfig: &ctypes.HostConfig{AutoRemove: true}})
	b.start(id)
	if err := b.Restart(t.Context(), id, container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if st := b.state(id); !st.Running || b.rt.runs[id] != 2 {
		t.Errorf("state %+v after %d runs", st, b.rt.runs[id])
	}
	if err := b.Remove(t.Context(), id, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	b := newBench(t)
	policy := func(name ctypes.RestartPolicyMode) *ctypes.HostConfig {
		return &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: name}}
	}
	runs := b.create(container.CreateOptions{Name: "runs"})
	ends := b.create(container.CreateOptions{Name: "ends"})
	gone := b.create(container.CreateOptions{Name: "gone", HostConfig: &ctypes.HostConfig{AutoRemove: true}})
	lost := b.create(container.CreateOptions{Name: "lost"})
	always := b.create(container.CreateOptions{Name: "always", HostConfig: policy("always")})
	unless := b.create(container.CreateOptions{Name: "unless", HostConfig: policy("unless-stopped")})
	fresh := b.create(container.CreateOptions{Name: "fresh", HostConfig: policy("always")})
	for _, id := range []string{runs, ends, gone, lost, always, unless} {
		b.start(id)
	}
	for _, id := range []string{always, unless} {
		if err := b.Stop(t.Context(), id, container.StopOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b.close()
	b.rt.task(ends).finish(runtime.Exit{Code: 7})
	b.rt.task(gone).finish(runtime.Exit{Code: 0})
	delete(b.rt.tasks, lost)
	if err := os.MkdirAll(filepath.Join(b.dir, "containers", strings.Repeat("a", 64), "upper"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.open()
	if st := b.state(runs); !st.Running {
		t.Errorf("runs: %+v", st)
	}
	if !slices.Contains(b.nets.adopted, runs) || slices.Contains(b.nets.adopted, ends) {
		t.Errorf("adopted %v", b.nets.adopted)
	}
	if st := b.state(ends); st.Status != "exited" || st.ExitCode != 7 {
		t.Errorf("ends: %+v", st)
	}
	if _, err := b.ID(gone); !errdefs.IsNotFound(err) {
		t.Errorf("gone: %v", err)
	}
	if st := b.state(lost); st.Status != "exited" || st.ExitCode != 255 {
		t.Errorf("lost: %+v", st)
	}
	b.await(always, "a start by policy", func(s *ctypes.State) bool { return s.Running })
	if st := b.state(unless); st.Running {
		t.Errorf("unless-stopped: %+v", st)
	}
	if st := b.state(fresh); st.Status != "created" {
		t.Errorf("fresh: %+v", st)
	}
	b.close()
	if _, err := os.Stat(filepath.Join(b.dir, "containers", strings.Repeat("a", 64))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftover: %v", err)
	}
	b.open()
}

func TestAttachBeforeStart(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{Config: &ctypes.Config{Cmd: []string{"x"}}})
	var out bytes.Buffer
	opened, done := make(chan struct{}), make(chan error)
	go func() {
		done <- b.Attach(t.Context(), id, container.AttachOptions{Stream: true, Open: func(tty bool) (container.Streams, error) {
			close(opened)
			return container.Streams{Stdout: &out}, nil
		}})
	}()
	<-opened
	b.start(id)
	if err := b.Kill(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || out.String() != "hello\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	err := b.Attach(t.Context(), "nope", container.AttachOptions{})
	if !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestAttachEndsWithTheContainer(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{})
	opened, done := make(chan struct{}), make(chan error)
	go func() {
		done <- b.Attach(t.Context(), id, container.AttachOptions{Stream: true, Open: func(bool) (container.Streams, error) {
			close(opened)
			return container.Streams{Stdout: io.Discard}, nil
		}})
	}()
	<-opened
	// The attachment is registered under the lock that the removal takes.
	if err := b.Remove(t.Context(), id, container.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestExec(t *testing.T) {
	b := newBench(t)
	var args []string
	b.rt.exec = func(p *specs.Process) (runtime.Exit, string) {
		args = p.Args
		return runtime.Exit{Code: 5}, "out"
	}
	id := b.create(container.CreateOptions{})
	if _, err := b.ExecCreate(t.Context(), id, ctypes.ExecCreateRequest{Cmd: []string{"ls"}}); !errdefs.IsConflict(err) {
		t.Errorf("exec in a created container: %v", err)
	}
	b.start(id)
	x, err := b.ExecCreate(t.Context(), id, ctypes.ExecCreateRequest{Cmd: []string{"ls", "-l"}, AttachStdout: true})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.ExecStart(t.Context(), x, container.ExecStartOptions{Streams: container.Streams{Stdout: &out}}); err != nil {
		t.Fatal(err)
	}
	r, err := b.ExecInspect(t.Context(), x)
	if err != nil || r.Running || r.ExitCode == nil || *r.ExitCode != 5 || out.String() != "out" {
		t.Errorf("got %+v, %q, %v", r, out.String(), err)
	}
	if d := cmp.Diff([]string{"ls", "-l"}, args); d != "" {
		t.Error(d)
	}
	if err := b.ExecStart(t.Context(), x, container.ExecStartOptions{}); !errdefs.IsConflict(err) {
		t.Errorf("second start: %v", err)
	}
	if _, err := b.ExecCheck("nope"); !errdefs.IsNotFound(err) {
		t.Errorf("got %v", err)
	}
}

func TestHealth(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	code := 1
	b.rt.exec = func(*specs.Process) (runtime.Exit, string) {
		mu.Lock()
		defer mu.Unlock()
		return runtime.Exit{Code: code}, "said"
	}
	// An event comes after the state that it tells of, perhaps after the container's end.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seq := b.bus.Subscribe(ctx, time.Time{}, time.Time{}, filter.Args{"event": {"health_status"}})
	told := make(chan []string, 1)
	go func() {
		var list []string
		for m := range seq {
			if list = append(list, string(m.Action)); m.Action == "health_status: healthy" {
				break
			}
		}
		told <- list
	}()
	id := b.create(container.CreateOptions{Config: &ctypes.Config{Healthcheck: &ctypes.HealthConfig{
		Test: []string{"CMD", "check"}, Interval: time.Millisecond, Retries: 2,
	}}})
	b.start(id)
	b.await(id, "unhealthy", func(s *ctypes.State) bool { return s.Health.Status == ctypes.Unhealthy })
	mu.Lock()
	code = 0
	mu.Unlock()
	b.await(id, "healthy", func(s *ctypes.State) bool { return s.Health.Status == ctypes.Healthy })
	if log := b.state(id).Health.Log; log[len(log)-1].Output != "said" {
		t.Errorf("log %+v", log)
	}
	if err := b.Kill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
	if got := <-told; len(got) != 2 || got[0] != "health_status: unhealthy" || got[1] != "health_status: healthy" {
		t.Errorf("events %v", got)
	}
}

func TestList(t *testing.T) {
	b := newBench(t)
	up := b.create(container.CreateOptions{Name: "up", Config: &ctypes.Config{Labels: map[string]string{"a": "1"}}})
	b.create(container.CreateOptions{Name: "down", HostConfig: &ctypes.HostConfig{Binds: []string{"vol:/data"}}})
	b.start(up)
	tests := []struct {
		name string
		o    container.ListOptions
		want []string
	}{
		{"running", container.ListOptions{}, []string{"/up"}},
		{"all", container.ListOptions{All: true}, []string{"/down", "/up"}},
		{"limit", container.ListOptions{Limit: 1}, []string{"/down"}},
		{"status", container.ListOptions{Filters: filter.Args{"status": {"created"}}}, []string{"/down"}},
		{"label", container.ListOptions{All: true, Filters: filter.Args{"label": {"a=1"}}}, []string{"/up"}},
		{"name", container.ListOptions{All: true, Filters: filter.Args{"name": {"^/do"}}}, []string{"/down"}},
		{"before", container.ListOptions{All: true, Filters: filter.Args{"before": {"down"}}}, []string{"/up"}},
		{"since", container.ListOptions{All: true, Filters: filter.Args{"since": {"up"}}}, []string{"/down"}},
		{"volume", container.ListOptions{All: true, Filters: filter.Args{"volume": {"vol"}}}, []string{"/down"}},
		{"ancestor", container.ListOptions{All: true, Filters: filter.Args{"ancestor": {"box"}}}, []string{"/down", "/up"}},
		{"other ancestor", container.ListOptions{All: true, Filters: filter.Args{"ancestor": {"other"}}}, nil},
		{"network", container.ListOptions{All: true, Filters: filter.Args{"network": {"bridge"}}}, []string{"/down", "/up"}},
		{"exited", container.ListOptions{All: true, Filters: filter.Args{"exited": {"0"}}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := b.List(t.Context(), tt.o)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, c := range list {
				names = append(names, c.Names[0])
			}
			if d := cmp.Diff(tt.want, names); d != "" {
				t.Error(d)
			}
		})
	}
	for _, f := range []filter.Args{{"nope": {"x"}}, {"status": {"x"}}, {"exited": {"x"}}} {
		if _, err := b.List(t.Context(), container.ListOptions{Filters: f}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", f, err)
		}
	}
	if v, err := os.ReadFile(filepath.Join(b.dir, "volumes/vol/_data/sub/file")); err != nil || string(v) != "content" {
		t.Errorf("copied up: %q, %v", v, err)
	}
}

func TestRefusals(t *testing.T) {
	b := newBench(t)
	tests := []struct {
		name string
		c    ctypes.Config
		h    ctypes.HostConfig
		want string
	}{
		{"no image", ctypes.Config{}, ctypes.HostConfig{}, "no image specified"},
		{"unknown image", ctypes.Config{Image: "nope"}, ctypes.HostConfig{}, "No such image: nope"},
		{"directory", ctypes.Config{Image: "box", WorkingDir: "x"}, ctypes.HostConfig{}, "the working directory 'x' is invalid, it needs to be an absolute path"},
		{"memory", ctypes.Config{Image: "box"}, ctypes.HostConfig{Resources: ctypes.Resources{Memory: 1}}, "Minimum memory limit allowed is 6MB"},
		{"cpuset", ctypes.Config{Image: "box"}, ctypes.HostConfig{Resources: ctypes.Resources{CpusetCpus: "0,9999"}}, ""},
		{"policy and removal", ctypes.Config{Image: "box"}, ctypes.HostConfig{AutoRemove: true, RestartPolicy: ctypes.RestartPolicy{Name: "always"}}, "can't create 'AutoRemove' container with restart policy"},
		{"bind", ctypes.Config{Image: "box"}, ctypes.HostConfig{Binds: []string{"/a:b"}}, "invalid volume specification: '/a:b': invalid mount path: 'b' mount path must be absolute"},
		{"log driver", ctypes.Config{Image: "box"}, ctypes.HostConfig{LogConfig: ctypes.LogConfig{Type: "fluentd"}}, "the log driver fluentd is not supported: Muelle has journald, json-file, local, none, syslog"},
		{"other's network", ctypes.Config{Image: "box"}, ctypes.HostConfig{NetworkMode: "container:nope"}, "joining network namespace of container: No such container: nope"},
		{"capability", ctypes.Config{Image: "box"}, ctypes.HostConfig{CapAdd: []string{"NOPE"}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.Create(t.Context(), container.CreateOptions{Config: &tt.c, HostConfig: &tt.h})
			if err == nil || tt.want != "" && err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	b.close()
	b.leftovers()
	b.open()
}

func TestManyAtOnce(t *testing.T) {
	b := newBench(t)
	b.rt.end = &runtime.Exit{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			r, err := b.Create(t.Context(), container.CreateOptions{Config: &ctypes.Config{Image: "box"}, HostConfig: &ctypes.HostConfig{AutoRemove: true}})
			if err != nil {
				t.Error(err)
				return
			}
			wait, err := b.Wait(t.Context(), r.ID, ctypes.WaitConditionRemoved)
			if err == nil {
				err = b.Start(t.Context(), r.ID)
			}
			if err == nil {
				_, err = wait(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.close()
	b.leftovers()
	b.open()
}

// How long the daemon's end may wait for containers: Docker's rule.
func TestStopAllTimeout(t *testing.T) {
	b := newBench(t)
	run := func(name string, patience int) {
		b.create(container.CreateOptions{Name: name, Config: &ctypes.Config{Image: "busybox", StopTimeout: &patience}})
		b.start(name)
	}
	expect := func(when string, least, want int) {
		t.Helper()
		if got := b.StopAllTimeout(least); got != want {
			t.Errorf("%s: %d seconds with %d, want %d", when, got, least, want)
		}
	}
	expect("none runs", 15, 15)
	expect("none runs", -1, -1)
	run("patient", 60)
	run("hasty", 0)
	expect("one takes a minute", 15, 65)
	expect("one takes a minute", 90, 90)
	expect("one takes a minute", -7, -1)
	if err := b.Remove(t.Context(), "patient", container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	expect("it is gone", 1, 5)
	run("stubborn", -1)
	expect("one may take for ever", 15, -1)
}
