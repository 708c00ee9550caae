package container_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/event"
	"muelle/internal/image"
	"muelle/internal/network"
	"muelle/internal/runtime"
	"muelle/internal/volume"
)

// fakeImages has one image, "box", of one layer.
type fakeImages struct {
	layer string
	img   *image.Image
	mu    sync.Mutex
	held  map[string]bool // container id → running
}

func (f *fakeImages) Get(_ context.Context, ref string) (*image.Image, error) {
	if ref != "box" && ref != f.img.ID.String() {
		return nil, errdefs.ErrNotFound.WithMessage("No such image: " + ref)
	}
	return f.img, nil
}
func (f *fakeImages) Lower(context.Context, *image.Image, string) ([]string, error) {
	return []string{f.layer}, nil
}
func (f *fakeImages) Release(string) {}
func (f *fakeImages) Commit(context.Context, image.CommitOptions) (digest.Digest, error) {
	return "", errdefs.ErrNotImplemented
}
func (f *fakeImages) Hold(_ digest.Digest, id, _ string, running bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held[id] = running
}
func (f *fakeImages) Unhold(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.held, id)
}

// fakeNetworks has the network bridge.
type fakeNetworks struct {
	mu      sync.Mutex
	on      map[string]bool
	asked   map[string]network.SandboxSpec
	adopted []string
	fail    error
	// unfollowed are containers whose ports are still to follow a zone.
	unfollowed []string
}

func (f *fakeNetworks) Get(ref string) (mnet.Summary, error) {
	var n mnet.Summary
	if ref != "bridge" && ref != "front" {
		return n, errdefs.ErrNotFound.WithMessage("network " + ref + " not found")
	}
	n.Name, n.ID = ref, "id-of-"+ref
	return n, nil
}
func (f *fakeNetworks) Prepare(_ context.Context, spec network.SandboxSpec) (*network.Sandbox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	f.on[spec.ID], f.asked[spec.ID] = true, spec
	return &network.Sandbox{ID: spec.ID, Hosts: []byte("127.0.0.1 localhost\n"), Ports: mnet.PortMap{},
		Endpoints: map[string]*mnet.EndpointSettings{"bridge": {IPAddress: netip.MustParseAddr("172.17.0.2")}}}, nil
}
func (f *fakeNetworks) Release(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.on, id)
	return nil
}
func (f *fakeNetworks) Adopt(_ context.Context, spec network.SandboxSpec, _ map[string]*os.File, _ *os.File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.adopted = append(f.adopted, spec.ID)
	return nil
}
func (f *fakeNetworks) Adopted(context.Context) error           { return nil }
func (f *fakeNetworks) Spare(map[string]*mnet.EndpointSettings) {}
func (f *fakeNetworks) Mend(context.Context, string, map[string]*mnet.EndpointSettings, network.Keeper) (*network.Change, error) {
	return nil, nil
}
func (f *fakeNetworks) Renamed(string, string) {}
func (f *fakeNetworks) ChangePorts(context.Context, string, mnet.PortMap, mnet.PortMap, network.Keeper) (mnet.PortMap, error) {
	return nil, errdefs.ErrNotImplemented
}
func (f *fakeNetworks) Capture(context.Context, string, *os.File, network.CaptureOptions, func(map[netip.Addr]string) io.Writer) (api.CaptureSummary, error) {
	return api.CaptureSummary{}, errdefs.ErrNotImplemented
}

func (f *fakeNetworks) Kernel(context.Context, string, *os.File) (*api.KernelNetwork, error) {
	return nil, errdefs.ErrNotImplemented
}
func (f *fakeNetworks) SetReady(string, bool) error                    { return nil }
func (f *fakeNetworks) Drain(string) error                             { return nil }
func (f *fakeNetworks) Asked(string, mnet.PortMap, mnet.PortSet, bool) {}
func (f *fakeNetworks) Connect(context.Context, string, string, *mnet.EndpointSettings, network.Keeper) (*network.Change, error) {
	return nil, errdefs.ErrNotImplemented
}
func (f *fakeNetworks) Displaced() []string { return nil }

func (f *fakeNetworks) Unfollowed() []string { return f.unfollowed }

func (f *fakeNetworks) ZonesFollowed() error { f.unfollowed = nil; return nil }

func (f *fakeNetworks) Republish(context.Context, string, network.Keeper) (*network.Change, error) {
	return &network.Change{}, nil
}

func (f *fakeNetworks) Disconnect(context.Context, string, string, network.Keeper) (*network.Change, error) {
	return nil, errdefs.ErrNotImplemented
}

