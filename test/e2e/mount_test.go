//go:build root

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVolumeOptions(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		dir := t.TempDir()
		bind, mem := c.unique(t, "bind"), c.unique(t, "mem")
		c.must(t, "volume", "create", "-o", "type=none", "-o", "device="+dir, "-o", "o=bind", bind)
		c.must(t, "volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=7", mem)
		point := func(name string) string { return c.must(t, "volume", "inspect", "-f", "{{.Mountpoint}}", name) }
		if got := c.must(t, "run", "--rm", "-v", bind+":/b", "-v", mem+":/m", "busybox", "sh", "-c", "echo there >/b/f; stat -c %u /m; df -m /m | tail -1 | awk '{print $2}'; dd if=/dev/zero of=/m/x bs=1M count=2 2>&1 | grep -o 'No space left'"); got != "7\n1\nNo space left" {
			t.Errorf("got %q", got)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(data) != "there\n" {
			t.Errorf("in the folder: %q, %v", data, err)
		}
		// Two that run share even a tmpfs; nothing is mounted when they have ended.
		first := c.must(t, "run", "-d", "-v", mem+":/m", "busybox", "sh", "-c", "echo shared >/m/f; sleep 1000")
		if got := c.must(t, "run", "--rm", "-v", mem+":/m:ro", "busybox", "sh", "-c", "until test -s /m/f; do :; done; cat /m/f"); got != "shared" {
			t.Errorf("got %q", got)
		}
		if !mountedAt(t, point(mem)) {
			t.Error("unmounted under a container")
		}
		c.must(t, "rm", "-f", first)
		for _, name := range []string{bind, mem} {
			if mountedAt(t, point(name)) {
				t.Errorf("%s is still mounted", name)
			}
			c.must(t, "volume", "rm", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
			t.Errorf("removed with the volume: %v", err)
		}
		for _, tt := range []struct{ args, want string }{
			{"-o type=tmpfs", `missing required option: "device"`},
			{"-o colour=red", `invalid option: "colour"`},
			{"-o type=tmpfs -o device=tmpfs -o o=sice=1m", "sice=1m"},
			{"-d nosuch", "nosuch"},
		} {
			if r := c.try(t, append([]string{"volume", "create"}, strings.Fields(tt.args+" wrong")...)...); r.code == 0 || !strings.Contains(r.err, tt.want) {
				t.Errorf("create %s: %+v", tt.args, r)
			}
		}
		gone := c.unique(t, "gone")
		c.must(t, "volume", "create", "-o", "type=none", "-o", "device=/no/such", "-o", "o=bind", gone)
		if r := c.try(t, "run", "--rm", "-v", gone+":/b", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, "mkdir -p /no/such") {
			t.Errorf("run: %+v", r)
		}
		c.must(t, "volume", "rm", gone)
	})
}

func mountedAt(t *testing.T, point string) bool {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(data), " "+point+" ")
}

