//go:build root

package ocirun_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// copyOf writes a file's first bytes, or all for a negative number, and a tail.
func copyOf(t *testing.T, from, to string, first int, tail ...byte) string {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if first >= 0 {
		data = data[:first]
	}
	path := filepath.Join(t.TempDir(), to)
	if err := os.WriteFile(path, append(data, tail...), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWaysToCallIt makes a container by the program in every place and by every name
// that engines and people may give it.
func TestWaysToCallIt(t *testing.T) {
	joined := filepath.Join(bin, "muelle-shim")
	link := func(link func(from, to string) error, name string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := link(joined, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct{ path, as string }{
		"the link of make build":            {filepath.Join(bin, "muelle-oci"), ""},
		"a symbolic link":                   {link(os.Symlink, "muelle-oci"), ""},
		"a hard link":                       {link(os.Link, "muelle-oci"), ""},
		"in the place of runc":              {link(os.Symlink, "runc"), ""},
		"a copy":                            {copyOf(t, joined, "muelle-oci", -1), ""},
		"a copy called as it should be":     {copyOf(t, joined, "something", -1), "muelle-oci"},
		"the shim's file called muelle-oci": {joined, "/usr/bin/muelle-oci"},
		"two files":                         {filepath.Join(apart, "muelle-oci"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBundle(t, "echo", "works")
			b.write()
			cmd := exec.Command(c.path, "--root", b.root, "run", "--bundle", b.dir, b.id)
			if c.as != "" {
				cmd.Args[0] = c.as
			}
			if out, err := cmd.CombinedOutput(); err != nil || string(out) != "works\n" {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestWhatIsNoRuntime(t *testing.T) {
	joined := filepath.Join(bin, "muelle-shim")
	st, err := os.Stat(joined)
	if err != nil {
		t.Fatal(err)
	}
	size := int(st.Size())
	for name, c := range map[string]struct {
		path, as string
		args     []string
		want     string
	}{
		"another name, and no command": {joined, "other", []string{"nonsense"}, "other is Muelle's OCI runtime, muelle-oci; called muelle-shim, the same file is"},
		"the shim by hand":             {joined, "", nil, "this is no command: muelled starts it"},
		"an engine that follows links": {joined, "", []string{"--root", "/x", "features"}, "The OCI runtime in the same file is called muelle-oci"},
		"cut short":                    {copyOf(t, joined, "muelle-oci", size-100), "", []string{"run"}, "muelle-shim: no such file"},
		"a damaged end":                {copyOf(t, joined, "muelle-oci", size-64, append(make([]byte, 32), "\x7fmuelle-oci carries muelle-shim\n"...)...), "", []string{"run"}, "the file of this program is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(c.path, c.args...)
			if c.as != "" {
				cmd.Args[0] = c.as
			}
			if len(c.args) == 1 && c.args[0] == "run" {
				b := newBundle(t, "true")
				b.write()
				cmd.Args = append(cmd.Args[:1], "--root", b.root, "run", "--bundle", b.dir, b.id)
			}
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %s, want %q", err, out, c.want)
			}
		})
	}
	// Both names are of one file that was cut: the shim beside is no shim.
	cut := copyOf(t, joined, "muelle-shim", size-100)
	if err := os.Link(cut, filepath.Join(filepath.Dir(cut), "muelle-oci")); err != nil {
		t.Fatal(err)
	}
	b := newBundle(t, "true")
	b.write()
	out, err := exec.Command(filepath.Join(filepath.Dir(cut), "muelle-oci"), "--root", b.root, "run", "--bundle", b.dir, b.id).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "incomplete, or was stripped") {
		t.Errorf("a file cut short: %v, %s", err, out)
	}
}

// TestCalledAsTheShim: the file gives way to the small program in it.
func TestCalledAsTheShim(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	listen, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(listen, &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "socket")})
	}
	if err == nil {
		err = unix.Listen(listen, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	listener := os.NewFile(uintptr(listen), "listener")
	defer listener.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command(filepath.Join(bin, "muelle-shim"), "the-container")
	cmd.Env, cmd.ExtraFiles = []string{"A=b"}, []*os.File{theirs, listener, dir}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		exe, err := os.Readlink(proc + "exe")
		// In the middle of execve it has its file, but no arguments and no environment yet.
		env, _ := os.ReadFile(proc + "environ")
		if err == nil && strings.HasPrefix(exe, "/memfd:") && len(env) > 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("it is %s, %v, with the environment %q", exe, err, env)
		}
	}
	got, want := sizeOf(t, proc+"exe"), sizeOf(t, filepath.Join(apart, "muelle-shim"))
	if got != want {
		t.Errorf("it runs a program of %d bytes, the shim has %d", got, want)
	}
	line, err := os.ReadFile(proc + "cmdline")
	if err != nil || string(line) != filepath.Join(bin, "muelle-shim")+"\x00the-container\x00" {
		t.Errorf("its arguments are %q, %v", line, err)
	}
	if env, err := os.ReadFile(proc + "environ"); err != nil || string(env) != "A=b\x00" {
		t.Errorf("its environment is %q, %v", env, err)
	}
	// Nothing was started in it, and nobody asks any more.
	ours.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, &stderr)
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}
