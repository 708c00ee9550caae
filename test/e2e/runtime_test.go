//go:build root

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"muelle/internal/shimfile"
)

// carriedShim is the shim in the file in bin/.
func carriedShim(t *testing.T) shimfile.Program {
	t.Helper()
	f, err := os.Open(filepath.Join(world.bin, "muelle-shim"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := shimfile.Find(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOneFile: muelle-oci is a link to muelle-shim, and yet what runs beside a container
// is the small program alone.
func TestOneFile(t *testing.T) {
	shim, err := os.Stat(filepath.Join(world.bin, "muelle-shim"))
	if err != nil {
		t.Fatal(err)
	}
	oci, err := os.Stat(filepath.Join(world.bin, "muelle-oci"))
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(shim, oci) {
		t.Error("muelle-oci is no link to muelle-shim: run make build")
	}
	carried := carriedShim(t)
	c := ours(world.daemon)
	box := c.unique(t, "one-file")
	c.must(t, "run", "-d", "--name", box, "busybox", "sleep", "600")
	c.remove(t, box)
	var parent string
	status, err := os.ReadFile("/proc/" + c.must(t, "inspect", "-f", "{{.State.Pid}}", box) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent = strings.TrimSpace(rest)
		}
	}
	beside, err := os.Stat("/proc/" + parent + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	if beside.Size() != carried.Size || beside.Size() > 3<<20 {
		t.Errorf("the program beside a container has %d bytes, the shim %d, their file %d", beside.Size(), carried.Size, shim.Size())
	}
	out, err := exec.Command(filepath.Join(world.bin, "muelle-oci"), "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "muelle-oci version ") {
		t.Errorf("called as muelle-oci it says %q, %v", out, err)
	}
	text, err := exec.Command(filepath.Join(world.bin, "muelle-shim"), "--version").CombinedOutput()
	if err == nil || !strings.HasPrefix(string(text), "muelle-shim: this is no command: ") {
		t.Errorf("called as muelle-shim it says %q, %v", text, err)
	}
}

// TestOtherRuntime runs containers by Debian's runc and by muelle-oci: what the shim
// owns is as with Muelle's own runtime, also after the daemon's death.
func TestOtherRuntime(t *testing.T) {
	runc, err := exec.LookPath("/usr/sbin/runc")
	if err != nil {
		t.Fatal(err) // hack/deps.sh installs it
	}
	d := own(t, "--add-runtime", "runc="+runc, "--add-runtime", "oci="+filepath.Join(world.bin, "muelle-oci"))
	ours(d).must(t, "pull", "-q", "busybox")
	for _, c := range clients(t, d) {
		t.Run(c.name, func(t *testing.T) {
			if got := c.must(t, "info", "-f", "{{range $k, $v := .Runtimes}}{{$k}} {{end}}{{.DefaultRuntime}}"); got != "muelle oci runc muelle" {
				t.Errorf("info tells %q", got)
			}
			if r := c.try(t, "run", "--rm", "--runtime", "nope", "busybox", "true"); r.code != 125 || !strings.Contains(r.err, "unknown or invalid runtime name: nope") {
				t.Errorf("an unknown runtime: %+v", r)
			}
			for _, name := range []string{"runc", "oci"} {
				t.Run(name, func(t *testing.T) { otherRuntime(t, d, c, name) })
			}
		})
	}
}

func otherRuntime(t *testing.T, d *daemon, c client, name string) {
	if r := c.try(t, "run", "--rm", "--runtime", name, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"); r.code != 3 || r.out != "out\n" || r.err != "err\n" {
		t.Errorf("run: %+v", r)
	}
	if r := c.try(t, "run", "--rm", "--runtime", name, "busybox", "nope"); r.code != 127 || !strings.Contains(r.err, "executable file not found") {
		t.Errorf("a missing program: %+v", r)
	}
	want := fmt.Sprintf("typed\n%d\n", carriedShim(t).Size)
	if r := c.pipe(t, []byte("typed\n"), "run", "--rm", "-i", "--init", "--runtime", name, "busybox", "sh", "-c", "cat; stat -c %s /sbin/docker-init"); r.code != 0 || r.out != want {
		t.Errorf("input through an init: %+v, want %q", r, want)
	}
	box := c.unique(t, name)
	c.must(t, "run", "-d", "--name", box, "--runtime", name, "-m", "32m", "busybox", "sh", "-c", "trap 'echo bye; exit 6' TERM; echo ready; while :; do usleep 20000; done")
	c.remove(t, box)
	if r := c.try(t, "exec", box, "sh", "-c", "cat /proc/1/cmdline | head -c 2; exit 4"); r.code != 4 || r.out != "sh" {
		t.Errorf("exec: %+v", r)
	}
	if c.name == "muelle" {
		debugOther(t, c, box)
	}
	pid := c.must(t, "inspect", "-f", "{{.State.Pid}}", box)
	d.kill(t)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if got := c.must(t, "inspect", "-f", "{{.State.Pid}} {{.State.Status}} {{.HostConfig.Runtime}}", box); got != pid+" running "+name {
		t.Errorf("after the daemon's death: %s, was %s", got, pid)
	}
	if r := c.try(t, "exec", box, "echo", "again"); r.out != "again\n" {
		t.Errorf("exec after the daemon's death: %+v", r)
	}
	c.must(t, "pause", box)
	c.must(t, "unpause", box)
	c.must(t, "update", "-m", "48m", "--memory-swap", "-1", box)
	c.must(t, "stop", box)
	if got := c.must(t, "inspect", "-f", "{{.State.ExitCode}}", box); got != "6" {
		t.Errorf("stopped with %s", got)
	}
	if got := c.must(t, "logs", box); got != "ready\nbye" {
		t.Errorf("the log has %q", got)
	}
	c.must(t, "start", box)
	c.must(t, "kill", box)
	if got := c.must(t, "wait", box); got != "137" {
		t.Errorf("killed with %s", got)
	}
}

// debugOther: a session is our shim's, whoever made the container; it is in its control
// group too.
func debugOther(t *testing.T, c client, box string) {
	t.Helper()
	r := c.try(t, "debug", "--image", "busybox", "-c", "ls -d /proc/fs/bin; touch /debugged; head -c 2 /proc/1/cmdline; cut -d: -f3 /proc/self/cgroup | sort -u >/session; cut -d: -f3 /proc/1/cgroup | sort -u | cmp - /session && exit 6", box)
	if r.code != 6 || r.out != "/proc/fs/bin\nsh" {
		t.Errorf("debug: %+v", r)
	}
	if got := c.must(t, "exec", box, "sh", "-c", "rm /debugged /session; grep -c ' /proc/fs ' /proc/1/mountinfo || true"); got != "0" && got != "1" {
		t.Errorf("the container sees %q", got)
	}
	if r := c.try(t, "debug", "--privileged=false", "--image", "busybox", "-c", "true", box); r.code == 0 || !strings.Contains(r.out+r.err, "debug it with --privileged") {
		t.Errorf("with the container's unknown filter: %+v", r)
	}
}