// fakeRuntime runs nothing: a task ends when a test or a signal says so.
type fakeRuntime struct {
	mu    sync.Mutex
	tasks map[string]*fakeTask
	runs  map[string]int
	asked map[string]runtime.Container // what was started last
	fail  error
	// before, if not nil, is called with the name of what is to be started.
	before func(hostname string)
	// end, if not nil, is how every run ends at once.
	end *runtime.Exit
	// heeds says whether tasks end by SIGTERM.
	heeds   bool
	cleaned []string
	exec    func(p *specs.Process) (runtime.Exit, string)
	// prepared is how much is prepared and neither started nor discarded.
	prepared atomic.Int32
}

// fakePrepared counts what is prepared and neither started nor discarded.
type fakePrepared struct{ f *fakeRuntime }

func (p fakePrepared) Discard() error {
	p.f.prepared.Add(-1)
	return nil
}

func (p fakePrepared) Hold(context.Context, []runtime.Held) error { return nil }

func (f *fakeRuntime) Prepare(string, string, string, int) (runtime.Prepared, error) {
	f.prepared.Add(1)
	return fakePrepared{f}, nil
}

func (f *fakeRuntime) Start(_ context.Context, c *runtime.Container) (runtime.Task, error) {
	if c.Prepared != nil {
		f.prepared.Add(-1)
	}
	if f.before != nil {
		f.before(c.Spec.Hostname)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return nil, f.fail
	}
	t := &fakeTask{f: f, id: c.ID, started: time.Now(), ended: make(chan struct{})}
	for _, a := range c.Attach {
		if a.Stdout != nil {
			io.WriteString(a.Stdout, "hello\n")
		}
		t.attached = append(t.attached, a)
	}
	f.tasks[c.ID], f.runs[c.ID], f.asked[c.ID] = t, f.runs[c.ID]+1, *c
	if f.end != nil {
		t.finish(*f.end)
	}
	return t, nil
}

func (f *fakeRuntime) Load(_ context.Context, id, _ string) (runtime.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t, ok := f.tasks[id]; ok {
		return t, nil
	}
	return nil, errdefs.ErrNotFound
}

func (f *fakeRuntime) Clean(_ context.Context, id, _, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cleaned = append(f.cleaned, id)
	return nil
}

func (f *fakeRuntime) task(id string) *fakeTask {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tasks[id]
}

type fakeTask struct {
	f        *fakeRuntime
	id       string
	started  time.Time
	ended    chan struct{}
	once     sync.Once
	exit     runtime.Exit
	attached []*runtime.Streams
	deaf     atomic.Bool // its shim does not answer
}

func (t *fakeTask) finish(e runtime.Exit) {
	t.once.Do(func() {
		e.At = time.Now()
		t.exit = e
		close(t.ended)
		for _, a := range t.attached {
			a.Done(nil)
		}
	})
}

func (t *fakeTask) ID() string { return t.id }
func (t *fakeTask) Pid() int {
	select {
	case <-t.ended:
		return 0
	default:
		return os.Getpid() // one that has a /proc
	}
}
func (t *fakeTask) StartedAt() time.Time { return t.started }
func (t *fakeTask) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-t.ended:
		return t.exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}
func (t *fakeTask) Signal(_ context.Context, sig syscall.Signal) error {
	if t.Pid() == 0 {
		return errdefs.ErrFailedPrecondition
	}
	if sig == syscall.SIGKILL || sig == syscall.SIGTERM && t.f.heeds {
		t.finish(runtime.Exit{Code: 128 + int(sig), Signal: sig})
	}
	return nil
}
func (t *fakeTask) Pause(context.Context) error                  { return nil }
func (t *fakeTask) Resume(context.Context) error                 { return nil }
func (t *fakeTask) Resize(context.Context, uint16, uint16) error { return nil }
func (t *fakeTask) Attach(_ context.Context, s *runtime.Streams) error {
	t.attached = append(t.attached, s)
	return nil
}
func (t *fakeTask) Exec(_ context.Context, p *specs.Process, o runtime.ExecOptions) (runtime.Process, error) {
	exit, out := t.f.exec(p)
	if o.Streams != nil {
		if o.Streams.Stdout != nil {
			io.WriteString(o.Streams.Stdout, out)
		}
		o.Streams.Done(nil)
	}
	return fakeProcess{exit}, nil
}
func (t *fakeTask) Pids(context.Context) ([]int, error) { return []int{os.Getpid()}, nil }
func (t *fakeTask) Stats(context.Context) (*runtime.Stats, error) {
	return &runtime.Stats{Read: time.Now()}, nil
}
func (t *fakeTask) Logged(context.Context) (runtime.Logged, error) {
	if t.deaf.Load() {
		return runtime.Logged{}, errors.New("the shim ends")
	}
	return runtime.Logged{Partial: 1, Unread: 10, Unwritten: 100}, nil
}
func (t *fakeTask) Update(context.Context, *specs.LinuxResources) error { return nil }
func (t *fakeTask) Execs(context.Context) ([]runtime.Exec, error)       { return nil, nil }
func (t *fakeTask) Held(context.Context) (map[string]*os.File, error)   { return nil, nil }
func (t *fakeTask) Hold(context.Context, []runtime.Held) error          { return nil }
func (t *fakeTask) LetGo(context.Context, []string) error               { return nil }
func (t *fakeTask) NetNS(context.Context) (*os.File, error)             { return os.Open("/proc/self/ns/net") }
func (t *fakeTask) Delete(context.Context) error {
	t.finish(runtime.Exit{Code: 137})
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	if t.f.tasks[t.id] == t {
		delete(t.f.tasks, t.id)
	}
	return nil
}

