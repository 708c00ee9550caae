package cgroup_test

import (
	"os"
	"path/filepath"
	"testing"

	"muelle/internal/linux/cgroup"
)

func TestForgetfulKernels(t *testing.T) {
	for release, want := range map[string]bool{
		"5.10.0-32-cloud-amd64": true, "6.1.0": true, "6.3.13": true, "6.4.0": false, "6.18.5": false, "7.0.1": false, "": false,
	} {
		if got := cgroup.Forgets(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

func TestNarrowed(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	put := func(dir, name, value string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cgroup.Narrowed(root, dir) {
		t.Error("without the controller")
	}
	for _, d := range []string{root, dir} {
		put(d, "cpuset.cpus.effective", "0-3")
		put(d, "cpuset.mems.effective", "0-1")
	}
	if cgroup.Narrowed(root, dir) {
		t.Error("a group with everything")
	}
	put(dir, "cpuset.mems.effective", "1")
	if !cgroup.Narrowed(root, dir) {
		t.Error("a group with one node")
	}
	put(dir, "cpuset.mems.effective", "0-1")
	put(dir, "cpuset.cpus.effective", "2")
	if !cgroup.Narrowed(root, dir) {
		t.Error("a group with one processor")
	}
}
