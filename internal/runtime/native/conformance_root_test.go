//go:build root

package native_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"muelle/internal/runtime"
	"muelle/internal/runtime/native"
	"muelle/internal/runtime/runtimetest"
)

var shimPath string

func TestMain(m *testing.M) {
	if os.Getenv(oldKernel) != "" {
		if err := withoutSetattr(); err != nil {
			panic(err)
		}
		os.Unsetenv("MUELLE_TEST_SHIM") // a run of its own, with a cgroup of its own
	}
	if path := os.Getenv("MUELLE_TEST_SHIM"); path != "" {
		shimPath = path
		parent = os.Getenv("MUELLE_TEST_PARENT")
	}
	runtimetest.Daemon(newRuntime)
	dir, err := os.MkdirTemp("", "muelle-shim-test")
	if err != nil {
		panic(err)
	}
	shimPath = filepath.Join(dir, "muelle-shim")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", shimPath, "muelle/cmd/muelle-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the shim: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Setenv("MUELLE_TEST_SHIM", shimPath)
	os.Setenv("MUELLE_TEST_PARENT", parent)
	code := m.Run()
	if code == 0 {
		code = leaks()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

var parent = fmt.Sprintf("muelle-test%d", os.Getpid())

func newRuntime(t testing.TB, execRoot string) (runtime.Runtime, func()) {
	r, err := native.New(native.Options{ShimPath: shimPath, ExecRoot: execRoot, CgroupParent: parent,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		panic(err)
	}
	return r, func() { r.Close() }
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
		if strings.Contains(line, "TestConformance") || strings.Contains(line, "BenchmarkRuntime") {
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

func TestConformance(t *testing.T) {
	runtimetest.Run(t, runtimetest.Env{
		New:          newRuntime,
		CgroupParent: parent,
	})
}

func BenchmarkRuntime(b *testing.B) {
	runtimetest.Bench(b, runtimetest.Env{New: newRuntime, CgroupParent: parent}, 300*time.Millisecond)
}

func TestUserNamespaces(t *testing.T) {
	runtimetest.Users(t, runtimetest.Env{New: newRuntime, CgroupParent: parent})
}
