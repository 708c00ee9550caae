//go:build root

package native_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"muelle/internal/linux/cgroup"
	"muelle/internal/logdriver"
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

// TestCloseWaitsForLastMessages: the shim of an ended container whose log service is
// away tries for some seconds; a daemon that ends with it leaves no cgroup all the same.
func TestCloseWaitsForLastMessages(t *testing.T) {
	root, parent := t.TempDir(), fmt.Sprintf("muelle-last%d", os.Getpid())
	r, err := native.New(native.Options{ShimPath: shimPath, ExecRoot: root, CgroupParent: parent})
	if err != nil {
		t.Fatal(err)
	}
	service, err := net.Listen("unix", filepath.Join(root, "log"))
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("t%d-last", os.Getpid())
	dir := filepath.Join(root, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	task, err := r.Start(context.Background(), &runtime.Container{
		ID: id, Dir: dir, Rootfs: runtimetest.Overlay(t, runtimetest.MakeRootfs(t)),
		Spec: runtimetest.Spec("/"+parent+"/"+id, "sh", "-c", "trap 'echo last; exit' TERM; echo first; while :; do sleep 0.05; done"),
		Log:  logdriver.Config{Remote: logdriver.Remote{Kind: "syslog", Network: "unix", Path: filepath.Join(root, "log")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := service.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 100)); err != nil { // the first message: it heeds signals
		t.Fatal(err)
	}
	conn.Close()
	service.Close()
	if err := task.Signal(context.Background(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := task.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := task.Delete(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if group, err := cgroup.Open(parent); err != nil || group.Exists() {
		t.Errorf("the cgroup is left (%v)", err)
	}
}