type fakeProcess struct{ exit runtime.Exit }

func (p fakeProcess) Pid() int                                     { return 1 }
func (p fakeProcess) Wait(context.Context) (runtime.Exit, error)   { return p.exit, nil }
func (p fakeProcess) Signal(context.Context, syscall.Signal) error { return nil }
func (p fakeProcess) Resize(context.Context, uint16, uint16) error { return nil }

// bench is a Service over fakes; reopen gives the next one, as after a crash.
type bench struct {
	t      testing.TB
	dir    string
	rt     *fakeRuntime
	nets   *fakeNetworks
	images *fakeImages
	vols   *volume.Service
	bus    *event.Bus
	*container.Service
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	layer := filepath.Join(dir, "layer")
	for _, d := range []string{"etc", "data/sub"} {
		if err := os.MkdirAll(filepath.Join(layer, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(layer, "data/sub/file"), []byte("content"), 0o640); err != nil {
		t.Fatal(err)
	}
	img := &image.Image{ID: digest.FromString("box"), Manifest: ocispec.Descriptor{Digest: digest.FromString("manifest")}, ChainID: digest.FromString("chain")}
	img.Config = dockerspec.DockerOCIImage{}
	img.Config.Config.Cmd = []string{"sh"}
	img.Config.Config.Env = []string{"PATH=/bin"}
	b := &bench{
		t: t, dir: dir,
		rt:     &fakeRuntime{tasks: map[string]*fakeTask{}, runs: map[string]int{}, asked: map[string]runtime.Container{}, heeds: true},
		nets:   &fakeNetworks{on: map[string]bool{}, asked: map[string]network.SandboxSpec{}},
		images: &fakeImages{layer: layer, img: img, held: map[string]bool{}},
		bus:    event.NewBus(256),
	}
	var errs []error
	if b.vols, errs = volume.Open(filepath.Join(dir, "volumes"), b.bus); len(errs) > 0 {
		t.Fatal(errs)
	}
	b.open()
	t.Cleanup(func() { b.close() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	s, err := container.Open(b.t.Context(), container.Options{
		Root: filepath.Join(b.dir, "containers"), ExecRoot: filepath.Join(b.dir, "exec"), CgroupParent: "muelle-test",
		Runtime: b.rt, Images: b.images, Networks: b.nets, Volumes: b.vols, Bus: b.bus,
		Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.Service = s
}

func (b *bench) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		b.t.Error(err)
	}
}

func (b *bench) reopen() {
	b.close()
	b.open()
}

// create makes a container of the image box.
func (b *bench) create(o container.CreateOptions) string {
	b.t.Helper()
	if o.Config == nil {
		o.Config = &ctypes.Config{}
	}
	o.Config.Image = "box"
	r, err := b.Create(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.ID
}

func (b *bench) start(id string) {
	b.t.Helper()
	if err := b.Start(b.t.Context(), id); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) state(id string) *ctypes.State {
	b.t.Helper()
	r, err := b.Inspect(b.t.Context(), id, false)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.State
}

// await waits for a state, with the test's own patience.
func (b *bench) await(id string, what string, f func(*ctypes.State) bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	err := b.AwaitState(ctx, id, func(s *ctypes.State) (bool, error) { return f(s), nil })
	if err != nil {
		b.t.Fatalf("await %s: %v", what, err)
	}
}
