package du_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"muelle/internal/linux/du"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// asked gives what du(1) says of paths.
func asked(t *testing.T, path string) (n int64) {
	t.Helper()
	out, err := exec.Command("du", "-sx", "--block-size=1", path).Output()
	must(t, err)
	_, err = fmt.Sscan(string(out), &n)
	must(t, err)
	return n
}

func TestEqualsDu(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "a/f"), make([]byte, 100_000), 0o600))
	must(t, os.Link(filepath.Join(dir, "a/f"), filepath.Join(dir, "a/b/g")))
	must(t, os.Symlink("/usr", filepath.Join(dir, "out")))
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	must(t, sparse.Truncate(1<<30))
	must(t, sparse.Close())
	got, err := du.New().Tree(t.Context(), dir)
	must(t, err)
	if want := asked(t, dir); got.Total() != want {
		t.Errorf("%d bytes, du says %d", got.Total(), want)
	}
}

func TestLinksAcrossTreesCountOnce(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"one", "two"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "one/f"), make([]byte, 100_000), 0o600))
	must(t, os.Link(filepath.Join(dir, "one/f"), filepath.Join(dir, "two/f")))
	one, err := du.Measure(t.Context(), filepath.Join(dir, "one"))
	must(t, err)
	for range 2 { // what was measured is good for several counts
		c := du.New()
		first := c.Add(one)
		second, err := c.Tree(t.Context(), filepath.Join(dir, "two"))
		must(t, err)
		if first.Files < 100_000 || second.Files != 0 {
			t.Errorf("%d and %d bytes", first.Files, second.Files)
		}
	}
}

func TestMissing(t *testing.T) {
	if s, err := du.New().Tree(t.Context(), filepath.Join(t.TempDir(), "nope")); err != nil || s.Total() != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
