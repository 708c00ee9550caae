package cli_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
)

// tarOf makes an archive of names; those with a slash at the end are folders, those
// with an arrow symbolic links.
func tarOf(t *testing.T, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, n := range names {
		h := &tar.Header{Name: n, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(n))}
		if strings.HasSuffix(n, "/") {
			h = &tar.Header{Name: n, Mode: 0o755, Typeflag: tar.TypeDir}
		}
		if name, target, ok := strings.Cut(n, "->"); ok {
			h = &tar.Header{Name: name, Mode: 0o777, Typeflag: tar.TypeSymlink, Linkname: target}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func statHeader(w http.ResponseWriter, isDir bool) {
	st := container.PathStat{Name: "x", Mode: 0o644}
	if isDir {
		st.Mode |= os.ModeDir
	}
	// A struct of plain fields always encodes.
	b, _ := json.Marshal(st)
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
}

func tree(t *testing.T, dir string) []string {
	t.Helper()
	out := []string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && p != dir && !d.IsDir() {
			out = append(out, strings.TrimPrefix(p, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCopyFrom(t *testing.T) {
	t.Setenv("DOCKER_CLIENT", "")
	folder, content, file := []string{"d/", "d/a", "d/sub/", "d/sub/b"}, []string{"./", "./a", "./sub/", "./sub/b"}, []string{"f"}
	for _, tc := range []struct {
		name, src, dst string
		entries        []string
		want           []string
		err            string
	}{
		{"folder into folder", "/d", "old", folder, []string{"old/d/a", "old/d/sub/b", "old/file"}, ""},
		{"folder as a new one", "/d", "new", folder, []string{"new/a", "new/sub/b", "old/file"}, ""},
		{"content into folder", "/d/.", "old", content, []string{"old/a", "old/file", "old/sub/b"}, ""},
		{"content as a new folder", "/d/.", "new", content, []string{"new/a", "new/sub/b", "old/file"}, ""},
		{"file into folder", "/f", "old", file, []string{"old/f", "old/file"}, ""},
		{"file as another", "/f", "old/g", file, []string{"old/file", "old/g"}, ""},
		{"file over a file", "/f", "old/file", file, []string{"old/file"}, ""},
		{"file into no folder", "/f", "new/", file, []string{"old/file"}, "no such directory\n"},
		{"folder over a file", "/d", "old/file", folder, []string{"old/file"}, "cannot copy directory\n"},
		{"file below nothing", "/f", "new/x/y", file, []string{"old/file"}, "invalid output path: directory \"new/x\" does not exist\n"},
		{"a link out of the folder", "/d", "new", []string{"d/", "d/l->/etc", "d/l/evil"}, []string{"new/l", "old/file"}, "extract d/l/evil: mkdirat new/l: "},
		{"a name out of the folder", "/d", "old", []string{"d/", "../../evil"}, []string{"old/file"}, "extract ../../evil: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEngine(t, nil)
			e.handlers["GET /containers/c/archive"] = func(w http.ResponseWriter, _ *http.Request) {
				statHeader(w, tc.entries[0] != "f")
				_, _ = w.Write(tarOf(t, tc.entries...))
			}
			dir := t.TempDir()
			t.Chdir(dir)
			if err := errors.Join(os.Mkdir("old", 0o755), os.WriteFile("old/file", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			got := e.run("muelle", "", "cp", "c:"+tc.src, tc.dst)
			if tc.err == "" && got.Code != 0 || !strings.HasPrefix(got.Err, tc.err) || tc.err != "" && got.Code != 1 {
				t.Errorf("%+v, want %q", got, tc.err)
			}
			if d := cmp.Diff(tc.want, tree(t, dir)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCopyTo(t *testing.T) {
	t.Setenv("DOCKER_CLIENT", "")
	for _, tc := range []struct {
		name, src, dst string
		exists, isDir  bool
		path           string
		want           []string
		err            string
	}{
		{"folder into folder", "d", "/to", true, true, "/to", []string{"d/", "d/a", "d/sub/", "d/sub/b"}, ""},
		{"folder as a new one", "d", "/to/new", false, false, "/to", []string{"new/", "new/a", "new/sub/", "new/sub/b"}, ""},
		{"content into folder", "d/.", "/to", true, true, "/to", []string{"./", "a", "sub/", "sub/b"}, ""},
		{"file into folder", "d/a", "/to", true, true, "/to", []string{"a"}, ""},
		{"file as another", "d/a", "/to/x", false, false, "/to", []string{"x"}, ""},
		{"folder over a file", "d", "/to/x", true, false, "", nil, "cannot copy directory\n"},
		{"file into no folder", "d/a", "/to/x/", false, false, "", nil, "no such directory\n"},
		{"nothing", "nope", "/to", true, true, "", nil, "lstat nope: no such file or directory\n"},
		{"a link to nothing, followed", "dangling", "/to", true, true, "", nil, "lstat gone: no such file or directory\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEngine(t, nil)
			if tc.exists {
				e.handlers["HEAD /containers/c/archive"] = func(w http.ResponseWriter, _ *http.Request) { statHeader(w, tc.isDir) }
			}
			var path string
			var names []string
			e.handlers["PUT /containers/c/archive"] = func(_ http.ResponseWriter, r *http.Request) {
				path = r.URL.Query().Get("path")
				for tr := tar.NewReader(r.Body); ; {
					h, err := tr.Next()
					if errors.Is(err, io.EOF) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					names = append(names, h.Name)
				}
			}
			t.Chdir(t.TempDir())
			if err := errors.Join(os.MkdirAll("d/sub", 0o755), os.WriteFile("d/a", []byte("a"), 0o600), os.WriteFile("d/sub/b", nil, 0o600), os.Symlink("gone", "dangling")); err != nil {
				t.Fatal(err)
			}
			args := []string{"cp", tc.src, "c:" + tc.dst}
			if tc.src == "dangling" {
				args = append(args, "-L")
			}
			got := e.run("muelle", "", args...)
			if got.Err != tc.err {
				t.Errorf("%+v, want %q", got, tc.err)
			}
			slices.Sort(names)
			if path != tc.path || fmt.Sprint(names) != fmt.Sprint(tc.want) {
				t.Errorf("%v in %s, want %v in %s", names, path, tc.want, tc.path)
			}
		})
	}
}
