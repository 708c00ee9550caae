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
	if left := runtimetest.Leaks(parent); code == 0 && len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left behind:\n"+strings.Join(left, "\n"))
		code = 1
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
		return chosen{outside.New(own, map[string]outside.Binary{name: {Path: path}}, filepath.Join(bin, "docker-init")), name}, func() { own.Close() }
	}
}

// except are the cases that cannot apply.
var except = map[string]map[string]string{
	"muelle-oci": {},
	"runc": {
		"a_mount_point_in_a_volume_is_replaced_by_a_link_meanwhile": "runc 1.1.5 makes mount points by paths that may change meanwhile",
		"exec/limit_of_files":                                         "runc 1.1 gives an exec the container's own limits",
		"hooks/startContainer_fails":                                  "runc's start does not tell that they failed; the container exits",
		"hooks/a_hook_hangs":                                          "runc 1.1 waits for what a hook that it has killed has started",
		"hooks/a_hook_in_the_container_hangs":                         "runc 1.1 waits for what a hook that it has killed has started",
		"resources/pids":                                              "runc's own init has threads, which need room below the limit",
		"isolation/hostname":                                          "runc 1.1 knows no domain name",
		"isolation/read-only_paths":                                   "runc binds a file over /proc/sysrq-trigger only where it may be opened",
		"binds/read-only,_other_flags_stay":                           "runc 1.1 clears the flags of a bind's source",
		"binds/other_flags_change":                                    "runc 1.1 clears the flags of a bind's source",
		"errors/not_executable,_in_PATH":                              "runc looks on and calls it not found",
		"errors/a_file_as_working_directory":                          "runc makes the directory and fails there",
		"errors/interpreter_is_missing":                               "runc's start does not tell that exec failed; the container exits",
		"CVE-2025-31133_/dev/null_of_the_container_in_a_mask's_place": "runc 1.1.5 has the fault",
		"CVE-2025-52565_/dev/console_is_a_link":                       "runc 1.1.5 does not start it",
		"CVE-2025-52881_sysctl_written_elsewhere":                     "runc 1.1.5 does not start it",
	},
}

func TestConformance(t *testing.T) {
	for name, except := range except {
		t.Run(name, func(t *testing.T) {
			t.Setenv(nameVariable, name)
			runtimetest.Run(t, runtimetest.Env{New: with(name), CgroupParent: parent, Foreign: true, Except: except})
		})
	}
}
