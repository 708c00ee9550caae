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
	"strings"
	"testing"
	"time"

	"muelle/internal/logdriver"
	"muelle/internal/runtime"
	"muelle/internal/runtime/runtimetest"
)

// TestMemoryOfAShim holds what one more idle container of twenty with a published port
// costs beside the daemon, and that a shim comes back to that, or near it, after work.
func TestMemoryOfAShim(t *testing.T) {
	const containers, restPSS, restAnonymous = 20, 800, 704 // KiB
	t.Parallel()                                            // it waits for quiet
	root := t.TempDir()
	r, down := newRuntime(t, root)
	defer down()
	rootfs := runtimetest.MakeRootfs(t)
	var tasks []runtime.Task
	defer func() {
		for _, task := range tasks {
			task.Delete(context.Background())
		}
	}()
	start := func(name string, args ...string) (runtime.Task, int) {
		id := fmt.Sprintf("t%d-%s", os.Getpid(), name)
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
		task, err := r.Start(context.Background(), &runtime.Container{
			ID: id, Dir: dir, Spec: runtimetest.Spec("/"+parent+"/"+id, args...), Rootfs: runtimetest.Overlay(t, rootfs),
			Log:  logdriver.Config{Type: "json-file", Path: filepath.Join(root, name+".log"), MaxFile: 1},
			Held: []runtime.Held{{Name: "port", File: port}},
		})
		if err != nil {
			t.Fatal(err)
		}
		tasks = append(tasks, task)
		return task, parentOf(t, task.Pid())
	}
	var shims []int
	for i := range containers {
		_, shim := start(fmt.Sprintf("mem%d", i), "sleep", "1000")
		shims = append(shims, shim)
	}
	// Ten thousand lines of a hundred bytes, of which many come in two pieces.
	const logged = 10000 * 160
	_, writes := start("writes", "sh", "-c", "yes "+strings.Repeat("x", 99)+" | head -n 10000; sleep 1000")
	execs, called := start("execs", "sleep", "1000")
	fresh := image(t, called)
	for i := range 300 {
		p, err := execs.Exec(context.Background(), runtimetest.Spec("/", "true").Process, runtime.ExecOptions{ID: strconv.Itoa(i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	settles(t, "at rest", shims, restPSS, restAnonymous)
	log := filepath.Join(root, "writes.log")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		st, err := os.Stat(log)
		if err == nil && st.Size() >= logged {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s did not become %d bytes: %v", log, logged, err)
		}
	}
	settles(t, "after a log of 1.6 MB", []int{writes}, 3*1024, restAnonymous+64)
	awaitImage(t, called, execs, fresh)
	// Some twenty execs may have come after it was renewed.
	settles(t, "after 300 execs", []int{called}, 3*1024, restAnonymous+192)
}

// parentOf is the shim beside a container's process.
func parentOf(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	shim, err := strconv.Atoi(string(bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])[1]))
	if err != nil {
		t.Fatal(err)
	}
	return shim
}

// settles waits until shims need no more than that, each, in KiB.
func settles(t *testing.T, what string, shims []int, mostPSS, mostAnonymous int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		pss, anonymous := memory(t, shims)
		if pss <= mostPSS && anonymous <= mostAnonymous {
			t.Logf("%s: PSS of each of %d shims: %d KiB, of which anonymous %d KiB", what, len(shims), pss, anonymous)
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: PSS of each of %d shims: %d KiB, of which anonymous %d KiB, the bounds are %d and %d", what, len(shims), pss, anonymous, mostPSS, mostAnonymous)
			return
		}
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
