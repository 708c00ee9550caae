package atomicfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"muelle/internal/atomicfile"
)

func TestWriteReplacesAndLeavesNoTemporary(t *testing.T) {
	for name, write := range map[string]func(string, []byte, os.FileMode) error{
		"durable": atomicfile.Write, "no sync": atomicfile.WriteNoSync,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "record.json")
			for _, want := range []string{"one", "two, longer"} {
				if err := write(path, []byte(want), 0o600); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || string(got) != want {
					t.Fatalf("read %q, %v; want %q", got, err, want)
				}
			}
			st, err := os.Stat(path)
			if err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v; want 0600", st.Mode(), err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("%d entries in the folder, want 1", len(entries))
			}
		})
	}
}

func TestWriteToMissingFolderFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "x")
	if err := atomicfile.Write(path, nil, 0o600); err == nil {
		t.Error("no error for a missing folder")
	}
}

func TestFailedRenameRemovesTheTemporary(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "x")
	if err := os.MkdirAll(filepath.Join(target, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(target, []byte("y"), 0o600); err == nil {
		t.Fatal("a folder was replaced by a file")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d entries left, want the folder only", len(entries))
	}
}
