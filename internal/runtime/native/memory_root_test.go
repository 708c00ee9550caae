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
	var first runtime.Task
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
		if first == nil {
			first = task
		}
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
	report := func(what string) int {
		t.Helper()
		pss, private := memory(t, shims)
		t.Logf("%s: PSS per shim of %d: %d KiB, of which anonymous %d KiB", what, containers, pss, private)
		return pss
	}
	if pss := report("after start"); pss > budgetKiB {
		t.Errorf("PSS per shim is %d KiB, the budget %d", pss, budgetKiB)
	}
	for i := range 200 {
		p, err := first.Exec(context.Background(), runtimetest.Spec("/", "true").Process, runtime.ExecOptions{ID: strconv.Itoa(i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	shims = shims[:1]
	// A container with health checks pays for garbage until Go collects it.
	if pss, _ := memory(t, shims); pss > 3*budgetKiB {
		t.Errorf("PSS of a shim after 200 execs is %d KiB", pss)
	} else {
		t.Logf("PSS of a shim after 200 execs: %d KiB, its text included", pss)
	}
}

// memory is the mean of PSS and of anonymous memory, in KiB.
func memory(t *testing.T, pids []int) (pss, private int) {
	t.Helper()
	for _, pid := range pids {
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
	return pss / len(pids), private / len(pids)
}
