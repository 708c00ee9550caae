package procfs_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"muelle/internal/linux/procfs"
)

// TestSelf: what is told of this process is what it knows of itself.
func TestSelf(t *testing.T) {
	pid := os.Getpid()
	s, err := procfs.ReadStatus(pid)
	if err != nil {
		t.Fatal(err)
	}
	if s.Parent != os.Getppid() || len(s.UIDs) != 4 || s.UIDs[0] != os.Getuid() || s.GIDs[1] != os.Getegid() || s.Seccomp == "" || len(s.Bounding) == 0 {
		t.Errorf("status: %+v", s)
	}
	if list, err := procfs.Namespaces(pid); err != nil || !slices.ContainsFunc(list, func(n procfs.Namespace) bool { return n.Type == "net" && n.Inode > 0 }) {
		t.Errorf("namespaces: %v, %v", list, err)
	}
	if c, err := procfs.Command(pid); err != nil || filepath.Base(c[0]) != filepath.Base(os.Args[0]) {
		t.Errorf("command: %q, %v", c, err)
	}
	if m, err := procfs.Lines(pid, "uid_map"); err != nil || len(m) == 0 {
		t.Errorf("uid_map: %v, %v", m, err)
	}
	limits, err := procfs.Limits(pid)
	if err != nil || !slices.ContainsFunc(limits, func(l procfs.Limit) bool { return l.Name == "Max open files" && l.Soft != "" && l.Unit == "files" }) {
		t.Errorf("limits: %v, %v", limits, err)
	}
	mounts, err := procfs.Mounts(pid)
	if err != nil || len(mounts) == 0 {
		t.Errorf("mounts: %v, %v", mounts, err)
	}
	if _, err := procfs.Label(pid); err != nil {
		t.Errorf("label: %v", err)
	}
	if _, err := procfs.ReadStatus(1 << 30); err == nil {
		t.Error("a process that does not exist has a status")
	}
}
