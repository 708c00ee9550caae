//go:build root

package native_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/runtime"
	"muelle/internal/runtime/runtimetest"
)

const oldKernel = "MUELLE_TEST_OLD_KERNEL"

// TestOldKernel runs this program once more where mount_setattr(2) answers ENOSYS,
// as before Linux 5.12.
func TestOldKernel(t *testing.T) {
	if os.Getenv(oldKernel) == "" {
		self := exec.Command(os.Args[0], "-test.run=^(TestOldKernel|TestConformance)$/^(isolation|lifecycle|escapes|$)", "-test.v",
			"-test.skip=^TestConformance$/^isolation$/^binds$/^read-only_recursively$") // what cannot work: see below
		self.Env = append(os.Environ(), oldKernel+"=1")
		out, err := self.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestOldKernel") || !strings.Contains(string(out), "--- PASS: TestConformance") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}); err != unix.ENOSYS {
		t.Fatalf("mount_setattr: %v", err)
	}
	root := t.TempDir()
	r, down := newRuntime(t, root)
	defer down()
	id := fmt.Sprintf("t%d-old", os.Getpid())
	dir := filepath.Join(root, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := &runtime.Container{ID: id, Dir: dir, Spec: runtimetest.Spec("/"+parent+"/"+id, "true"), Rootfs: runtimetest.Overlay(t, runtimetest.MakeRootfs(t))}
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: dir, Options: []string{"rbind", "ro", "rro"}})
	task, err := r.Start(context.Background(), c)
	if err == nil {
		task.Delete(context.Background())
	}
	if want := "a recursive read-only mount needs Linux 5.12 or newer"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// withoutSetattr makes mount_setattr(2) answer ENOSYS in every thread of this
// process and what it starts.
func withoutSetattr() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_MOUNT_SETATTR, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if e != 0 {
		return e
	}
	return nil
}
