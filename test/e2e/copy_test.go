//go:build root

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tarNames lists an archive.
func tarNames(t *testing.T, data string) (names []string) {
	t.Helper()
	for r := tar.NewReader(strings.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestCopy(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		dir, name, volume := t.TempDir(), c.unique(t, "c"), c.unique(t, "vol")
		tree := filepath.Join(dir, "tree")
		if err := os.MkdirAll(filepath.Join(tree, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"sub/f": "in the tree", "set": "x"} {
			if err := os.WriteFile(filepath.Join(tree, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Chmod(filepath.Join(tree, "set"), 0o755|os.ModeSetuid), os.Symlink("sub", filepath.Join(tree, "link"))); err != nil {
			t.Fatal(err)
		}
		c.must(t, "create", "--name", name, "-v", volume+":/data/v", "-v", volume+":/ro:ro", "--tmpfs", "/t", "busybox", "sleep", "1000")
		defer c.must(t, "volume", "rm", volume)
		defer c.must(t, "rm", "-f", name)
		back := func(state, path, want string) {
			t.Helper()
			to := filepath.Join(dir, "back-"+state)
			c.must(t, "cp", "-q", name+":"+path, to)
			if got, err := os.ReadFile(to); err != nil || string(got) != want {
				t.Errorf("%s: %s came back as %q, %v", state, path, got, err)
			}
		}
		both := func(state string) {
			c.must(t, "cp", tree, name+":/"+state)
			c.must(t, "cp", tree+"/.", name+":/data/v/")
			back(state, "/"+state+"/link/f", "in the tree")
			back(state, "/data/v/sub/f", "in the tree")
			r := c.try(t, "cp", name+":/"+state+"/sub", "-")
			if got := strings.Join(tarNames(t, r.out+strings.Repeat("\x00", 1024)), " "); got != "sub/ sub/f" {
				t.Errorf("%s: to standard output: %q", state, got)
			}
		}
		both("created")
		c.must(t, "start", name)
		both("running")
		if got := c.must(t, "exec", name, "sh", "-c", "cat /created/sub/f /data/v/sub/f; readlink /running/link; stat -c %a /created/set"); got != "in the treein the treesub\n4755" {
			t.Errorf("in the container: %q", got)
		}
		// As a tar from standard input, into a tmpfs that only the running container has.
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: "piped", Mode: 0o600, Size: 2}), func() error { _, err := w.Write([]byte("hi")); return err }(), w.Close()); err != nil {
			t.Fatal(err)
		}
		if r := c.pipe(t, b.Bytes(), "cp", "-", name+":/t"); r.code != 0 {
			t.Errorf("from standard input: %+v", r)
		}
		if got := c.must(t, "exec", name, "cat", "/t/piped"); got != "hi" {
			t.Errorf("piped: %q", got)
		}
		c.must(t, "stop", "-t", "0", name)
		both("stopped")
		for _, tc := range []struct{ from, to, err string }{
			{name + ":/none", dir, "Could not find the file /none in container " + name},
			{filepath.Join(tree, "set"), name + ":/ro/set", "mounted volume is marked read-only"},
			{name + ":/a", name + ":/b", "copying between containers is not supported"},
			{tree, name + ":/etc/passwd", "cannot copy directory"},
		} {
			if r := c.try(t, "cp", tc.from, tc.to); r.code == 0 || !strings.Contains(r.err, tc.err) {
				t.Errorf("cp %s %s: %+v", tc.from, tc.to, r)
			}
		}
		fixed := c.unique(t, "ro")
		c.must(t, "create", "--name", fixed, "--read-only", "busybox")
		defer c.must(t, "rm", fixed)
		if r := c.try(t, "cp", filepath.Join(tree, "set"), fixed+":/x"); r.code == 0 || !strings.Contains(r.err, "container rootfs is marked read-only") {
			t.Errorf("into a read-only root: %+v", r)
		}
	})
}

