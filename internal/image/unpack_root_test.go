//go:build root

package image_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/image/imagetest"
	"muelle/internal/remote"
)

// The layers of an image, stacked by overlay, are the image's files: whiteouts hide,
// opaque directories start anew.
func TestUnpackedLayersStack(t *testing.T) {
	img := imagetest.Image{Names: []string{"test:1"}, Layers: []imagetest.Layer{
		{"etc/": "", "etc/a": "1", "etc/b": "1", "dir/": "", "dir/old": "1", "gone/": "", "gone/x": "1"},
		{"etc/.wh.a": "", "dir/": "", "dir/.wh..wh..opq": "", "dir/new": "2", ".wh.gone": ""},
		{"etc/b": "3", "link -> etc/b": ""},
	}}
	want := map[string]string{"etc/b": "3", "dir/new": "2", "link": "-> etc/b"}
	server := &imagetest.Registry{}
	server.Add("x/test", "latest", img.Blobs())
	host := serve(t, server)
	for name, get := range map[string]func(e engine) string{
		"loaded": func(e engine) string { load(t, e, imagetest.Archive(img)); return "test:1" },
		"pulled": func(e engine) string { pull(t, e, host+"/x/test"); return host + "/x/test" },
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, remote.Options{})
			found, err := e.Get(t.Context(), get(e))
			if err != nil {
				t.Fatal(err)
			}
			dirs, err := e.Lower(t.Context(), found, "c1")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, stacked(t, dirs)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// stacked mounts overlay in a mount namespace that ends with its thread, and reads
// every file.
func stacked(t *testing.T, lower []string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	type result struct {
		files map[string]string
		err   error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread, and its namespace, end with the goroutine.
		runtime.LockOSThread()
		files, err := mountAndRead(dir, lower)
		done <- result{files, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.files
}

func mountAndRead(dir string, lower []string) (map[string]string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return nil, err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	if err := unix.Mount("overlay", dir, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(lower, ":")); err != nil {
		return nil, err
	}
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dir+"/")
		if entry.Type() == os.ModeSymlink {
			target, err := os.Readlink(path)
			files[name] = "-> " + target
			return err
		}
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	return files, err
}
