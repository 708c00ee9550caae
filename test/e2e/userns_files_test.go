//go:build root

package e2e

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testRemappedFiles: whatever leaves or enters a container in a user namespace has the
// ids that the container knows, and needs no shifting anywhere else.
func testRemappedFiles(t *testing.T, c client, mode ...string) {
	name := c.unique(t, fmt.Sprintf("files%d", len(mode)))
	run := append([]string{"run", "-d", "--name", name}, mode...)
	c.must(t, append(run, "busybox", "sh", "-c", `mkdir /d; echo hello >/d/a; touch /d/b; chown 7:8 /d/b; echo x >>/etc/passwd; rm /bin/yes; touch /ready; exec sleep 600`)...)
	c.remove(t, name)
	c.must(t, "exec", name, "sh", "-c", "until [ -e /ready ]; do usleep 10000; done")
	owners := map[string]string{"d": "0:0", "d/a": "0:0", "d/b": "7:8"}
	check := func(what string, tarball, prefix string) {
		t.Helper()
		got := map[string]string{}
		for r := tar.NewReader(strings.NewReader(tarball)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			n := strings.Trim(h.Name, "/")
			if n == prefix || strings.HasPrefix(n, prefix+"/") {
				got[n] = fmt.Sprintf("%d:%d", h.Uid, h.Gid)
			}
		}
		if d := cmp.Diff(owners, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	diff := strings.Split(c.must(t, "diff", name), "\n")
	for _, want := range []string{"A /d", "A /d/a", "A /d/b", "C /etc", "C /etc/passwd", "D /bin/yes"} {
		if !slices.Contains(diff, want) {
			t.Errorf("diff lacks %q: %q", want, diff)
		}
	}
	for _, l := range diff {
		if strings.HasPrefix(l, "C /usr") || strings.HasPrefix(l, "C /root") {
			t.Errorf("diff tells of an unchanged path: %q", l)
		}
	}
	check("cp out", c.try(t, "cp", name+":/d", "-").out, "d")
	check("export", c.try(t, "export", name).out, "d")
	dir := t.TempDir()
	c.must(t, "cp", "-a", name+":/d", filepath.Join(dir, "out"))
	st, err := os.Stat(filepath.Join(dir, "out", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if s := st.Sys().(*syscall.Stat_t); c.name == "muelle" && (s.Uid != 7 || s.Gid != 8) { // Docker's client gives them to the caller
		t.Errorf("cp -a made it %d:%d's", s.Uid, s.Gid)
	}
	// A folder in, running and stopped.
	if err := os.MkdirAll(filepath.Join(dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "in", "f"), []byte("in"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(dir, "in", "f"), 44, 45); err != nil {
		t.Fatal(err)
	}
	c.must(t, "cp", filepath.Join(dir, "in"), name+":/running")
	c.must(t, "stop", "-t", "0", name)
	c.must(t, "cp", "-a", filepath.Join(dir, "in"), name+":/stopped")
	c.must(t, "start", name)
	if got := c.must(t, "exec", name, "sh", "-c", "stat -c %u:%g /running /running/f /stopped/f && cat /running/f"); got != "0:0\n44:45\n44:45\nin" {
		t.Errorf("copied in: %q", got)
	}
	image := name + "-image"
	c.must(t, "commit", "--change", "ENV A=b", name, image)
	defer c.must(t, "rmi", "-f", image)
	for _, as := range [][]string{mode, {"--userns", "host"}} {
		args := append(append([]string{"run", "--rm"}, as...), image, "sh", "-c", "stat -c %u:%g /d /d/a /d/b /stopped/f; ls /bin/yes 2>/dev/null; echo $A")
		if got := c.must(t, args...); got != "0:0\n0:0\n7:8\n44:45\nb" {
			t.Errorf("%v: of the committed image: %q", as, got)
		}
	}
	if got := c.must(t, "ps", "-s", "--filter", "name="+name, "--format", "{{.Size}}"); got == "" || strings.HasPrefix(got, "0B") {
		t.Errorf("its size is %q", got)
	}
	var df struct {
		Containers []struct{ Names, Size string }
	}
	if err := json.Unmarshal([]byte(c.must(t, "system", "df", "-v", "--format", "{{json .}}")), &df); err != nil {
		t.Fatal(err)
	}
	var size string
	for _, one := range df.Containers {
		if one.Names == name {
			size = one.Size
		}
	}
	if size == "" || strings.HasPrefix(size, "0B") {
		t.Errorf("system df has size %q of %s", size, name)
	}
}
