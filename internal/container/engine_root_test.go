//go:build root

package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/vishvananda/netlink"

	"muelle/internal/container"
	"muelle/internal/event"
	"muelle/internal/image"
	"muelle/internal/image/imagetest"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
	"muelle/internal/remote"
	"muelle/internal/runtime/native"
	"muelle/internal/store"
	"muelle/internal/volume"
)

var shimPath string

// TestMain runs the tests again in a network and a mount namespace that stand for
// the host, with the shim built.
func TestMain(m *testing.M) {
	const mark = "MUELLE_TEST_SHIM"
	if shimPath = os.Getenv(mark); shimPath != "" {
		os.Exit(m.Run())
	}
	os.Exit(inOwnHost(mark))
}

func inOwnHost(mark string) int {
	dir, err := os.MkdirTemp("", "muelle-container-test")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	shim := filepath.Join(dir, "muelle-shim")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", shim, "muelle/cmd/muelle-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the shim: %v\n%s", err, out)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), mark+"="+shim)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// engine is every service that containers need, the real ones.
type engine struct {
	testing.TB
	dir, parent string
	bus         *event.Bus
	images      *image.Service
	vols        *volume.Service
	*container.Service
	closers []func(context.Context) error
}

func newEngine(t testing.TB) *engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "muelle-engine")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{TB: t, dir: dir, parent: fmt.Sprintf("muelle-test%d", os.Getpid())}
	if err := rtnl.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	e.open()
	e.load()
	t.Cleanup(func() {
		e.removeAll()
		e.close()
		e.leftovers()
		os.RemoveAll(dir)
	})
	return e
}

// open is what the daemon does when it starts.
func (e *engine) open() {
	e.Helper()
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(testWriter{e.TB}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	check := func(err error) {
		e.Helper()
		if err != nil {
			e.Fatal(err)
		}
	}
	e.bus = event.NewBus(1024)
	st, err := store.Open(ctx, filepath.Join(e.dir, "store"), log)
	check(err)
	resolver, err := remote.New(remote.Options{})
	check(err)
	e.images = image.New(image.Options{Store: st, Remote: resolver, Bus: e.bus, Log: log})
	rt, err := native.New(native.Options{ShimPath: shimPath, ExecRoot: filepath.Join(e.dir, "exec"), CgroupParent: e.parent, Log: log})
	check(err)
	nets, err := network.Open(ctx, network.Options{Root: filepath.Join(e.dir, "networks"), Instance: "c0ffee00", Bus: e.bus, Log: log})
	check(err)
	var problems []error
	e.vols, problems = volume.Open(filepath.Join(e.dir, "volumes"), e.bus)
	check(errors.Join(problems...))
	e.Service, err = container.Open(ctx, container.Options{
		Root: filepath.Join(e.dir, "containers"), ExecRoot: filepath.Join(e.dir, "exec/containers"), CgroupParent: e.parent,
		Runtime: rt, Images: e.images, Networks: nets, Volumes: e.vols, Bus: e.bus, Log: log,
	})
	check(err)
	e.closers = []func(context.Context) error{
		e.Service.Close, nets.Close, func(context.Context) error { return rt.Close() }, func(context.Context) error { return st.Close() },
	}
}

func (e *engine) close() {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, f := range e.closers {
		if err := f(ctx); err != nil {
			e.Error(err)
		}
	}
}

// testWriter logs for a test; what comes after it goes nowhere.
type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	fmt.Fprint(os.Stderr, string(p))
	return len(p), nil
}

