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

// packed is written as something shorter where it can be.
type packed struct{ Long, Short string }

func (p *packed) Pack() (*packed, int) {
	if p.Long == "aaaa" {
		return &packed{Short: "4a"}, 2
	}
	return p, 1
}

func (p *packed) Unpack() error {
	switch p.Short {
	case "4a":
		p.Long, p.Short = "aaaa", ""
	case "bad":
		return os.ErrInvalid
	}
	return nil
}

func TestPacked(t *testing.T) {
	dir := t.TempDir()
	d, err := meta.Open[packed](dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	older := meta.At[packed](dir, 1)
	for _, tc := range []struct {
		long, text string
		older      bool
	}{{"aaaa", `{"version":2,"record":{"Long":"","Short":"4a"}}`, false}, {"b", `{"version":1,"record":{"Long":"b","Short":""}}`, true}} {
		if err := d.Save("one", &packed{Long: tc.long}, false); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "one.json")); err != nil || string(text) != tc.text {
			t.Errorf("wrote %s, %v", text, err)
		}
		if got, err := d.Load("one"); err != nil || *got != (packed{Long: tc.long}) {
			t.Errorf("read %v, %v", got, err)
		}
		if _, err := older.Load("one"); (err == nil) != tc.older {
			t.Errorf("an older program reads %q: %v", tc.long, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "one.json"), []byte(`{"version":2,"record":{"Short":"bad"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load("one"); err == nil {
		t.Error("what cannot be unpacked is no error")
	}
}
