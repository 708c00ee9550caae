//go:build root

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDebug: a session with tools in a container that has nothing but one program.
func TestDebug(t *testing.T) {
	c := ours(world.daemon)
	bare, name := c.unique(t, "bare"), c.unique(t, "c")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY echo /echo\nENTRYPOINT [\"/echo\", \"7777\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(world.echo)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "echo"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "-q", "-t", bare, dir)
	defer c.must(t, "rmi", bare)
	c.must(t, "run", "-d", "--name", name, bare)
	defer c.must(t, "rm", "-f", name)
	if r := c.try(t, "exec", name, "/none"); r.code == 0 {
		t.Fatal("the container has a shell")
	}
	if got := c.must(t, "debug", "--image", "busybox", "-c", "ls -d /echo /proc/fs/bin; touch /made; head -c 5 /proc/1/cmdline", name); got != "/echo\n/proc/fs/bin\n/echo" {
		t.Errorf("session: %q", got)
	}
	if r := c.pipe(t, []byte("exit 7\n"), "debug", "--image", "busybox", name); r.code != 7 {
		t.Errorf("exit status: %+v", r)
	}
	if got := c.must(t, "diff", name); got != "A /made" {
		t.Errorf("the session left %q", got)
	}
	pid := c.must(t, "inspect", "-f", "{{.State.Pid}}", name)
	mounts, err := os.ReadFile("/proc/" + pid + "/mountinfo")
	if err != nil || strings.Count(string(mounts), " /proc/fs ") != 1 {
		t.Errorf("the container's mounts, %v:\n%s", err, mounts)
	}
	// What it started in the background ends with it.
	c.must(t, "debug", "--image", "busybox", "-c", "(setsid sleep 4321 &) ; sleep 4321 & true", name)
	if got := c.must(t, "top", name); strings.Contains(got, "4321") {
		t.Errorf("left behind: %s", got)
	}
	if r := c.try(t, "debug", "--image", "127.0.0.1:1/none", name); r.code == 0 || !strings.Contains(r.err, "name another with --image") {
		t.Errorf("without tools: %+v", r)
	}
}

// dynamicTools makes an image of the host's shell with its loader and libraries.
func dynamicTools(t *testing.T, c client, programs ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	have := map[string]bool{}
	add := func(from, name string) {
		if have[name] {
			return
		}
		have[name] = true
		data, err := os.ReadFile(from)
		if err == nil {
			err = w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))})
		}
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range programs {
		out, err := exec.Command("ldd", p).Output()
		if err != nil || !strings.Contains(string(out), "ld-linux") {
			t.Fatalf("%s is not dynamically linked: %v %s", p, err, out)
		}
		add(p, "bin/"+filepath.Base(p))
		for _, f := range strings.Fields(string(out)) {
			if strings.HasPrefix(f, "/lib") {
				add(f, f[1:])
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := c.unique(t, "tools")
	if r := c.pipe(t, b.Bytes(), "import", "-c", "ENV PATH=/bin", "-", name); r.code != 0 {
		t.Fatalf("import: %+v", r)
	}
	t.Cleanup(func() { c.must(t, "rmi", "-f", name) })
	return name
}

// TestDebugWithLibraries: tools that are not statically linked run with their own.
func TestDebugWithLibraries(t *testing.T) {
	c := ours(world.daemon)
	tools, name := dynamicTools(t, c, "/bin/dash", "/bin/ls", "/bin/cat"), c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "-v", c.unique(t, "vol")+":/data", "busybox", "sh", "-c", "echo text >/data/f; ln -s /data/f /link; echo ready; sleep 1000")
	defer c.must(t, "rm", "-f", "-v", name)
	c.eventuallyLogs(t, name, "ready")
	script := `echo made >/target/made; echo scratch >/bin/scratch; pwd; cat data/f; ls -d /target/bin/sh; read line </proc/1/cmdline; [ -e /bin/busybox ] || echo own`
	if got := c.must(t, "debug", "--image", tools, "--shell", "dash", "-c", script, name); got != "/target\ntext\n/target/bin/sh\nown" {
		t.Errorf("beside a running container: %q", got)
	}
	if got := c.must(t, "exec", name, "sh", "-c", "cat /made; ls -d /target /bin/dash 2>/dev/null | wc -l; grep -c target /proc/1/mountinfo || true"); got != "made\n0\n0" {
		t.Errorf("the container sees %q", got)
	}
	c.must(t, "stop", "-t", "0", name)
	if got := c.must(t, "debug", "--image", tools, "-c", "cat data/f", "--shell", "dash", name); got != "text" {
		t.Errorf("of a stopped container: %q", got)
	}
	if r := c.try(t, "debug", "--image", tools, "--root", "container", name, "dash"); r.code == 0 {
		t.Errorf("without their libraries the tools ran: %+v", r)
	}
}

// TestDebugResting: the files and volumes of what does not run, and nothing left of it.
func TestDebugResting(t *testing.T) {
	c := ours(world.daemon)
	name, vol := c.unique(t, "c"), c.unique(t, "vol")
	c.must(t, "create", "--name", name, "-v", vol+":/data", "--memory", "8m", "busybox", "sh", "-c", "cat /made /data/made")
	defer c.must(t, "volume", "rm", vol)
	defer c.must(t, "rm", "-f", name)
	if r := c.try(t, "debug", "--image", "busybox", "-c", "echo one >/made; echo two >/data/made; ls /sys/class/net; exit 5", name); r.code != 5 || r.out != "lo\n" {
		t.Errorf("of a created container: %+v", r)
	}
	if got := c.must(t, "start", "-a", name); got != "one\ntwo" {
		t.Errorf("the container got %q", got)
	}
	// While a session has them, the files are nobody else's.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := c.command(ctx, "debug", "--image", "busybox", "-c", "echo in; exec cat", name)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"start", name}, {"rm", name}, {"debug", "--image", "busybox", name, "true"}} {
		if r := c.try(t, args...); r.code == 0 || !strings.Contains(r.err, "is being debugged by") {
			t.Errorf("%v during a session: %+v", args, r)
		}
	}
	if got := c.must(t, "ps", "-q", "--filter", "label=io.muelle.debug"); got == "" {
		t.Error("the session's container is not listed")
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("three"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "cp", file, name+":/data/made")
	c.must(t, "cp", "-q", name+":/data/made", file+"2")
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := c.must(t, "start", "-a", name); got != "one\nthree" {
		t.Errorf("right after the session the container got %q", got)
	}
	if got := c.must(t, "ps", "-aq", "--filter", "label=io.muelle.debug"); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// TestDebugImage: what a session does to an image's files is gone with it.
func TestDebugImage(t *testing.T) {
	c := ours(world.daemon)
	for range 2 {
		if got := c.must(t, "debug", "--image", "busybox", "-c", "ls /new 2>/dev/null; echo x >/new; cat /new", "busybox"); got != "x" {
			t.Errorf("session: %q", got)
		}
	}
	if r := c.try(t, "debug", "--image", "busybox", c.unique(t, "none")); r.code == 0 || !strings.Contains(r.err, "No such container or image: ") {
		t.Errorf("of nothing: %+v", r)
	}
	if got := c.must(t, "ps", "-aq", "--filter", "label=io.muelle.debug"); got != "" {
		t.Errorf("left behind: %s", got)
	}
	// Neither does the daemon's death leave anything.
	d := own(t)
	o := ours(d)
	o.must(t, "pull", "-q", "busybox")
	name := o.unique(t, "c")
	o.must(t, "create", "--name", name, "busybox", "cat", "/kept")
	cmd := o.command(t.Context(), "debug", "--image", "busybox", "-c", "echo kept >/kept; echo in; exec sleep 1000", name)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = io.ReadFull(out, make([]byte, 3))
	}
	if err != nil {
		t.Fatal(err)
	}
	d.kill(t)
	_ = cmd.Wait() // it lost its connection
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	err = eventually(20*time.Second, func() error {
		if r := o.try(t, "start", "-a", name); r.out != "kept\n" {
			return errors.New("started after the daemon's death: " + r.out + r.err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if got := o.must(t, "ps", "-aq"); strings.Count(got, "\n") != 0 {
		t.Errorf("left behind after the daemon's death: %s", got)
	}
	o.must(t, "rm", name)
}

// TestDebugOnTerminal drives sessions as a person does.
func TestDebugOnTerminal(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "busybox", "sleep", "1000")
	defer c.must(t, "rm", "-f", name)
	for _, state := range []string{"running", "stopped"} {
		t.Run(state, func(t *testing.T) {
			if state == "stopped" {
				c.must(t, "stop", "-t", "0", name)
			}
			term := c.onTerminal(t, 40, 100, nil, "debug", "-it", "--image", "busybox", name)
			term.expect("# ")
			term.enter("stty size\n")
			term.expect("\n40 100\r\n")
			term.resize(50, 120)
			// The size follows the signal, whenever that comes.
			term.enter("until [ \"$(stty size)\" = '50 120' ]; do :; done; echo re''sized\n")
			term.expect("resized\r\n")
			// The program in the foreground says so itself: the signal is its.
			term.enter("sh -c 'echo wai\"\"ting; exec sleep 1000'\n")
			term.expect("waiting\r\n")
			term.enter("\x03")
			term.expect("# ")
			term.enter("echo status=$?\n")
			term.expect("status=130\r\n")
			term.enter("sh -c 'exit 9'\n")
			term.expect("# ")
			term.enter("\x04")
			term.ends(9)
		})
	}
	if r := c.try(t, "debug", "-t", "--image", "busybox", name); r.code == 0 || !strings.Contains(r.err, "not a TTY") {
		t.Errorf("-t without a terminal: %+v", r)
	}
}
