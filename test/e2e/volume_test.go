//go:build root

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//muelle:ring
func TestVolumes(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "vol")
		if got := c.must(t, "volume", "create", "--label", "a=b", name); got != name {
			t.Errorf("create printed %q", got)
		}
		c.must(t, "run", "--rm", "-v", name+":/data", "busybox", "sh", "-c", "echo kept >/data/f")
		if got := c.must(t, "run", "--rm", "--mount", "type=volume,src="+name+",dst=/data,readonly", "busybox", "sh", "-c", "cat /data/f; touch /data/x 2>&1"+" || true"); got != "kept\ntouch: /data/x: Read-only file system" {
			t.Errorf("read back %q", got)
		}
		mountpoint := c.must(t, "volume", "inspect", "-f", "{{.Mountpoint}}", name)
		if data, err := os.ReadFile(filepath.Join(mountpoint, "f")); err != nil || string(data) != "kept\n" {
			t.Errorf("on the host: %q, %v", data, err)
		}
		if got := c.must(t, "volume", "ls", "-q", "--filter", "label=a=b"); got != name {
			t.Errorf("ls %q", got)
		}
		user := c.unique(t, "c")
		c.must(t, "create", "--name", user, "-v", name+":/data", "busybox")
		if r := c.try(t, "volume", "rm", name); r.code == 0 || !strings.Contains(r.err, "volume is in use") {
			t.Errorf("rm of a volume in use: %+v", r)
		}
		c.must(t, "rm", user)
		c.must(t, "volume", "rm", name)
		if r := c.try(t, "volume", "inspect", name); r.code == 0 || !strings.Contains(r.err, "no such volume") {
			t.Errorf("inspect of nothing: %+v", r)
		}
	})
}

func TestImageContentIsCopiedUp(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM busybox:1.36\nRUN mkdir /data && echo seed >/data/f && chown 7:8 /data && chmod 750 /data\nVOLUME /data\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		image := c.must(t, "build", "-q", dir)
		volume := c.unique(t, "vol")
		if got := c.must(t, "run", "--rm", "-v", volume+":/data", image, "sh", "-c", "cat /data/f; stat -c '%u:%g %a' /data"); got != "seed\n7:8 750" {
			t.Errorf("named volume: %q", got)
		}
		c.must(t, "run", "--rm", "-v", volume+":/data", image, "sh", "-c", "echo changed >/data/f")
		if got := c.must(t, "run", "--rm", "-v", volume+":/data", image, "cat", "/data/f"); got != "changed" {
			t.Errorf("copied again: %q", got)
		}
		c.must(t, "volume", "rm", volume)
		before := c.must(t, "volume", "ls", "-q")
		if got := c.must(t, "run", "--rm", image, "cat", "/data/f"); got != "seed" {
			t.Errorf("anonymous volume: %q", got)
		}
		if after := c.must(t, "volume", "ls", "-q"); after != before {
			t.Errorf("--rm left an anonymous volume: %q, before %q", after, before)
		}
	})
}

//muelle:ring
func TestBindMounts(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte("from the host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := c.must(t, "run", "--rm", "-v", dir+":/b:ro", "busybox", "sh", "-c", "cat /b/f; touch /b/x 2>/dev/null || echo ro"); got != "from the host\nro" {
			t.Errorf("%q", got)
		}
		if got := c.must(t, "run", "--rm", "-v", filepath.Join(dir, "f")+":/etc/one", "busybox", "cat", "/etc/one"); got != "from the host" {
			t.Errorf("a single file: %q", got)
		}
		made := filepath.Join(dir, "made")
		c.must(t, "run", "--rm", "-v", made+":/b", "busybox", "touch", "/b/x")
		if _, err := os.Stat(filepath.Join(made, "x")); err != nil {
			t.Errorf("-v makes a missing folder: %v", err)
		}
	})
}
