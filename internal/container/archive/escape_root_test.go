//go:build root

package archive_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"muelle/internal/container/archive"
	"muelle/internal/container/rootfs"
)

// layers makes the folders of a container that does not run, and of something of the
// host's that it would like to reach: both have a folder of the same name.
func layers(t *testing.T) (o rootfs.Options, host string) {
	t.Helper()
	top := t.TempDir()
	for _, d := range []string{"lower/etc", "lower/dir", "upper", "work", "host/target"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	host = filepath.Join(top, "host")
	for name, text := range map[string]string{"lower/dir/file": "container", "host/target/file": "host"} {
		if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return rootfs.Options{
		Lower: []string{filepath.Join(top, "lower")}, Upper: filepath.Join(top, "upper"), Work: filepath.Join(top, "work"), Writable: true,
	}, host
}

// flip makes a name of the container alternate between a directory and a link to a
// path of the host, as fast as it can, until stop is called. This is the container's
// part of CVE-2018-15664.
func flip(t *testing.T, root *rootfs.Root, target string) (stop func()) {
	t.Helper()
	at, err := root.Open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		t.Fatal(err)
	}
	// A directory of the container's own layer: overlayfs renames no other.
	if err := unix.Mkdirat(at, "own", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Symlinkat(target, at, "link"); err != nil {
		t.Fatal(err)
	}
	ended, ready := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		once := sync.OnceFunc(func() { close(ready) })
		defer once()
		for n := 0; ; n++ {
			select {
			case <-ended:
				return
			default:
			}
			if err := unix.Renameat2(at, "own", at, "link", unix.RENAME_EXCHANGE); err != nil {
				t.Errorf("exchange: %v", err)
				return
			}
			if n == 10 {
				once()
			}
		}
	}()
	<-ready
	return func() {
		close(ended)
		wg.Wait()
		unix.Close(at)
	}
}

// TestCVE201815664 copies in and out of a directory that the container swaps for a link
// to the host all the time: the host's files are neither read nor written.
func TestCVE201815664(t *testing.T) {
	o, host := layers(t)
	root, err := rootfs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	stop := flip(t, root, filepath.Join(host, "target"))
	defer stop()
	var in, out int
	for range 1000 {
		b := stream(t, &tar.Header{Name: "own/file"}, &tar.Header{Name: "own/evil"})
		if err := archive.Unpack(t.Context(), root, "/", b, archive.UnpackOptions{}); err == nil {
			in++
		}
		var packed bytes.Buffer
		if err := archive.Pack(t.Context(), &packed, root, "/own/file", archive.IDs{}); err == nil {
			out++
		}
		if bytes.Contains(packed.Bytes(), []byte("host")) {
			t.Fatal("a file of the host was read")
		}
	}
	if in == 0 || out == 0 {
		t.Errorf("%d copies in and %d out succeeded: the race was never won by us", in, out)
	}
	if got, err := os.ReadFile(filepath.Join(host, "target/file")); err != nil || string(got) != "host" {
		t.Errorf("the host's file: %q, %v", got, err)
	}
	if list, err := os.ReadDir(filepath.Join(host, "target")); err != nil || len(list) != 1 {
		t.Errorf("the host's folder: %v, %v", list, err)
	}
}

// TestViewIsNowhereElse: what a view mounts, no process of the host sees, and a view that
// is only read changes nothing of the container.
func TestViewIsNowhereElse(t *testing.T) {
	o, host := layers(t)
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	o.Writable, o.Work = false, ""
	o.Mounts = []rootfs.Mount{
		{Source: filepath.Join(host, "target"), Destination: "/new/volume"},
		{Source: filepath.Join(host, "target/file"), Destination: "/etc/one"},
		{Source: host, Destination: "/new/volume/target", ReadOnly: true},
	}
	if err := os.Mkdir(filepath.Join(host, "target/target"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := rootfs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for name, want := range map[string]string{
		"/dir/file": "container", "/new/volume/file": "host", "/etc/one": "host", "/new/volume/target/target/file": "host",
	} {
		if got, err := root.ReadFile(name, 100); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	err = archive.Unpack(t.Context(), root, "/new/volume/target", stream(t, &tar.Header{Name: "x"}), archive.UnpackOptions{})
	if err == nil {
		t.Error("a read-only volume was written to")
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Errorf("mounts of the host changed:\n%s", after)
	}
	if list, err := os.ReadDir(o.Upper); err != nil || len(list) != 0 {
		t.Errorf("the container's layer has %v, %v", list, err)
	}
}

// TestOwnersAndDevices: owners, modes,
// devices and attributes arrive as they were sent, and none of them does anything here.
func TestOwnersAndDevices(t *testing.T) {
	o, _ := layers(t)
	root, err := rootfs.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3, Uid: 5, Gid: 6},
		{Name: "owned", Typeflag: tar.TypeReg, Mode: 0o4711, Uid: 1000, Gid: 2000, Format: tar.FormatPAX, PAXRecords: map[string]string{
			"SCHILY.xattr.user.note": "a\x00b", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		}},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := archive.Unpack(t.Context(), root, "/dir", &b, archive.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := archive.Pack(t.Context(), &packed, root, "/dir/.", archive.IDs{}); err != nil {
		t.Fatal(err)
	}
	got := map[string]*tar.Header{}
	for r := tar.NewReader(&packed); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		got[h.Name] = h
	}
	null, owned := got["./null"], got["./owned"]
	if null == nil || null.Typeflag != tar.TypeChar || null.Devmajor != 1 || null.Devminor != 3 || null.Uid != 5 || null.Gid != 6 || null.Mode != 0o666 {
		t.Errorf("device: %+v", null)
	}
	if owned == nil || owned.Uid != 1000 || owned.Gid != 2000 || owned.Mode != 0o4711 || len(owned.PAXRecords["SCHILY.xattr.security.capability"]) != 20 {
		t.Errorf("file: %+v", owned)
	}
	if _, err := root.Open("/dir/null", unix.O_RDONLY); err == nil {
		t.Error("a device of the container can be opened through the view")
	}
}
