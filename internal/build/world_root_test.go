//go:build root

package build_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/sys/mountinfo"

	"muelle/client"
	"muelle/internal/build"
	"muelle/internal/buildclient"
	"muelle/internal/event"
	"muelle/internal/image"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
	"muelle/internal/remote"
	"muelle/internal/runtime/native"
	"muelle/internal/store"
)

var shimPath = os.Getenv("MUELLE_TEST_SHIM")

// TestMain builds the shim, then runs the tests again in network and mount
// namespaces of their own.
func TestMain(m *testing.M) {
	if shimPath != "" {
		os.Exit(m.Run())
	}
	code, err := inNamespaces()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func inNamespaces() (int, error) {
	dir, err := os.MkdirTemp("", "muelle-build-test")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	shim := filepath.Join(dir, "muelle-shim")
	compile := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", shim, "muelle/cmd/muelle-shim")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the shim: %w\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), "MUELLE_TEST_SHIM="+shim)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// world is an engine without containers: images, networks, a runtime and builds.
type world struct {
	testing.TB
	dir    string
	parent string
	images *image.Service
	store  *store.Store
	bus    *event.Bus
	builds *build.Service
	client *client.Client
	close  func()
}

var worlds int

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	must(t, syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""))
	must(t, rtnl.LoopbackUp())
	must(t, rtnl.Sysctl("ipv4/ip_forward", "0"))
	worlds++
	w := &world{TB: t, dir: t.TempDir(), parent: fmt.Sprintf("muelle-bt%d-%d", os.Getpid(), worlds)}
	must(t, os.Mkdir(filepath.Join(w.dir, "temp"), 0o700))
	w.open()
	t.Cleanup(func() {
		w.close()
		w.clean()
	})
	return w
}

func (w *world) open() {
	w.Helper()
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(testWriter{w.TB}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	st, err := store.Open(ctx, filepath.Join(w.dir, "store"), log)
	must(w.TB, err)
	hub, err := remote.New(remote.Options{})
	must(w.TB, err)
	w.store, w.bus = st, event.NewBus(100)
	w.images = image.New(image.Options{Store: st, Remote: hub, Bus: w.bus, Log: log})
	resolv := filepath.Join(w.dir, "resolv.conf")
	must(w.TB, os.WriteFile(resolv, []byte("nameserver 192.0.2.53\n"), 0o600))
	networks, err := network.Open(ctx, network.Options{Root: filepath.Join(w.dir, "networks"), Instance: "b1b1b1b1", ResolvConf: resolv, Log: log})
	must(w.TB, err)
	must(w.TB, networks.Adopted(ctx))
	rt, err := native.New(native.Options{ShimPath: shimPath, ExecRoot: filepath.Join(w.dir, "exec"), CgroupParent: w.parent, Log: log})
	must(w.TB, err)
	w.builds, err = build.Open(ctx, build.Options{
		Root: filepath.Join(w.dir, "buildkit"), ExecRoot: filepath.Join(w.dir, "exec", "build"), Store: st, Images: w.images,
		Temp: filepath.Join(w.dir, "temp"), Runtime: rt, Networks: networks, Remote: hub, Bus: w.bus, CgroupParent: w.parent, Log: log,
	})
	must(w.TB, err)
	stop := w.serve()
	w.close = sync.OnceFunc(func() {
		stop()
		if err := errors.Join(w.builds.Close(), networks.Close(ctx), rt.Close(), st.Close()); err != nil {
			w.Error(err)
		}
	})
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// serve answers the two requests of BuildKit's clients on a socket.
func (w *world) serve() (stop func()) {
	path := filepath.Join(w.dir, "sock")
	l, err := net.Listen("unix", path)
	must(w.TB, err)
	var open sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		conn, buf, err := rw.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		open.Add(1)
		defer open.Done()
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
		c := &bufferedConn{conn, buf.Reader}
		if strings.HasSuffix(r.URL.Path, "/session") {
			_ = w.builds.ServeSession(context.Background(), c, r.Header) // ends with the client
		} else {
			_ = w.builds.ServeGRPC(context.Background(), c)
		}
	})}
	go srv.Serve(l)
	w.client, err = client.New(client.Options{Host: "unix://" + path})
	must(w.TB, err)
	return func() {
		srv.Close()
		w.client.Close()
	}
}