func TestMountFlags(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		dir, name := t.TempDir(), c.unique(t, "vol")
		image := buildImage(t, c, "FROM busybox:1.36\nRUN mkdir -p /tree/deep && echo leaf >/tree/deep/leaf\n")
		c.must(t, "volume", "create", name)
		run := func(mount, script string) string {
			t.Helper()
			return c.must(t, "run", "--rm", "--mount", mount, "busybox", "sh", "-c", script)
		}
		run("type=volume,src="+name+",dst=/v", "mkdir -p /v/a/b; echo part >/v/a/b/f; ln -s /etc /v/out; ln -s a/b /v/in")
		for mount, want := range map[string]string{
			"type=volume,src=" + name + ",dst=/v,volume-subpath=a/b":         "part",
			"type=volume,src=" + name + ",dst=/v,volume-subpath=in,readonly": "part",
			"type=image,src=" + image + ",dst=/v,image-subpath=tree/deep":    "leaf",
			"type=bind,src=" + dir + ",dst=/v,consistency=cached":            "",
			"type=tmpfs,dst=/v,tmpfs-size=1m,tmpfs-mode=0700":                "",
		} {
			if got := run(mount, "cat /v/* 2>/dev/null || true"); got != want {
				t.Errorf("%s: %q, want %q", mount, got, want)
			}
		}
		if got := run("type=image,src="+image+",dst=/v", "cat /v/tree/deep/leaf; ls /v/bin/busybox; touch /v/x || true"); !strings.HasPrefix(got, "leaf\n/v/bin/busybox") {
			t.Errorf("whole image: %q", got)
		}
		for mount, want := range map[string]string{
			"type=volume,src=" + name + ",dst=/v,volume-subpath=out":   "leads out of it",
			"type=volume,src=" + name + ",dst=/v,volume-subpath=nope":  "no such file or directory",
			"type=volume,src=" + name + ",dst=/v,volume-subpath=../..": "must be a relative path",
			"type=image,src=nosuchimage,dst=/v":                        "nosuchimage",
			"type=npipe,src=x,dst=/v":                                  "named pipes are of Windows",
			"type=cluster,src=x,dst=/v":                                "no swarm",
			"type=bind,src=" + dir + "/nope,dst=/v":                    "bind source path does not exist",
			"type=bind,src=" + dir + ",dst=/v,bind-propagation=shared": "is not a shared mount",
		} {
			if r := c.try(t, "run", "--rm", "--pull=never", "--mount", mount, "busybox", "true"); r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%s: %+v, want %q", mount, r, want)
			}
		}
		if c.name == "muelle" { // Debian's client is older than this field
			run("type=bind,src="+dir+"/made,dst=/v,bind-create-src", "touch /v/f")
			if _, err := os.Stat(filepath.Join(dir, "made", "f")); err != nil {
				t.Error(err)
			}
		}
		// The image stays for a container that mounts it, though its name goes.
		user := c.must(t, "create", "--mount", "type=image,src="+image+",dst=/v", "busybox", "cat", "/v/tree/deep/leaf")
		for _, state := range []string{"created", "exited"} {
			if r := c.try(t, "cp", user+":/v/tree/deep/leaf", "-"); r.code != 0 || !strings.Contains(r.out, "leaf\n") {
				t.Errorf("cp out of a mounted image, %s: %d %s", state, r.code, r.err)
			}
			if r := c.try(t, "cp", "mount_test.go", user+":/v/x"); r.code == 0 || !strings.Contains(r.err, "marked read-only") {
				t.Errorf("cp into a mounted image, %s: %+v", state, r)
			}
			c.must(t, "start", "-a", user)
		}
		c.must(t, "rmi", "-f", image)
		if got := c.must(t, "start", "-a", user); got != "leaf" {
			t.Errorf("got %q", got)
		}
		c.must(t, "rm", user)
		c.must(t, "volume", "rm", name)
	})
}

func TestVolumesFromChains(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name, dir := c.unique(t, "vol"), t.TempDir()
		first := c.must(t, "create", "-v", name+":/v", "-v", dir+":/b", "busybox")
		second := c.must(t, "create", "--volumes-from", first+":ro", "busybox")
		c.must(t, "rm", first)
		if got := c.must(t, "run", "--rm", "--volumes-from", second+":rw,z", "busybox", "sh", "-c", "touch /v/x /b/x 2>&1 | grep -c Read-only; grep -c -E ' /(v|b) ' /proc/mounts"); got != "2\n2" {
			t.Errorf("got %q", got)
		}
		if r := c.try(t, "volume", "rm", name); r.code == 0 || !strings.Contains(r.err, "volume is in use") {
			t.Errorf("rm: %+v", r)
		}
		if r := c.try(t, "create", "--volumes-from", first, "busybox"); r.code == 0 || !strings.Contains(r.err, "No such container") {
			t.Errorf("from one that was removed: %+v", r)
		}
		c.must(t, "rm", second)
		c.must(t, "volume", "rm", name)
	})
}

func buildImage(t *testing.T, c client, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	return c.must(t, "build", "-q", dir)
}
