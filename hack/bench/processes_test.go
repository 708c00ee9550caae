package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fromMemory starts a copy of `sleep` as the daemon starts shims: from a file in memory,
// with nothing in its command line that says whose it is.
func fromMemory(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{name, "1000"}, ExtraFiles: []*os.File{f}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

func TestProgramInMemoryIsNamed(t *testing.T) {
	for exe, want := range map[string]string{
		"/memfd:muelle-shim (deleted)": "muelle-shim",
		"/opt/bin/muelled (deleted)":   "muelled",
		"/usr/bin/conmon":              "conmon",
	} {
		if got := program(exe); got != want {
			t.Errorf("program(%q) = %q, want %q", exe, got, want)
		}
	}
	cmd := fromMemory(t, "helper")
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "exe"))
	if err != nil {
		t.Fatal(err)
	}
	if got := program(exe); got != "helper" {
		t.Errorf("the kernel says %q, which is taken for %q", exe, got)
	}
	var u usage
	if err := u.add(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid))); err != nil || u.processes != 1 || u.pss <= 0 || u.anonymous <= 0 {
		t.Errorf("it uses %+v: %v", u, err)
	}
}

func TestHelpersThatAreNotSeenFail(t *testing.T) {
	h := helpers{"daemon": {processes: 1, pss: 20}, "shim": {processes: 19, pss: 19}}
	if err := h.each([]string{"shim"}, 19); err != nil {
		t.Error(err)
	}
	if err := h.each([]string{"shim"}, 20); err == nil || err.Error() != "20 containers, but 19 processes of shim" {
		t.Errorf("got %v", err)
	}
	if err := h.each([]string{"proxy"}, 1); err == nil {
		t.Error("no process of a name is no error")
	}
	if got, want := h.more(helpers{"daemon": {processes: 1, pss: 10}}, 20), "a container's share: daemon 0.50 MiB, shim 0.95 MiB (19 processes)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What belongs to an engine by its parent but is none of its helpers is not passed over.
func TestUnknownProcessIsAnError(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("sh", "-c", "exec 3<&0; cat <&3 & wait", dir+"/run")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Kill(-cmd.Process.Pid, unix.SIGKILL); cmd.Wait() })
	// What comes back has gone through cat: it is no copy of the shell any more.
	if _, err := in.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	shell, err := os.Readlink("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	child, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/task/" + strconv.Itoa(cmd.Process.Pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	pids := []string{strconv.Itoa(cmd.Process.Pid), string(bytes.TrimSpace(child))}
	e := &engine{name: "Peer", dir: dir, helpers: []string{program(shell)}}
	tab := &table{engines: []*engine{e}}
	if _, err := tab.sumOf(e, pids); err == nil || !strings.Contains(err.Error(), "is not counted") {
		t.Errorf("an unknown helper: %v", err)
	}
	e.helpers = append(e.helpers, "cat")
	got, err := tab.sumOf(e, pids)
	if err != nil || got.sum().processes != 2 {
		t.Errorf("got %+v, %v, want two processes", got, err)
	}
}
