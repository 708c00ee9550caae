package archive_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"muelle/internal/container/archive"
	"muelle/internal/container/rootfs"
)

// newRoot makes a container's root of files: "dir/", "link -> target", "file".
func newRoot(t testing.TB, files ...string) (*rootfs.Root, string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range files {
		var err error
		link, target, isLink := strings.Cut(name, " -> ")
		full := filepath.Join(dir, link)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case isLink:
			err = os.Symlink(target, full)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(full, 0o755)
		default:
			err = os.WriteFile(full, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	root := rootfs.NewRoot(f)
	t.Cleanup(func() { root.Close() })
	return root, dir
}

// entries lists a stream: names, with "-> target" for links and "= name" for hard ones.
func entries(t *testing.T, r io.Reader) (list []string) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		line := h.Name
		switch h.Typeflag {
		case tar.TypeSymlink:
			line += " -> " + h.Linkname
		case tar.TypeLink:
			line += " = " + h.Linkname
		}
		list = append(list, line)
	}
}

func TestPackNamesEntriesAsDocker(t *testing.T) {
	root, dir := newRoot(t, "d/a", "d/sub/b", "file", "link -> d", "away -> /d/sub", "out -> ../../../../d")
	if err := os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, "d/twin")); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		want []string
	}{
		{"/d", []string{"d/", "d/a", "d/sub/", "d/sub/b", "d/twin = d/a"}},
		{"d/", []string{"d/", "d/a", "d/sub/", "d/sub/b", "d/twin = d/a"}},
		{"/d/.", []string{"./", "./a", "./sub/", "./sub/b", "./twin = ./a"}},
		{"/file", []string{"file"}},
		{"/d/../file", []string{"file"}},
		{"/link", []string{"link -> d"}},
		{"/link/", []string{"link/", "link/a", "link/sub/", "link/sub/b", "link/twin = link/a"}},
		{"/link/sub", []string{"sub/", "sub/b"}},
		{"/away/.", []string{"./", "./b"}},
		{"/out/sub/b", []string{"b"}},
		{"/", []string{"/", "/away -> /d/sub", "/d/", "/d/a", "/d/sub/", "/d/sub/b", "/d/twin = /d/a", "/file", "/link -> d", "/out -> ../../../../d"}},
	} {
		var b bytes.Buffer
		if err := archive.Pack(t.Context(), &b, root, tc.name, archive.IDs{}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, entries(t, &b)); diff != "" {
			t.Errorf("%s: %s", tc.name, diff)
		}
	}
	var b bytes.Buffer
	if err := archive.Pack(t.Context(), &b, root, "/none", archive.IDs{}); !errors.Is(err, fs.ErrNotExist) || b.Len() > 0 {
		t.Errorf("of nothing: %v, %d bytes", err, b.Len())
	}
}

func TestStat(t *testing.T) {
	root, _ := newRoot(t, "d/a", "link -> d/a", "out -> ../../etc/none", "loop -> loop")
	for _, tc := range []struct {
		name, as, target string
		mode             os.FileMode
		err              string
	}{
		{"/d", "d", "", os.ModeDir | 0o755, ""},
		{"/d/.", ".", "", os.ModeDir | 0o755, ""},
		{"/", "/", "", os.ModeDir | 0o755, ""},
		{"d/a", "a", "", 0o644, ""},
		{"/link", "link", "/d/a", os.ModeSymlink | 0o777, ""},
		{"/out", "out", "/etc/none", os.ModeSymlink | 0o777, ""},
		{"/loop", "", "", 0, "follow /loop: too many levels of symbolic links"},
		{"/d/a/", "", "", 0, "lstat /d/a/: not a directory"},
		{"/none", "", "", 0, "lstat /none: no such file or directory"},
	} {
		st, err := archive.Stat(root, tc.name)
		if tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err != nil || st.Name != tc.as || st.LinkTarget != tc.target || st.Mode != tc.mode {
			t.Errorf("%s: %+v, %v", tc.name, st, err)
		}
	}
}

func own(h *tar.Header) *tar.Header {
	h.Uid, h.Gid, h.ModTime = os.Getuid(), os.Getgid(), time.Unix(1e9, 0)
	if h.Mode == 0 {
		h.Mode = 0o644
	}
	return h
}

