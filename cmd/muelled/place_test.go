package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// held gives a lock file that this process holds and that names pid as its holder.
func held(t *testing.T, pid string) (string, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, []byte(pid+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return path, f
}

func TestLockOfADeadDaemonIsWaitedFor(t *testing.T) {
	path, f := held(t, "1073741824") // beyond every pid
	began := make(chan struct{})
	go func() {
		<-began
		f.Close()
	}()
	close(began)
	l, err := lockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestLockOfALiveDaemonIsRefused(t *testing.T) {
	path, f := held(t, "1")
	defer f.Close()
	if _, err := lockFile(path); err == nil || !strings.Contains(err.Error(), "in use by another muelled (pid 1)") {
		t.Errorf("got %v", err)
	}
}