// TestCopyKeepsKinds holds that what a program may do, names of one file, pipes and
// devices come back from a container as they went in.
func TestCopyKeepsKinds(t *testing.T) {
	const attribute = "security.capability"
	granted := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0} // cap_net_raw=ep
	forEach(t, func(t *testing.T, c client) {
		dir, name := t.TempDir(), c.unique(t, "c")
		tree, back := filepath.Join(dir, "tree"), filepath.Join(dir, "back")
		program, pipe, device := filepath.Join(tree, "program"), filepath.Join(tree, "pipe"), filepath.Join(tree, "device")
		err := errors.Join(os.Mkdir(tree, 0o755), os.WriteFile(program, []byte("x"), 0o755), unix.Setxattr(program, attribute, granted, 0),
			os.Link(program, filepath.Join(tree, "same")), unix.Mkfifo(pipe, 0o640), unix.Mknod(device, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		if err != nil {
			t.Fatal(err)
		}
		c.must(t, "create", "--name", name, "busybox", "stat", "-c", "%h", "/tree/program")
		defer c.must(t, "rm", "-f", name)
		c.must(t, "cp", tree, name+":/")
		if out := c.must(t, "start", "-a", name); out != "2" {
			t.Errorf("%s names of the file in the container, want 2", out)
		}
		c.must(t, "cp", name+":/tree", back)
		got := make([]byte, 64)
		n, err := unix.Getxattr(filepath.Join(back, "program"), attribute, got)
		if err != nil || !bytes.Equal(got[:n], granted) {
			t.Errorf("capabilities %x, %v, want %x", got[:max(n, 0)], err, granted)
		}
		for _, file := range []string{"program", "same", "pipe", "device"} {
			var went, came unix.Stat_t
			if err := errors.Join(unix.Lstat(filepath.Join(tree, file), &went), unix.Lstat(filepath.Join(back, file), &came)); err != nil {
				t.Error(err)
			}
			if went.Mode != came.Mode || went.Rdev != came.Rdev || went.Nlink != came.Nlink {
				t.Errorf("%s: mode %o, device %d, %d names; went in as %o, %d, %d", file, came.Mode, came.Rdev, came.Nlink, went.Mode, went.Rdev, went.Nlink)
			}
		}
	})
}

func TestDiffExportAndCommit(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name, image := c.unique(t, "c"), c.unique(t, "img")
		c.must(t, "run", "-d", "--name", name, "-w", "/home", "busybox", "sh", "-c", "echo new >/new; rm /etc/group; mkdir /etc/d; echo ready; sleep 1000")
		defer c.must(t, "rm", "-f", name)
		c.eventuallyLogs(t, name, "ready")
		if got, want := c.must(t, "diff", name), "C /etc\nA /etc/d\nD /etc/group\nA /new"; got != want {
			t.Errorf("diff %q, want %q", got, want)
		}
		id := c.must(t, "commit", "-a", "me", "-m", "why", "-c", `CMD ["cat", "/new"]`, "-c", "ENV A=b", "-c", "WORKDIR sub", "-c", "HEALTHCHECK --retries=2 CMD look", name, image)
		defer c.must(t, "rmi", image)
		if !strings.HasPrefix(id, "sha256:") {
			t.Errorf("commit printed %q", id)
		}
		if got := c.must(t, "ps", "-a", "--filter", "name="+name, "--format", "{{.State}}"); got != "running" {
			t.Errorf("after the commit it is %s", got)
		}
		if got := c.must(t, "run", "--rm", image); got != "new" {
			t.Errorf("the image runs as %q", got)
		}
		if got := c.must(t, "run", "--rm", image, "sh", "-c", "ls /etc/group 2>/dev/null; test -f /.dockerenv && echo $A"); got != "b" {
			t.Errorf("in the image: %q", got)
		}
		if got := c.must(t, "inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.WorkingDir}} {{.Config.Healthcheck.Test}}", image); got != "me why /home/sub [CMD-SHELL look]" {
			t.Errorf("the image is by %q", got)
		}
		file := filepath.Join(t.TempDir(), "fs.tar")
		c.must(t, "export", "-o", file, name)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := "\n" + strings.Join(tarNames(t, string(data)), "\n") + "\n"
		for entry, want := range map[string]bool{"new": true, "etc/d/": true, "etc/group": false, "proc/": true, "proc/1/": false} {
			if strings.Contains(names, "\n"+entry+"\n") != want {
				t.Errorf("export has %s: %v", entry, !want)
			}
		}
		// What every container has is no change either where the image came from one.
		again := c.unique(t, "again")
		c.must(t, "import", file, again)
		c.must(t, "run", "--name", again, again, "/bin/true")
		if got := c.must(t, "diff", again); got != "" {
			t.Errorf("diff of a container of the export: %q", got)
		}
		c.must(t, "rm", again)
		c.must(t, "rmi", again)
	})
}

// eventuallyLogs waits until a container printed something.
func (c client) eventuallyLogs(t *testing.T, name, text string) {
	t.Helper()
	r := c.try(t, "logs", name)
	for range 500 {
		if strings.Contains(r.out, text) {
			return
		}
		r = c.try(t, "logs", name)
	}
	t.Fatalf("%s never printed %q: %+v", name, text, r)
}

// TestReadWhileRemoved: what a removal took away in between is an error, not an archive
// that has less.
func TestReadWhileRemoved(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "c")
	c.must(t, "run", "--name", name, "busybox", "sh", "-c", "head -c 30000000 /dev/urandom >/bin/aaa; echo x >/zzz")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := c.command(ctx, "export", name)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		// It has begun, and waits for its reader.
		_, err = io.CopyN(io.Discard, out, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.must(t, "rm", "-f", name)
	n, err := io.Copy(io.Discard, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("an export of what was removed succeeded with %d bytes", n)
	}
}

// TestDaemonDiesDuringCommit: the container that the commit froze goes on.
func TestDaemonDiesDuringCommit(t *testing.T) {
	d := own(t)
	c := ours(d)
	c.must(t, "pull", "-q", "busybox")
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "busybox", "sh", "-c", "head -c 64000000 /dev/urandom >/f; echo ready; sleep 1000")
	c.remove(t, name)
	if err := eventually(30*time.Second, func() error {
		if !strings.Contains(c.must(t, "logs", name), "ready") {
			return errors.New("not ready")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	pid := c.must(t, "inspect", "-f", "{{.State.Pid}}", name)
	cmd := c.command(t.Context(), "commit", name, "frozen")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for c.must(t, "inspect", "-f", "{{.State.Status}}", name) != "paused" {
		if t.Context().Err() != nil {
			t.Fatal("never frozen")
		}
	}
	d.kill(t)
	if err := cmd.Wait(); err == nil {
		t.Error("the commit succeeded without a daemon")
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if got := c.must(t, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", name); got != "running "+pid {
		t.Errorf("afterwards it is %s, was running %s", got, pid)
	}
	if got := c.must(t, "exec", name, "sh", "-c", "kill -CONT 1; echo goes on"); got != "goes on" {
		t.Errorf("exec: %q", got)
	}
	if got := c.must(t, "images", "-q"); strings.Count(got, "\n") != 0 {
		t.Errorf("half an image is left: %s", got)
	}
}
