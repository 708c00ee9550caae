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

// testSubpaths mounts parts of folders that a container may have written to.
func testSubpaths(t *testing.T, s *suite) {
	h := s.host(t)
	source := func(t *testing.T) string {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("inside\n"), 0o644))
		must(t, os.Symlink("a/b", filepath.Join(dir, "link")))
		return dir
	}
	with := func(src, part string) func(*runtime.Container) {
		return func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/part", Type: "bind", Source: src, Options: []string{"rbind", "ro"}})
			c.Subpaths = map[string]string{"/part": part}
		}
	}
	for name, part := range map[string]string{"folder": "a/b", "link inside": "link", "with dots": "a/../a/b/."} {
		t.Run(name, func(t *testing.T) {
			if o := h.sh(t, "cat /part/f; touch /part/x || echo no", with(source(t), part)); o.stdout != "inside\nno\n" {
				t.Errorf("got %+v", o)
			}
		})
	}
	t.Run("file", func(t *testing.T) {
		if o := h.sh(t, "cat /part", with(source(t), "a/b/f")); o.stdout != "inside\n" {
			t.Errorf("got %+v", o)
		}
	})
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "f"), []byte("outside\n"), 0o644))
	for name, target := range map[string]string{"absolute": outside, "relative": strings.Repeat("../", 30) + outside, "proc": "/proc/self/root" + outside} {
		t.Run("link out, "+name, func(t *testing.T) {
			src := source(t)
			must(t, os.Symlink(target, filepath.Join(src, "out")))
			c := h.container("true")
			with(src, "out")(c)
			task, err := h.r.Start(ctxOf(t), c)
			if err == nil {
				must(t, task.Delete(ctxOf(t)))
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), "leads out of it") {
				t.Errorf("got %v", err)
			}
			h.gone(t, c)
		})
	}
	t.Run("missing", func(t *testing.T) {
		c := h.container("true")
		with(source(t), "nope")(c)
		task, err := h.r.Start(ctxOf(t), c)
		if err == nil {
			must(t, task.Delete(ctxOf(t)))
			t.Fatal("it started")
		}
		if !strings.Contains(err.Error(), `subpath "nope": no such file or directory`) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("part of an overlay", func(t *testing.T) {
		lower, upper := source(t), source(t)
		must(t, os.WriteFile(filepath.Join(upper, "a/b/f"), []byte("above\n"), 0o644))
		o := h.sh(t, "cat /part/f; touch /part/x || echo no; grep -c ' /part ' /proc/mounts", func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/part", Type: "overlay", Source: "overlay", Options: []string{"ro", "rprivate", "lowerdir=" + upper + ":" + lower}})
			c.Subpaths = map[string]string{"/part": "link"}
		})
		if o.stdout != "above\nno\n1\n" {
			t.Errorf("got %+v", o)
		}
	})
	t.Run("CVE-2021-30465 the part is replaced by a link meanwhile", func(t *testing.T) {
		src := source(t)
		must(t, os.Symlink(outside, filepath.Join(src, "evil")))
		defer exchange(t, filepath.Join(src, "a"), filepath.Join(src, "evil"))()
		must(t, os.WriteFile(filepath.Join(outside, "planted"), nil, 0o644))
		for range 25 {
			c := h.container("sh", "-c", "cat /part/f; ls /part")
			with(src, "a")(c)
			a := attach(c)
			task, err := h.r.Start(ctxOf(t), c)
			if err != nil {
				continue // it was the link
			}
			a.wait(t)
			must(t, task.Delete(ctxOf(t)))
			if out := a.stdout.String(); strings.Contains(out, "outside") || strings.Contains(out, "planted") {
				t.Fatalf("the host's folder was mounted: %q", out)
			}
		}
	})
	s.run(t, "CVE-2021-30465 a mount point in a volume is replaced by a link meanwhile", func(t *testing.T) {
		victim, vol, src := t.TempDir(), t.TempDir(), source(t)
		must(t, os.Mkdir(filepath.Join(vol, "point"), 0o755))
		must(t, os.Symlink(strings.Repeat("../", 30)+victim, filepath.Join(vol, "evil")))
		defer exchange(t, filepath.Join(vol, "point"), filepath.Join(vol, "evil"))()
		for range 25 {
			c := h.container("true")
			c.Spec.Mounts = append(c.Spec.Mounts,
				specs.Mount{Destination: "/vol", Type: "bind", Source: vol, Options: []string{"rbind"}},
				specs.Mount{Destination: "/vol/point/made", Type: "bind", Source: src, Options: []string{"rbind"}})
			if task, err := h.r.Start(ctxOf(t), c); err == nil {
				_, err = task.Wait(ctxOf(t))
				must(t, err)
				must(t, task.Delete(ctxOf(t)))
			}
		}
		left, err := os.ReadDir(victim)
		must(t, err)
		if len(left) > 0 {
			t.Errorf("made on the host: %v", left)
		}
	})
}

// exchange swaps two names again and again until the function that it gives is called.
func exchange(t *testing.T, one, other string) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, one, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
					t.Errorf("exchange: %v", err)
					return
				}
			}
		}
	}()
	return func() { close(end); <-ended }
}