func stream(t testing.TB, headers ...*tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, 3
		}
		if err := w.WriteHeader(own(h)); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("new")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestUnpack(t *testing.T) {
	root, dir := newRoot(t, "d/old", "d/sub/kept", "d/link -> /real", "real/", "d/dangling -> /made/here")
	b := stream(t,
		&tar.Header{Name: "old"}, &tar.Header{Name: "sub/", Typeflag: tar.TypeDir, Mode: 0o700}, &tar.Header{Name: "sub/in"},
		&tar.Header{Name: "link/through"}, &tar.Header{Name: "dangling/file"}, &tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "../../../etc"},
		&tar.Header{Name: "setuid", Mode: 0o4755}, &tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "setuid"},
		&tar.Header{Name: "pipe", Typeflag: tar.TypeFifo},
	)
	if err := archive.Unpack(t.Context(), root, "/d", b, archive.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"d/old": "new", "d/sub/in": "new", "d/sub/kept": "d/sub/kept", "real/through": "new", "made/here/file": "new", "d/hard": "new",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]os.FileMode{
		"d/sub": os.ModeDir | 0o700, "d/setuid": 0o755 | os.ModeSetuid, "d/pipe": os.ModeNamedPipe | 0o644, "d/s": os.ModeSymlink | 0o777,
	} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want || !info.ModTime().Equal(time.Unix(1e9, 0)) {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		header *tar.Header
		strict bool
		err    string
	}{
		{"a name out of the directory", &tar.Header{Name: "../evil"}, false, `"../evil" is outside of "/d"`},
		{"a file over a directory", &tar.Header{Name: "sub"}, true, `cannot overwrite directory "/d/sub" with non-directory "/d"`},
		{"a directory over a file", &tar.Header{Name: "old/", Typeflag: tar.TypeDir}, true, `cannot overwrite non-directory "/d/old" with directory "/d"`},
		{"a link to what is not there", &tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "../../sub/nosuch"}, false, `invalid hardlink "l" -> "../../sub/nosuch": there is no /d/sub/nosuch`},
		{"a file in place of the destination", &tar.Header{Name: "."}, false, `cannot overwrite directory "/d" with non-directory "/d"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root, dir := newRoot(t, "d/old", "d/sub/kept")
			b := stream(t, tc.header)
			err := archive.Unpack(t.Context(), root, "/d", b, archive.UnpackOptions{NoOverwriteDirNonDir: tc.strict})
			if !errdefs.IsInvalidArgument(err) || err.Error() != tc.err {
				t.Errorf("%v", err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "d/old")); err != nil || string(got) != "d/old" {
				t.Errorf("what was there: %q, %v", got, err)
			}
		})
	}
}

// TestUnpackReplaces: without the option a directory and a file replace each other.
func TestUnpackReplaces(t *testing.T) {
	root, dir := newRoot(t, "d/old", "d/sub/kept/deep")
	b := stream(t, &tar.Header{Name: "sub"}, &tar.Header{Name: "old/", Typeflag: tar.TypeDir, Mode: 0o755})
	if err := archive.Unpack(t.Context(), root, "/d", b, archive.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "d/sub")); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "d/old")); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
}

// TestUnpackCutOff: a client that goes away leaves whole files only.
func TestUnpackCutOff(t *testing.T) {
	root, dir := newRoot(t, "d/first", "d/second")
	b := stream(t, &tar.Header{Name: "first"}, &tar.Header{Name: "second"})
	cut := b.Bytes()[:512+512+512+2]
	err := archive.Unpack(t.Context(), root, "/d", bytes.NewReader(cut), archive.UnpackOptions{})
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("%v", err)
	}
	got := map[string]string{}
	list, err := os.ReadDir(filepath.Join(dir, "d"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		data, err := os.ReadFile(filepath.Join(dir, "d", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(data)
	}
	if diff := cmp.Diff(map[string]string{"first": "new", "second": "d/second"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestHolesStayHoles: zeros of a stream take no room on disk, at the end either.
func TestHolesStayHoles(t *testing.T) {
	root, dir := newRoot(t, "d/")
	const size = 8 << 20
	if err := os.WriteFile(filepath.Join(dir, "sparse"), []byte("begin"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "sparse"), size); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := archive.Pack(t.Context(), &b, root, "/sparse", archive.IDs{}); err != nil {
		t.Fatal(err)
	}
	if err := archive.Unpack(t.Context(), root, "/d", &b, archive.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "d/sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if blocks := blocksOf(info); info.Size() != size || blocks*512 > size/4 {
		t.Errorf("%d bytes in %d blocks", info.Size(), blocks)
	}
	data, err := os.ReadFile(filepath.Join(dir, "d/sparse"))
	if err != nil || !bytes.HasPrefix(data, []byte("begin\x00")) {
		t.Errorf("%q, %v", data[:8], err)
	}
}

// A file that the container changes while it is read leaves the stream whole.
func TestPackOfAFileThatChanges(t *testing.T) {
	root, dir := newRoot(t, "d/a", "d/b")
	name := filepath.Join(dir, "d/a")
	if err := os.WriteFile(name, bytes.Repeat([]byte("x"), 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		if err := os.Truncate(name, 1<<10); err != nil {
			t.Error(err)
		}
		return b.Write(p)
	})
	if err := archive.Pack(t.Context(), w, root, "/d", archive.IDs{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"d/", "d/a", "d/b"}, entries(t, &b)); diff != "" {
		t.Error(diff)
	}
}

func blocksOf(info os.FileInfo) int64 { return info.Sys().(*syscall.Stat_t).Blocks }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// FuzzUnpack: whatever a stream says, nothing appears outside of the root, and what was
// beside it stays.
// sparse is an archive of one file that is a hole of the given size.
func sparse(t testing.TB, size uint64) []byte {
	t.Helper()
	b := stream(t, &tar.Header{Name: "hole", Typeflag: tar.TypeFifo, Mode: 0o644, Format: tar.FormatGNU}).Bytes()
	number := func(at int, n uint64) {
		copy(b[at:at+12], make([]byte, 12))
		b[at] = 0x80
		binary.BigEndian.PutUint64(b[at+4:], n)
	}
	b[156] = tar.TypeGNUSparse
	number(124, 0)    // what follows
	number(386, size) // where the last piece begins
	number(386+12, 0) // and its length
	number(483, size) // of the file
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// lastRead cancels when everything was read.
type lastRead struct {
	r      io.Reader
	cancel func()
}

func (l lastRead) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil || n > 0 {
		l.cancel()
	}
	return n, err
}

// TestHugeHole: a header of half a kilobyte claims a file that takes half an hour to
// look at. It ends with its client.
func TestHugeHole(t *testing.T) {
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root := rootfs.NewRoot(dir)
	defer root.Close()
	mine := archive.UnpackOptions{Owner: &[2]int{os.Getuid(), os.Getgid()}}
	if err := archive.Unpack(t.Context(), root, "/", bytes.NewReader(sparse(t, 3<<20)), mine); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(dir.Name(), "hole")); err != nil || fi.Size() != 3<<20 {
		t.Fatalf("a small hole: %v, %v", fi, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = archive.Unpack(ctx, root, "/", lastRead{bytes.NewReader(sparse(t, 8<<40)), cancel}, mine)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a huge hole: %v", err)
	}
	if list, err := os.ReadDir(dir.Name()); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
}

// FuzzUnpack works on files, whose names and times differ each time: Go's minimizer, which
// takes its minute for each input then and counts nothing, is to be kept short by
// -fuzzminimizetime 10x.
func FuzzUnpack(f *testing.F) {
	f.Add(sparse(f, 1<<20))
	f.Add(stream(f, &tar.Header{Name: "a"}, &tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../beside"}, &tar.Header{Name: "l/x"}).Bytes())
	f.Add(stream(f, &tar.Header{Name: "../a"}, &tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../beside/kept"}).Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		for _, d := range []string{"root/d", "beside"} {
			if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		kept := filepath.Join(top, "beside/kept")
		if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		dir, err := os.Open(filepath.Join(top, "root"))
		if err != nil {
			t.Fatal(err)
		}
		root := rootfs.NewRoot(dir)
		defer root.Close()
		// Whether it is accepted is not the point.
		_ = archive.Unpack(t.Context(), root, "/d", bytes.NewReader(data), archive.UnpackOptions{Owner: &[2]int{os.Getuid(), os.Getgid()}})
		for name, want := range map[string]int{top: 2, filepath.Join(top, "beside"): 1} {
			if list, err := os.ReadDir(name); err != nil || len(list) != want {
				t.Errorf("%s has %v, %v", name, list, err)
			}
		}
		if got, err := os.ReadFile(kept); err != nil || string(got) != "kept" {
			t.Errorf("beside: %q, %v", got, err)
		}
		var b bytes.Buffer
		if err := archive.PackTree(t.Context(), &b, root, archive.IDs{}); err != nil {
			t.Errorf("pack what came out: %v", err)
		}
	})
}
