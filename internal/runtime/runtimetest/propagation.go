package runtimetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/runtime"
)

// testPropagation: where the host's mounts are shared, as systemd makes them all,
// no mount of a container appears among them and none of them goes with it.
func testPropagation(t *testing.T, s *suite) {
	mount := func(dir string) {
		t.Helper()
		must(t, os.MkdirAll(dir, 0o755))
		must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
		t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
		must(t, unix.Mount("", dir, "", unix.MS_SHARED, ""))
	}
	outer := filepath.Join(t.TempDir(), "shared")
	mount(outer)
	mount(filepath.Join(outer, "nested"))
	hostMounts := func() (below []string) {
		t.Helper()
		b, err := os.ReadFile("/proc/self/mountinfo")
		must(t, err)
		for line := range strings.Lines(string(b)) {
			if at := strings.Fields(line)[4]; strings.HasPrefix(at, outer) {
				below = append(below, strings.TrimPrefix(at, outer))
			}
		}
		return below
	}
	const want = " /nested"
	h := &host{t: t, s: s, root: filepath.Join(outer, "exec")}
	h.r, h.down = s.env.New(t, h.root)
	t.Cleanup(func() { h.down() })
	for _, propagation := range []string{"", "private", "rprivate", "slave", "rslave", "shared", "rshared"} {
		t.Run("root "+propagation, func(t *testing.T) {
			c := h.container("sleep", "1000")
			c.Spec.Linux.RootfsPropagation = propagation
			task, err := h.r.Start(ctxOf(t), c)
			must(t, err)
			if got := strings.Join(hostMounts(), " "); got != want {
				t.Errorf("while it runs, the host has the mounts %q, want %q", got, want)
			}
			must(t, task.Delete(ctxOf(t)))
			if got := strings.Join(hostMounts(), " "); got != want {
				t.Errorf("after it, the host has the mounts %q, want %q", got, want)
			}
			o := h.sh(t, "cut -d' ' -f5 /proc/self/mountinfo | grep -c "+outer, func(c *runtime.Container) { c.Spec.Linux.RootfsPropagation = propagation })
			if o.stdout != "0\n" {
				t.Errorf("mounts of the host in the container: %+v", o)
			}
		})
	}
	nested := filepath.Join(outer, "nested")
	bind := func(propagation, root string) *runtime.Container {
		c := h.container("sleep", "1000")
		c.Spec.Linux.RootfsPropagation = root
		c.Spec.Process.Capabilities.Bounding = append(defaultCaps[:len(defaultCaps):len(defaultCaps)], "CAP_SYS_ADMIN")
		c.Spec.Process.Capabilities.Effective, c.Spec.Process.Capabilities.Permitted = c.Spec.Process.Capabilities.Bounding, c.Spec.Process.Capabilities.Bounding
		c.Spec.Linux.Seccomp = nil
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: nested, Options: []string{"rbind", propagation}})
		return c
	}
	for _, tt := range []struct {
		propagation, root string
		out, in           bool // what the container mounts is seen by the host, and the other way round
	}{
		{"rprivate", "private", false, false}, {"rslave", "private", false, true}, {"rshared", "shared", true, true},
	} {
		t.Run("bind "+tt.propagation, func(t *testing.T) {
			c := bind(tt.propagation, tt.root)
			task := h.start(t, c)
			theirs, ours := filepath.Join(nested, "theirs"), filepath.Join(nested, "ours")
			must(t, os.MkdirAll(theirs, 0o755))
			must(t, os.MkdirAll(ours, 0o755))
			o := execRun(t, task, execOf(c, "mount", "-t", "tmpfs", "x", "/m/theirs"), runtime.ExecOptions{})
			if o.exit.Code != 0 {
				t.Fatalf("mount in the container: %+v", o)
			}
			if got := strings.Contains(strings.Join(hostMounts(), " "), "theirs"); got != tt.out {
				t.Errorf("the host sees the container's mount: %v", got)
			}
			must(t, unix.Mount("tmpfs", ours, "tmpfs", 0, ""))
			o = execRun(t, task, execOf(c, "grep", "-c", "/m/ours", "/proc/mounts"), runtime.ExecOptions{})
			if got := o.stdout == "1\n"; got != tt.in {
				t.Errorf("the container sees the host's mount: %v, %+v", got, o)
			}
			must(t, unix.Unmount(ours, unix.MNT_DETACH))
			must(t, task.Delete(ctxOf(t)))
			if tt.out {
				must(t, unix.Unmount(theirs, unix.MNT_DETACH))
			}
			if got := strings.Join(hostMounts(), " "); got != want {
				t.Errorf("after it, the host has the mounts %q, want %q", got, want)
			}
		})
	}
}