// load gives the engine the image "box": busybox with a shell, users and a directory
// for a volume.
func (e *engine) load() {
	e.Helper()
	img, err := imagetest.Static("busybox", "/bin/busybox")
	if err != nil {
		e.Fatal(err)
	}
	img.Names = []string{"box:latest"}
	for _, name := range []string{"sh", "cat", "echo", "sleep", "true", "false", "id", "ls", "test", "kill", "seq", "head", "sha256sum"} {
		img.Layers[0]["bin/"+name+" -> busybox"] = ""
	}
	img.Layers[0]["etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
	img.Layers[0]["etc/group"] = "root:x:0:\napp:x:1000:\n"
	img.Layers = append(img.Layers, imagetest.Layer{"data/sub/file": "content\n", "data/link -> /etc/passwd": ""})
	img.Config.Env = []string{"PATH=/bin"}
	img.Config.Cmd = []string{"sh"}
	if err := e.images.Load(context.Background(), bytes.NewReader(imagetest.Archive(img)), true, func(jsonstream.Message) {}); err != nil {
		e.Fatal(err)
	}
}

func (e *engine) removeAll() {
	list, err := e.List(context.Background(), container.ListOptions{All: true})
	if err != nil {
		e.Error(err)
	}
	for _, c := range list {
		// One that removes itself may be about to, or done.
		gone, werr := e.Wait(context.Background(), c.ID, "removed")
		err := e.Remove(context.Background(), c.ID, container.RemoveOptions{Force: true, Volumes: true})
		if errdefs.IsConflict(err) && werr == nil {
			_, err = gone(context.Background())
		}
		if err != nil && !errdefs.IsNotFound(err) {
			e.Error(err)
		}
	}
}

// leftovers fails for every process, cgroup, mount, interface and folder of ours.
func (e *engine) leftovers() {
	e.Helper()
	for _, dir := range []string{"containers", "exec/containers"} {
		entries, err := os.ReadDir(filepath.Join(e.dir, dir))
		if err != nil {
			e.Error(err)
		}
		for _, entry := range entries {
			e.Errorf("left over: %s/%s", dir, entry.Name())
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		e.Error(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, e.dir) {
			e.Errorf("left over mount: %s", line)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		e.Error(err)
	}
	for _, l := range links {
		if name := l.Attrs().Name; strings.HasPrefix(name, "mue") {
			e.Errorf("left over interface %s", name)
		}
	}
	err = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == e.parent {
			groups, _ := filepath.Glob(path + "/*")
			for _, g := range groups {
				if info, err := os.Stat(g); err == nil && info.IsDir() {
					e.Errorf("left over cgroup %s", g)
				}
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // others' come and go
		}
		return err
	})
	if err != nil {
		e.Error(err)
	}
}

// make creates a container that runs a shell script.
func (e *engine) make(script string, hc *ctypes.HostConfig, change ...func(*ctypes.Config)) string {
	e.Helper()
	cfg := &ctypes.Config{Image: "box", Cmd: []string{"sh", "-c", script}}
	for _, f := range change {
		f(cfg)
	}
	r, err := e.Create(context.Background(), container.CreateOptions{Config: cfg, HostConfig: hc})
	if err != nil {
		e.Fatal(err)
	}
	return r.ID
}

// run starts a container with its output collected and waits for its end.
func (e *engine) run(id string, stdin io.Reader) (stdout, stderr []byte, code int) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	wait, err := e.Wait(ctx, id, ctypes.WaitConditionNextExit)
	if err != nil {
		e.Fatal(err)
	}
	var out, errOut bytes.Buffer
	opened, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- e.Attach(ctx, id, container.AttachOptions{Stream: true, Open: func(bool) (container.Streams, error) {
			close(opened)
			return container.Streams{Stdin: stdin, Stdout: &out, Stderr: &errOut}, nil
		}})
	}()
	<-opened
	if err := e.Start(ctx, id); err != nil {
		e.Fatal(err)
	}
	r, err := wait(ctx)
	if err != nil {
		e.Fatal(err)
	}
	if err := <-done; err != nil {
		e.Error(err)
	}
	return out.Bytes(), errOut.Bytes(), int(r.StatusCode)
}

// exec runs a command in a container.
func (e *engine) exec(id string, cmd ...string) (string, int) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	x, err := e.ExecCreate(ctx, id, ctypes.ExecCreateRequest{Cmd: cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		e.Fatal(err)
	}
	var out bytes.Buffer
	if err := e.ExecStart(ctx, x, container.ExecStartOptions{Streams: container.Streams{Stdout: &out, Stderr: &out}}); err != nil {
		return err.Error(), -1
	}
	r, err := e.ExecInspect(ctx, x)
	if err != nil || r.ExitCode == nil {
		e.Fatalf("inspect exec: %+v, %v", r, err)
	}
	return out.String(), *r.ExitCode
}

func (e *engine) start(id string) {
	e.Helper()
	if err := e.Start(context.Background(), id); err != nil {
		e.Fatal(err)
	}
}

func (e *engine) state(id string) *ctypes.State {
	e.Helper()
	r, err := e.Inspect(context.Background(), id, false)
	if err != nil {
		e.Fatal(err)
	}
	return r.State
}

func (e *engine) await(id, what string, f func(*ctypes.State) bool) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := e.AwaitState(ctx, id, func(s *ctypes.State) (bool, error) { return f(s), nil }); err != nil {
		e.Fatalf("await %s: %v", what, err)
	}
}
