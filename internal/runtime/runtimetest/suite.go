// Package runtimetest is the conformance suite of runtime.Runtime: every
// implementation passes it. It needs root and busybox-static at /bin/busybox, from
// which it makes its root file system; it fails where something is missing.
package runtimetest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/logdriver"
	"muelle/internal/runtime"
)

// Env is what an implementation brings.
type Env struct {
	// New makes a runtime over an exec-root. It is called several times in one suite;
	// Close ends the object as a daemon's death would, leaving containers alone.
	New func(t testing.TB, execRoot string) (r runtime.Runtime, closeRuntime func())
	// Foreign says that failures are told in another runtime's words: then only the exit
	// codes are compared.
	Foreign bool
	// Except names cases, by the end of their name, that the runtime cannot pass, and why.
	Except map[string]string
	// CgroupParent is where the suite's containers lie.
	CgroupParent string
}

// Run runs the whole suite.
func Run(t *testing.T, env Env) {
	s := &suite{env: env, rootfs: MakeRootfs(t)}
	groups := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"lifecycle", testLifecycle}, {"streams", testStreams}, {"isolation", testIsolation},
		{"errors", testErrors}, {"exec", testExec}, {"resources", testResources},
		{"restart", testRestart}, {"escapes", testEscapes}, {"propagation", testPropagation}, {"subpaths", testSubpaths}, {"hooks", testHooks}, {"prepared", testPrepared},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) { g.run(t, s) })
	}
}

// run is t.Run for a case that not every runtime can pass.
func (s *suite) run(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	for end, why := range s.env.Except {
		if strings.HasSuffix(strings.ReplaceAll(t.Name()+"/"+name, " ", "_"), end) {
			t.Logf("%s does not apply: %s", name, why)
			return
		}
	}
	t.Run(name, f)
}

type suite struct {
	env    Env
	rootfs string
}

// MakeRootfs makes a busybox root file system.
func MakeRootfs(t testing.TB) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "rootfs")
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/u"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	must(t, os.Chmod(filepath.Join(root, "tmp"), 0o1777))
	data, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "bin/busybox"), data, 0o755))
	for _, n := range []string{"sh", "true", "false", "cat", "echo", "ls", "id", "sleep", "env", "pwd", "mount", "grep", "dd", "kill", "head", "tail", "wc", "stat", "hostname", "stty", "tty", "readlink", "ps", "touch", "md5sum", "mkdir", "rm", "seq", "yes", "nice", "umount", "mknod", "chmod", "sort", "cut", "test", "od", "usleep", "unshare", "nproc", "date"} {
		must(t, os.Symlink("busybox", filepath.Join(root, "bin", n)))
	}
	must(t, os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "bin/noexec"), []byte("x"), 0o644))
	must(t, os.WriteFile(filepath.Join(root, "bin/script"), []byte("#!/nonexistent/sh\n"), 0o755))
	return root
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var counter struct {
	sync.Mutex
	n int
}

func newID() string {
	counter.Lock()
	defer counter.Unlock()
	counter.n++
	return fmt.Sprintf("t%d-%d", os.Getpid(), counter.n)
}

// host is one exec-root with a runtime.
type host struct {
	t    testing.TB
	s    *suite
	root string
	r    runtime.Runtime
	down func()
}

func (s *suite) host(t *testing.T) *host {
	h := &host{t: t, s: s, root: t.TempDir()}
	h.r, h.down = s.env.New(t, h.root)
	t.Cleanup(func() { h.down() })
	return h
}

// Spec is a document as Docker's defaults make it, for a command.
func (s *suite) spec(id string, args ...string) *specs.Spec {
	return Spec(filepath.Join("/", s.env.CgroupParent, id), args...)
}

// container describes a container with an overlay over the busybox root.
func (h *host) container(args ...string) *runtime.Container {
	id := newID()
	dir := filepath.Join(h.root, "containers", id)
	must(h.t, os.MkdirAll(dir, 0o700))
	c := &runtime.Container{
		ID: id, Dir: dir, Spec: h.s.spec(id, args...), Rootfs: Overlay(h.t, h.s.rootfs),
		Log: logdriver.Config{Type: "json-file", Path: filepath.Join(h.root, id+".log"), MaxFile: 1},
	}
	return c
}

// Overlay mounts a root file system with a writable layer of its own.
func Overlay(t testing.TB, lower string) []runtime.Mount {
	dir := t.TempDir()
	upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	must(t, os.Mkdir(upper, 0o755))
	must(t, os.Mkdir(work, 0o755))
	return []runtime.Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=" + lower, "upperdir=" + upper, "workdir=" + work}}}
}

// buffer is a writer that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// outcome is what a finished container did.
type outcome struct {
	exit           runtime.Exit
	stdout, stderr string
}

// attached connects buffers to a container about to start.
type attached struct {
	stdout, stderr buffer
	done           chan error
}

func attach(c *runtime.Container) *attached {
	a := &attached{done: make(chan error, 1)}
	c.Attach = append(c.Attach, a.streams())
	return a
}

func (a *attached) streams() *runtime.Streams {
	return &runtime.Streams{Stdout: &a.stdout, Stderr: &a.stderr, Done: func(err error) { a.done <- err }}
}

func (a *attached) wait(t testing.TB) {
	t.Helper()
	select {
	case err := <-a.done:
		if err != nil {
			t.Fatalf("attachment: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("attachment does not end")
	}
}

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// start starts a container and deletes it at the test's end.
func (h *host) start(t testing.TB, c *runtime.Container) runtime.Task {
	t.Helper()
	task, err := h.r.Start(ctxOf(t), c)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := task.Delete(context.Background()); err != nil {
			t.Errorf("delete: %v", err)
		}
	})
	return task
}

// run runs a container to its end.
func (h *host) run(t testing.TB, c *runtime.Container) outcome {
	t.Helper()
	a := attach(c)
	task := h.start(t, c)
	exit, err := task.Wait(ctxOf(t))
	must(t, err)
	a.wait(t)
	must(t, task.Delete(ctxOf(t)))
	return outcome{exit, a.stdout.String(), a.stderr.String()}
}

// sh runs a shell script in a fresh container.
func (h *host) sh(t testing.TB, script string, change ...func(*runtime.Container)) outcome {
	t.Helper()
	c := h.container("sh", "-c", script)
	for _, f := range change {
		f(c)
	}
	return h.run(t, c)
}

// gone fails if anything of a container is left.
func (h *host) gone(t testing.TB, c *runtime.Container) {
	t.Helper()
	left, err := os.ReadDir(c.Dir)
	must(t, err)
	for _, e := range left {
		t.Errorf("%s is left in the container's folder", e.Name())
	}
	for _, dir := range cgroupDirs(c.Spec.Linux.CgroupsPath) {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("cgroup %s is left", dir)
		}
	}
}

func cgroupDirs(path string) []string {
	all, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	return append(all, "/sys/fs/cgroup"+path)
}
