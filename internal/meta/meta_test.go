package meta_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"muelle/internal/meta"
)

type record struct{ Name string }

func TestSaveLoadDelete(t *testing.T) {
	d, err := meta.Open[record](filepath.Join(t.TempDir(), "records"), 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, durable := range []bool{true, false} {
		if err := d.Save("a", &record{"one"}, durable); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load("a")
		if err != nil || got.Name != "one" {
			t.Fatalf("Load = %v, %v", got, err)
		}
		if err := d.Delete("a"); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Load("a"); !errdefs.IsNotFound(err) {
			t.Fatalf("after Delete: %v, want not found", err)
		}
		if err := d.Delete("a"); err != nil {
			t.Errorf("second Delete: %v", err)
		}
	}
}

func TestAllReportsBadFilesAndKeepsThem(t *testing.T) {
	dir := t.TempDir()
	d, err := meta.Open[record](dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Save("good", &record{"x"}, false); err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{
		"newer.json": `{"version":9,"record":{"Name":"y"}}`,
		"torn.json":  `{"version":1,"rec`,
		"empty.json": `{"version":1}`,
	}
	for name, text := range bad {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	records, errs := d.All()
	if diff := cmp.Diff(map[string]*record{"good": {"x"}}, records); diff != "" {
		t.Error(diff)
	}
	if len(errs) != len(bad) {
		t.Errorf("%d errors, want %d: %v", len(errs), len(bad), errs)
	}
	for name := range bad {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Errorf("%s was touched: %v", name, err)
		}
	}
}

func TestNamesCannotLeaveTheFolder(t *testing.T) {
	d, err := meta.Open[record](t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", "a/b", ".hidden", "x\x00"} {
		if err := d.Save(name, &record{}, false); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Save(%q) = %v, want invalid argument", strings.ToValidUTF8(name, "?"), err)
		}
	}
}
