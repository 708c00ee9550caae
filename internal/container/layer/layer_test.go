package layer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"muelle/internal/container/layer"
)

func TestCopyUpKeepsAttributesAndLinks(t *testing.T) {
	dir, target := t.TempDir(), t.TempDir()
	data := filepath.Join(dir, "data")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(data, "sub"), 0o750))
	must(os.WriteFile(filepath.Join(data, "sub/file"), []byte("x"), 0o640))
	must(os.Link(filepath.Join(data, "sub/file"), filepath.Join(data, "twin")))
	must(os.Symlink("/etc/passwd", filepath.Join(data, "out")))
	must(os.Chmod(data, 0o711|os.ModeSticky))
	// A link in the image that points out of it is followed inside the image.
	must(os.Symlink("/data", filepath.Join(dir, "way")))
	past := time.Unix(1e9, 0)
	must(os.Chtimes(filepath.Join(data, "sub/file"), past, past))
	must(layer.CopyUp(t.Context(), []string{dir}, "/way", target, target+".copy"))
	info, err := os.Lstat(target)
	must(err)
	if info.Mode() != os.ModeDir|0o711|os.ModeSticky {
		t.Errorf("mode of the volume is %v", info.Mode())
	}
	file, err := os.Stat(filepath.Join(target, "sub/file"))
	must(err)
	twin, err := os.Stat(filepath.Join(target, "twin"))
	must(err)
	if !os.SameFile(file, twin) || file.Mode() != 0o640 || !file.ModTime().Equal(past) {
		t.Errorf("file %v %v, same as its link: %v", file.Mode(), file.ModTime(), os.SameFile(file, twin))
	}
	if link, err := os.Readlink(filepath.Join(target, "out")); err != nil || link != "/etc/passwd" {
		t.Errorf("link: %q, %v", link, err)
	}
	must(layer.CopyUp(t.Context(), []string{dir}, "/missing", t.TempDir(), t.TempDir()+"/stage"))
	if err := layer.CopyUp(t.Context(), []string{dir}, "/data/twin", t.TempDir(), t.TempDir()+"/stage"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("over a file: %v", err)
	}
}

func TestReadFile(t *testing.T) {
	top, bottom := t.TempDir(), t.TempDir()
	for dir, content := range map[string]string{top: "top", bottom: "bottom"} {
		if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "etc", content), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"top", "bottom"} {
		if got, err := layer.ReadFile([]string{top, bottom}, "/etc/"+name); err != nil || string(got) != name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := layer.ReadFile([]string{top, bottom}, "/etc/none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// looking looks at a folder whenever it is asked whether it has ended.
type looking struct {
	context.Context
	look func()
}

func (l looking) Err() error {
	l.look()
	return l.Context.Err()
}

func TestCopyUpCutOffLeavesTheVolumeEmpty(t *testing.T) {
	image, volume := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(image, "data/a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(volume, "_data")
	for _, dir := range []string{target, target + ".copy", target + ".copy/half"} { // as a killed daemon leaves them
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	names := func() (names []string) {
		entries, err := os.ReadDir(target)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	ctx := looking{t.Context(), func() {
		if n := names(); len(n) > 0 {
			t.Errorf("in the middle of the copy the volume has %v", n)
		}
	}}
	if err := layer.CopyUp(ctx, []string{image}, "/data", target, target+".copy"); err != nil {
		t.Fatal(err)
	}
	if got := names(); len(got) != 1 || got[0] != "a" {
		t.Errorf("the volume has %v", got)
	}
	if entries, err := os.ReadDir(volume); err != nil || len(entries) != 1 {
		t.Errorf("beside the volume: %v, %v", entries, err)
	}
}
