//go:build root

package ocirun_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// A file system in memory with tmpcopyup begins with what the root file system has
// there, of which nothing is changed, and never with what its links lead to outside.
func TestCopyUp(t *testing.T) {
	const script = `cd /d; stat -c '%n %u %a %F' . f sub sub/g link out; cat f sub/g; readlink link; readlink out; echo x >new && echo y >f && echo writable
ls -A /none /var/run; stat -c %a /none /m; touch /m/x 2>&1; ls -A /d/over`
	for _, remapped := range []bool{false, true} {
		b := newBundle(t, "sh", "-c", script)
		root := b.spec.Root.Path
		secret := filepath.Join(t.TempDir(), "secret")
		for _, d := range []string{"d/sub", "d/over", "run", "var", "m"} {
			if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, text := range map[string]string{"d/f": "eff\n", "d/sub/g": "gee\n", "run/pid": "", "d/over/here": "", secret: "secret"} {
			if name != secret {
				name = filepath.Join(root, name)
			}
			if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		for name, target := range map[string]string{"d/link": "f", "d/out": secret, "var/run": "/run", "d/up": "../../../.."} {
			if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Join(root, "d"), 0o770|os.ModeSticky); err != nil {
			t.Fatal(err)
		}
		if remapped {
			b.remap()
		}
		memory := func(dest string, options ...string) specs.Mount {
			return specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: append(options, "nosuid", "tmpcopyup")}
		}
		b.spec.Mounts = append(b.spec.Mounts, memory("/d"), memory("/none", "mode=711"), memory("/var/run"), memory("/m", "ro", "mode=500"), memory("/d/over"))
		b.write()
		want := `. 0 1770 directory
f 0 640 regular file
sub 0 755 directory
sub/g 0 640 regular file
link 0 777 symbolic link
out 0 777 symbolic link
eff
gee
f
` + secret + `
writable
/none:

/var/run:
pid
711
500
touch: /m/x: Read-only file system
here
`
		if d := cmp.Diff(want, b.must("run", "--bundle", b.dir, b.id)); d != "" {
			t.Errorf("remapped %v: %s", remapped, d)
		}
		if text, err := os.ReadFile(filepath.Join(root, "d/f")); err != nil || string(text) != "eff\n" {
			t.Errorf("the root file system has %q, %v", text, err)
		}
	}
	b := newBundle(t, "true")
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/d", Type: "bind", Source: b.dir, Options: []string{"bind"}},
		specs.Mount{Destination: "/d/x", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
	b.write()
	b.fails("does not look into the mount of /d", "create", "--bundle", b.dir, b.id)
	b.spec.Mounts[len(b.spec.Mounts)-2].Options = []string{"bind", "tmpcopyup"}
	b.write()
	b.fails("tmpcopyup is for tmpfs only", "create", "--bundle", b.dir, b.id)
}
