//go:build root

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// vendorHook does what vendors' hooks do: it reads the state, finds the root file system by
// the bundle, and makes a link and a list of libraries there.
const vendorHook = `#!/bin/sh
state=$(cat)
bundle=$(echo "$state" | sed -n 's/.*"bundle":"\([^"]*\)".*/\1/p')
root=$(sed -n 's/.*"root":{"path":"\([^"]*\)".*/\1/p' "$bundle/config.json")
case $1 in
create-symlinks) mkdir -p "$root/usr/lib" && ln -s "$2" "$root$3" ;;
update-ldcache) chroot "$root" /bin/sh -c "ls $2 >/etc/ld.so.cache" ;;
gone) echo gone >>"$2" ;;
fail) echo "the driver is not loaded" >&2; exit 1 ;;
hang) exec sleep 1000 ;;
esac
`

// gpuSpec is a CDI specification in the form of nvidia-ctk's.
const gpuSpec = `cdiVersion: 0.5.0
kind: vendor.com/gpu
containerEdits:
  hooks:
  - {hookName: createContainer, path: DIR/hook, args: [vendor-cdi-hook, create-symlinks, libvendor.so.1, /usr/lib/libvendor.so], env: ["PATH=/bin:/usr/bin"]}
  - {hookName: createContainer, path: DIR/hook, args: [vendor-cdi-hook, update-ldcache, /usr/lib], env: ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]}
  - {hookName: poststop, path: DIR/hook, args: [vendor-cdi-hook, gone, DIR/ends]}
  mounts:
  - {hostPath: DIR/libvendor.so.1, containerPath: /usr/lib/libvendor.so.1, options: [ro, nosuid, nodev, bind]}
devices:
- {name: all, containerEdits: {env: [VENDOR=all]}}
- {name: broken, containerEdits: {hooks: [{hookName: createContainer, path: DIR/hook, args: [vendor-cdi-hook, fail], env: ["PATH=/bin:/usr/bin"]}]}}
- {name: made, containerEdits: {hooks: [{hookName: createContainer, path: DIR/hook, args: [vendor-cdi-hook, create-symlinks, /bin/busybox, /bin/nvecho], env: ["PATH=/bin:/usr/bin"]}]}}
- {name: slow, containerEdits: {hooks: [{hookName: createRuntime, path: DIR/hook, args: [vendor-cdi-hook, hang], env: ["PATH=/bin:/usr/bin"], timeout: 1}]}}
`

// TestVendorHooks: a device whose specification has hooks, as nvidia's.
//
//muelle:ring
func TestVendorHooks(t *testing.T) {
	// On a disk: what lies in memory can be shown with other ids since Linux 6.3 only.
	dir, err := os.MkdirTemp("/var/tmp", "muelle-hooks")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	ends := filepath.Join(dir, "ends")
	for name, text := range map[string]string{"hook": vendorHook, "libvendor.so.1": "the library\n", "vendor.yaml": strings.ReplaceAll(gpuSpec, "DIR", dir)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := ours(own(t, "--cdi-spec-dir", dir, "--userns-pool", "1000000:1000000"))
	const look = "cat /usr/lib/libvendor.so /etc/ld.so.cache; echo $VENDOR; (: >/usr/lib/x) 2>/dev/null || echo closed"
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"run", nil, "the library\nlibvendor.so\nlibvendor.so.1\nall\n"},
		{"read-only", []string{"--read-only"}, "the library\nlibvendor.so\nlibvendor.so.1\nall\nclosed\n"},
		{"user namespace", []string{"--userns", "auto"}, "the library\nlibvendor.so\nlibvendor.so.1\nall\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			os.Remove(ends)
			// A user namespace's root runs the hook: it has to find it.
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"run", "--rm", "--device", "vendor.com/gpu=all"}, tt.args...)
			if slices.Contains(args, "--userns") && !remappable(t) {
				if r := c.try(t, append(args, "busybox", "true")...); r.code != 125 || !strings.Contains(r.err, "user namespaces need Linux 5.19 or newer") {
					t.Errorf("%+v", r)
				}
				return
			}
			if r := c.try(t, append(args, "busybox", "sh", "-c", look)...); r.code != 0 || r.out != tt.want {
				t.Errorf("%+v, want %q", r, tt.want)
			}
			if err := eventually(30*time.Second, func() error {
				if data, err := os.ReadFile(ends); string(data) != "gone\n" {
					return fmt.Errorf("the hook of the end has written %q: %v", data, err)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for _, tt := range []struct{ device, want string }{
		{"broken", "run createContainer hook 2 (" + dir + "/hook): exit status 1: the driver is not loaded"},
		{"slow", "run createRuntime hook 0 (" + dir + "/hook): it took longer than 1 s"},
	} {
		r := c.try(t, "run", "--rm", "--name", "held", "--device", "vendor.com/gpu="+tt.device, "busybox", "echo", "ran")
		if r.code != 125 || r.out != "" || !strings.Contains(r.err, tt.want) {
			t.Errorf("%s: %+v, want %q", tt.device, r, tt.want)
		}
	}
	// A program that a hook makes is found by its path, and by its name it is told why not.
	if r := c.try(t, "run", "--rm", "--device", "vendor.com/gpu=made", "busybox", "/bin/nvecho", "sh", "-c", "echo ran"); r.out+r.err != "nvecho: applet not found\n" {
		t.Errorf("%+v", r)
	}
	r := c.try(t, "run", "--rm", "--device", "vendor.com/gpu=made", "busybox", "nvecho")
	if r.code != 127 || !strings.Contains(r.err, `exec: "nvecho": executable file not found in $PATH (it is looked for before hooks run: one that a hook makes is named by its whole path)`) {
		t.Errorf("%+v", r)
	}
	if left := c.must(t, "ps", "-aq"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// remappable tells whether the kernel shows an overlay's layers with other ids, which is
// what user namespaces of containers take.
func remappable(t *testing.T) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 5 || major == 5 && minor >= 19
}
