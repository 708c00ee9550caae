package volume_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestFoldersWithoutRecords: content becomes a volume again, an empty folder goes.
func TestFoldersWithoutRecords(t *testing.T) {
	root := t.TempDir()
	s := open(t, root)
	if err := os.MkdirAll(filepath.Join(root, "kept", "_data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	leaks, err := s.Leaks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	problems := map[string]string{}
	for _, l := range leaks {
		problems[filepath.Base(l.Finding.Name)] = l.Finding.Problem
		if err := l.Mend(t.Context()); err != nil {
			t.Error(err)
		}
	}
	want := map[string]string{"kept": "content without a record of its volume", "empty": "neither content nor a record of a volume"}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"kept"}, names(t, s, nil)); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(filepath.Join(root, "empty")); !os.IsNotExist(err) {
		t.Errorf("the empty folder: %v", err)
	}
}
