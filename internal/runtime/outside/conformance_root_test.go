//go:build root

package outside_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"muelle/internal/runtime"
	"muelle/internal/runtime/native"
	"muelle/internal/runtime/outside"
	"muelle/internal/runtime/runtimetest"
)

// What a subprocess of the suite must know of the run it belongs to.
const (
	binVariable    = "MUELLE_TEST_BIN"
	parentVariable = "MUELLE_TEST_PARENT"
	nameVariable   = "MUELLE_TEST_RUNTIME"
)

var (
	bin    string
	parent = fmt.Sprintf("muelle-out%d", os.Getpid())
)

func TestMain(m *testing.M) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if bin = os.Getenv(binVariable); bin != "" {
		parent = os.Getenv(parentVariable)
		runtimetest.Daemon(with(os.Getenv(nameVariable)))
	}
	dir, err := os.MkdirTemp("", "muelle-outside-test")
	if err != nil {
		panic(err)
	}
	bin = dir
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "muelle/cmd/muelle-shim", "muelle/cmd/muelle-oci")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Setenv(binVariable, bin)
	os.Setenv(parentVariable, parent)
	code := m.Run()
	if code == 0 {
		code = leaks()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// chosen gives every container the runtime under test.
type chosen struct {
	runtime.Runtime
	name string
}

func (c chosen) Start(ctx context.Context, in *runtime.Container) (runtime.Task, error) {
	one := *in
	one.Runtime = c.name
	return c.Runtime.Start(ctx, &one)
}

func with(name string) func(t testing.TB, execRoot string) (runtime.Runtime, func()) {
	return func(t testing.TB, execRoot string) (runtime.Runtime, func()) {
		path := filepath.Join(bin, name)
		if name == "runc" {
			var err error
			if path, err = exec.LookPath("runc"); err != nil {
				panic(err) // hack/deps.sh installs it
			}
		}
		shim := filepath.Join(bin, "muelle-shim")
		own, err := native.New(native.Options{ShimPath: shim, ExecRoot: execRoot, CgroupParent: parent,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		if err != nil {
			panic(err)
		}
		return chosen{outside.New(own, map[string]outside.Binary{name: {Path: path}}, shim), name}, func() { own.Close() }
	}
}

func TestConformance(t *testing.T) {
	for _, name := range []string{"muelle-oci", "runc"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(nameVariable, name)
			runtimetest.Run(t, runtimetest.Env{New: with(name), CgroupParent: parent})
		})
	}
}

// leaks fails if anything of the tests is left: cgroups, mounts, shims.
func leaks() (code int) {
	complain := func(what string) {
		fmt.Fprintln(os.Stderr, "left behind:", what)
		code = 1
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + parent)
	for _, g := range append(groups, "/sys/fs/cgroup/"+parent) {
		if _, err := os.Stat(g); err == nil {
			complain("cgroup " + g)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		complain(err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "TestConformance") {
			complain("mount " + line)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		if b, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(b), fmt.Sprintf("muelle-shim\x00t%d-", os.Getpid())) {
			complain("process " + p)
		}
	}
	return code
}
