//go:build root

package native_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"muelle/internal/runtime/native"
)

// TestSealedOutOfTheWay: a shim is executed when its own descriptors are in their places
// already, which must not be this one's: see spawn.Program.Move.
func TestSealedOutOfTheWay(t *testing.T) {
	f, err := native.SealFile(shimPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Fd() < 16 {
		t.Errorf("the shim is descriptor %d", f.Fd())
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Stat(shimPath)
	if err != nil || st.Size() != file.Size() {
		t.Errorf("%d bytes of %d are sealed, %v", st.Size(), file.Size(), err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the copy can be changed")
	}
}

func TestNoShim(t *testing.T) {
	path := filepath.Join(t.TempDir(), "muelle-shim")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := native.New(native.Options{ShimPath: path, ExecRoot: t.TempDir(), CgroupParent: parent})
	if err == nil || !strings.Contains(err.Error(), "the shim "+path+" is no program of Linux's") {
		t.Errorf("a script as the shim: %v", err)
	}
}
