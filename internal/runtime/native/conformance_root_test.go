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
	if left := runtimetest.Leaks(parent); code == 0 && len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left behind:\n"+strings.Join(left, "\n"))
		code = 1
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
