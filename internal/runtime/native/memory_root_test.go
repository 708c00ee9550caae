//go:build root

package native_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"muelle/internal/logdriver"
	"muelle/internal/runtime"
	"muelle/internal/runtime/runtimetest"
)

// TestMemoryOfAShim holds the budget of one more idle container of twenty with a
// published port.
func TestMemoryOfAShim(t *testing.T) {
	const containers, budgetKiB = 20, 1024
	root := t.TempDir()
	r, down := newRuntime(t, root)
	defer down()
	rootfs := runtimetest.MakeRootfs(t)
	var shims []int
	for i := range containers {
		id := fmt.Sprintf("t%d-mem%d", os.Getpid(), i)
		dir := filepath.Join(root, id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer port.Close()
		c := &runtime.Container{
			ID: id, Dir: dir, Spec: runtimetest.Spec("/"+parent+"/"+id, "sleep", "1000"), Rootfs: runtimetest.Overlay(t, rootfs),
			Log:  logdriver.Config{Type: "json-file", Path: filepath.Join(root, id+".log"), MaxFile: 1},
			Held: []runtime.Held{{Name: "port", File: port}},
		}
		task, err := r.Start(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		defer task.Delete(context.Background())
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", task.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		ppid, err := strconv.Atoi(string(bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])[1]))
		if err != nil {
			t.Fatal(err)
		}
		shims = append(shims, ppid)
	}
	time.Sleep(200 * time.Millisecond) // until they rest
	if os.Getenv("DBG") != "" {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", shims[0]))
		os.Stdout.Write(b)
	}
	var pss, private int
	for _, pid := range shims {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			var kib int
			if n, _ := fmt.Sscanf(string(line), "Pss: %d kB", &kib); n == 1 {
				pss += kib
			}
			if n, _ := fmt.Sscanf(string(line), "Anonymous: %d kB", &kib); n == 1 {
				private += kib
			}
		}
	}
	t.Logf("PSS per shim of %d: %d KiB, of which anonymous %d KiB", containers, pss/containers, private/containers)
	if pss/containers > budgetKiB {
		t.Errorf("PSS per shim is %d KiB, the budget %d", pss/containers, budgetKiB)
	}
}
