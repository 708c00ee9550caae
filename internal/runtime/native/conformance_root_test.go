//go:build root

package native_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"muelle/internal/runtime"
	"muelle/internal/runtime/native"
	"muelle/internal/runtime/runtimetest"
)

var shimPath string

func TestMain(m *testing.M) {
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
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var parent = fmt.Sprintf("muelle-test%d", os.Getpid())

func newRuntime(t testing.TB, execRoot string) (runtime.Runtime, func()) {
	r, err := native.New(native.Options{ShimPath: shimPath, ExecRoot: execRoot, CgroupParent: parent,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		t.Fatal(err)
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
