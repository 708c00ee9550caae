//go:build root

package native_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
	"muelle/internal/runtime/native"
	"muelle/internal/runtime/runtimetest"
)

// TestCloseLeavesNoCgroup: the daemon's cgroup goes with its last container, also
// when that was started by a daemon before.
func TestCloseLeavesNoCgroup(t *testing.T) {
	root, parent := t.TempDir(), fmt.Sprintf("muelle-close%d", os.Getpid())
	open := func() *native.Runtime {
		r, err := native.New(native.Options{ShimPath: shimPath, ExecRoot: root, CgroupParent: parent})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	group, err := cgroup.Open(parent)
	if err != nil {
		t.Fatal(err)
	}
	shut := func(r *native.Runtime, want bool) {
		t.Helper()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if group.Exists() != want {
			t.Errorf("the cgroup is there: %v, want %v", !want, want)
		}
	}
	rootfs := runtimetest.MakeRootfs(t)
	dir := func(i int) string { return filepath.Join(root, fmt.Sprint(i)) }
	id := func(i int) string { return fmt.Sprintf("t%d-close%d", os.Getpid(), i) }
	const containers = 8
	first := open()
	for i := range containers {
		if err := os.Mkdir(dir(i), 0o700); err != nil {
			t.Fatal(err)
		}
		c := &runtime.Container{ID: id(i), Dir: dir(i), Spec: runtimetest.Spec("/"+parent+"/"+id(i), "sleep", "1000"), Rootfs: runtimetest.Overlay(t, rootfs)}
		if _, err := first.Start(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	shut(first, true)

	second := open()
	for i := range containers {
		task, err := second.Load(context.Background(), id(i), dir(i))
		if err != nil {
			t.Fatal(err)
		}
		if err := task.Delete(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	shut(second, false)

	if err := group.Create(nil); err != nil { // what a daemon that was killed leaves
		t.Fatal(err)
	}
	shut(open(), false)
}