type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// clean proves that nothing is left: no mount, cgroup, process folder, interface.
func (w *world) clean() {
	w.Helper()
	mounts, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(i.Mountpoint, w.dir) && !strings.Contains(i.Mountpoint, "buildkit-mount"), false
	})
	must(w.TB, err)
	for _, m := range mounts {
		w.Errorf("mount %s is left", m.Mountpoint)
	}
	left, err := filepath.Glob("/sys/fs/cgroup/*/" + w.parent)
	must(w.TB, err)
	for _, dir := range left {
		inner, err := filepath.Glob(dir + "/*/cgroup.procs")
		must(w.TB, err)
		for _, procs := range inner {
			if !strings.HasSuffix(filepath.Dir(procs), "shims") {
				w.Errorf("cgroup %s is left", filepath.Dir(procs))
			}
		}
	}
	if entries, err := os.ReadDir(filepath.Join(w.dir, "exec", "build")); err == nil {
		for _, e := range entries {
			w.Errorf("folder of step %s is left", e.Name())
		}
	}
	links, err := rtnl.Links("mue")
	must(w.TB, err)
	for _, l := range links {
		w.Errorf("interface %s is left", l.Name)
	}
}

// base makes the image "busybox" with our own builder.
func (w *world) base() {
	w.Helper()
	binary, err := os.ReadFile("/bin/busybox")
	must(w.TB, err)
	res := w.build(files{
		"busybox":    string(binary),
		"Dockerfile": "FROM scratch\nCOPY --chmod=755 busybox /bin/busybox\nRUN [\"/bin/busybox\",\"--install\",\"-s\",\"/bin\"]\nRUN mkdir -p /etc /tmp /root && echo root:x:0:0:root:/root:/bin/sh >/etc/passwd && echo u:x:1000:1000::/:/bin/sh >>/etc/passwd && chmod 1777 /tmp\nCMD [\"sh\"]\n",
	}, buildclient.Options{Tags: []string{"busybox"}})
	if res.err != nil {
		w.Fatalf("build the base image: %v\n%s", res.err, res.log)
	}
}

type files map[string]string

func (w *world) folder(f files) string {
	w.Helper()
	dir, err := os.MkdirTemp(w.dir, "ctx")
	must(w.TB, err)
	for name, content := range f {
		path := filepath.Join(dir, name)
		must(w.TB, os.MkdirAll(filepath.Dir(path), 0o755))
		must(w.TB, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir
}

type outcome struct {
	buildclient.Result
	err error
	log string
}

// lockedBuffer is written by a display and read by a test.
type lockedBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

// build builds as `muelle build` does, over the socket.
func (w *world) build(f files, o buildclient.Options) outcome {
	w.Helper()
	return w.buildIn(context.Background(), w.folder(f), o)
}

func (w *world) buildIn(ctx context.Context, dir string, o buildclient.Options) outcome {
	w.Helper()
	var log lockedBuffer
	p, err := buildclient.NewProgress(&log, "plain")
	must(w.TB, err)
	o.Client, o.ContextDir, o.Progress = w.client, dir, p
	res, err := buildclient.Build(ctx, o)
	must(w.TB, p.Close())
	return outcome{res, err, log.String()}
}

// export builds and gives the files of the result.
func (w *world) export(f files, o buildclient.Options) (string, outcome) {
	w.Helper()
	out, err := os.MkdirTemp(w.dir, "out")
	must(w.TB, err)
	o.Outputs = []string{out}
	res := w.build(f, o)
	return out, res
}

// classic builds as POST /build does.
func (w *world) classic(r build.Request, body io.Reader) (id, stream string, err error) {
	w.Helper()
	id, err = w.builds.Build(context.Background(), r, body, func(m jsonstream.Message) { stream += m.Stream })
	return id, stream, err
}
