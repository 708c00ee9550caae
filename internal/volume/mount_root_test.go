//go:build root

package volume_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	wire "github.com/moby/moby/api/types/volume"

	"muelle/internal/event"
	"muelle/internal/volume"
)

const insideEnv = "MUELLE_VOLUME_TEST_INSIDE"

// TestMain gives the mounts a mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if cmd.Run() != nil {
		os.Exit(1)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mounted gives the mounts below root, as the kernel tells of them.
func mounted(t *testing.T, root string) (lines []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, root) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestDisksOfOthers: what an administrator has mounted on a volume without options is
// no leak, and a daemon that starts leaves it where it is.
func TestDisksOfOthers(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	for _, req := range []wire.CreateRequest{
		{Name: "disk"},
		{Name: "tmp", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs"}},
	} {
		_, err := s.Create(t.Context(), req)
		must(t, err)
	}
	must(t, syscall.Mount("tmpfs", filepath.Join(root, "disk", "_data"), "tmpfs", 0, ""))
	defer syscall.Unmount(filepath.Join(root, "disk", "_data"), syscall.MNT_DETACH)
	for _, s := range []*volume.Service{s, open(t, root)} {
		must(t, s.Settle())
		leaks, err := s.Leaks(t.Context())
		must(t, err)
		if len(leaks) > 0 || len(mounted(t, root)) != 1 {
			t.Errorf("%+v is a leak; mounted is %q", leaks, mounted(t, root))
		}
	}
}

func TestMountedWhileSomebodyUsesIt(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	v, err := s.Create(t.Context(), wire.CreateRequest{Name: "vv", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7,noexec"}})
	must(t, err)
	must(t, s.Mount(t.Context(), "vv", "one"))
	must(t, s.Mount(t.Context(), "vv", "two"))
	must(t, s.Mount(t.Context(), "vv", "two")) // the same user may ask again
	if got := mounted(t, root); len(got) != 1 || !strings.Contains(got[0], "size=1024k") || !strings.Contains(got[0], "uid=7") || !strings.Contains(got[0], "noexec") {
		t.Errorf("mounted: %q", got)
	}
	must(t, os.WriteFile(filepath.Join(v.Mountpoint, "f"), nil, 0o600))
	must(t, s.Unmount("vv", "one"))
	if _, err := os.Stat(filepath.Join(v.Mountpoint, "f")); err != nil {
		t.Errorf("unmounted while somebody uses it: %v", err)
	}
	must(t, s.Unmount("vv", "two"))
	must(t, s.Unmount("vv", "two"))
	if got := mounted(t, root); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestContentElsewhereIsNeverDeleted(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	precious := filepath.Join(elsewhere, "precious")
	must(t, os.WriteFile(precious, nil, 0o600))
	s := open(t, root)
	_, err := s.Create(t.Context(), wire.CreateRequest{Name: "vv", DriverOpts: map[string]string{"type": "none", "device": elsewhere, "o": "bind"}})
	must(t, err)
	must(t, s.Mount(t.Context(), "vv", "one"))
	must(t, s.Mount(t.Context(), "vv", "two"))
	must(t, s.Remove(t.Context(), "vv", false)) // nobody holds it: a start that was cut off mounted it
	if _, err := os.Stat(precious); err != nil {
		t.Fatalf("removed with the volume: %v", err)
	}
	if got := mounted(t, root); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	// A removal that was cut off after its rename, with the mount still there.
	trash := filepath.Join(root, ".removed-x", "_data")
	must(t, os.MkdirAll(trash, 0o700))
	must(t, syscall.Mount(elsewhere, trash, "", syscall.MS_BIND, ""))
	if _, problems := volume.Open(root, event.NewBus(1)); len(problems) > 0 {
		t.Error(problems)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Fatalf("removed with what was left: %v", err)
	}
}

func TestMountsOfADaemonThatWasKilled(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	for _, name := range []string{"used", "left"} {
		_, err := s.Create(t.Context(), wire.CreateRequest{Name: name, DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs"}})
		must(t, err)
		must(t, s.Mount(t.Context(), name, "c"))
	}
	next := open(t, root)
	must(t, next.Mount(t.Context(), "used", "c"))
	must(t, next.Settle())
	if got := mounted(t, root); len(got) != 1 || !strings.Contains(got[0], "/used/_data") {
		t.Errorf("mounted: %q", got)
	}
	must(t, next.Unmount("used", "c"))
}

func TestFailingMounts(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	for _, tt := range []struct {
		name string
		in   map[string]string
		want []string
	}{
		{"folder", map[string]string{"type": "none", "device": "/no/such", "o": "bind"}, []string{"failed to mount local volume", "no such file or directory", "mkdir -p /no/such"}},
		{"kind", map[string]string{"type": "nosuchfs", "device": "x"}, []string{"does not know the file system nosuchfs", "modprobe nosuchfs"}},
		{"device", map[string]string{"type": "ext4", "device": "/dev/nosuch"}, []string{"there is no device /dev/nosuch"}},
		{"folder as a device", map[string]string{"type": "ext4", "device": root}, []string{"is no block device"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := strings.ReplaceAll(tt.name, " ", "-")
			if _, err := s.Create(t.Context(), wire.CreateRequest{Name: name, DriverOpts: tt.in}); err != nil {
				t.Fatal(err)
			}
			err := s.Mount(t.Context(), name, "c")
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
		})
	}
	t.Run("option the kernel refuses", func(t *testing.T) {
		_, err := s.Create(t.Context(), wire.CreateRequest{Name: "bad", DriverOpts: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "sice=5m"}})
		if err == nil || !strings.Contains(err.Error(), "sice=5m") || !strings.Contains(err.Error(), "Unknown parameter") {
			t.Errorf("got %v", err)
		}
	})
	if got := mounted(t, root); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}
