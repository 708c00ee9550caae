//go:build root

//lint:file-ignore SA1019 Prestart is deprecated, and still used

package ocirun_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime/runtimetest"
)

// bin has the program as make builds it, apart as go build does.
var bin, apart string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "muelle-oci-test")
	if err != nil {
		panic(err)
	}
	bin, apart = dir, filepath.Join(dir, "apart")
	for _, args := range [][]string{
		{"build", "-trimpath", "-ldflags=-s -w", "-o", apart + "/", "muelle/cmd/muelle-shim", "muelle/cmd/muelle-oci"},
		{"run", "muelle/hack/join", apart, bin},
	} {
		build := exec.Command("go", args...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	// What create leaves becomes ours, as it would an engine's monitor's.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// bundle is one container's folder with what to run in it.
type bundle struct {
	t    *testing.T
	id   string
	dir  string
	root string
	spec *specs.Spec
}

var count int

func newBundle(t *testing.T, args ...string) *bundle {
	t.Helper()
	count++
	b := &bundle{t: t, id: fmt.Sprintf("oci%d-%d", os.Getpid(), count), dir: t.TempDir(), root: t.TempDir()}
	rootfs := runtimetest.MakeRootfs(t)
	b.spec = runtimetest.Spec("/muelle-oci-test/"+b.id, args...)
	b.spec.Root.Path = rootfs
	b.spec.Annotations = map[string]string{"org.example": "x"}
	t.Cleanup(func() {
		b.oci("delete", "--force", b.id)
		b.gone()
	})
	return b
}

func (b *bundle) write() {
	b.t.Helper()
	data, err := json.Marshal(b.spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.json"), data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// oci calls the runtime with output to files, which a container may keep open.
func (b *bundle) oci(args ...string) (string, error) {
	b.t.Helper()
	out, err := os.CreateTemp(b.dir, "out")
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(bin, "muelle-oci"), append([]string{"--root", b.root}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, rerr := os.ReadFile(out.Name())
	if rerr != nil {
		b.t.Fatal(rerr)
	}
	return string(text), err
}

func (b *bundle) must(args ...string) string {
	b.t.Helper()
	out, err := b.oci(args...)
	if err != nil {
		b.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return out
}

func (b *bundle) fails(want string, args ...string) {
	b.t.Helper()
	out, err := b.oci(args...)
	if err == nil || !strings.Contains(out, want) {
		b.t.Errorf("%v: got %v, %q, want %q", args, err, out, want)
	}
}

func (b *bundle) state() (s specs.State) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.must("state", b.id)), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bundle) await(status specs.ContainerState) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); b.state().Status != status; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("status is %s, want %s", b.state().Status, status)
		}
	}
}

// gone fails if anything of the container is left.
func (b *bundle) gone() {
	b.t.Helper()
	left, err := os.ReadDir(b.root)
	if err != nil || len(left) > 0 {
		b.t.Errorf("left in the root: %v, %v", left, err)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/muelle-oci-test/" + b.id)
	if _, err := os.Stat("/sys/fs/cgroup/muelle-oci-test/" + b.id); err == nil || len(groups) > 0 {
		b.t.Errorf("left cgroups: %v", groups)
	}
	for _, g := range append(groupsOf("/muelle-oci-test"), "/sys/fs/cgroup/muelle-oci-test") {
		os.Remove(g)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), b.spec.Root.Path) {
		b.t.Errorf("a mount is left, or %v", err)
	}
}

func groupsOf(path string) []string {
	all, _ := filepath.Glob("/sys/fs/cgroup/*" + path)
	return all
}

func TestLifecycle(t *testing.T) {
	b := newBundle(t, "sh", "-c", "trap 'echo bye; exit 3' TERM; echo up >/tmp/up; while :; do sleep 0.01; done")
	b.write()
	pidFile := filepath.Join(b.dir, "pid")
	b.fails("does not exist", "state", b.id)
	b.must("create", "--bundle", b.dir, "--pid-file", pidFile, b.id)
	s := b.state()
	pid, err := os.ReadFile(pidFile)
	if err != nil || string(pid) != strconv.Itoa(s.Pid) {
		t.Errorf("pid file has %q, %v, state %d", pid, err, s.Pid)
	}
	want := specs.State{Version: specs.Version, ID: b.id, Status: "created", Pid: s.Pid, Bundle: b.dir, Annotations: map[string]string{"org.example": "x"}}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	b.fails("exists", "create", "--bundle", b.dir, b.id)
	up := filepath.Join(b.spec.Root.Path, "tmp/up")
	if _, err := os.Stat(up); err == nil {
		t.Error("the program runs before start")
	}
	b.must("start", b.id)
	b.fails("cannot start", "start", b.id)
	b.fails("not stopped", "delete", b.id)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(up); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("the program does not run")
		}
	}
	if out := b.must("exec", b.id, "sh", "-c", "echo $$; hostname; id -u"); !strings.HasSuffix(out, "\nbox\n0\n") {
		t.Errorf("exec printed %q", out)
	}
	if out, err := b.oci("exec", b.id, "sh", "-c", "exit 7"); err == nil || err.Error() != "exit status 7" {
		t.Errorf("exec gave %v, %s", err, out)
	}
	b.fails("executable file not found", "exec", b.id, "nope")
	if out := b.must("ps", "--format", "json", b.id); !strings.Contains(out, strconv.Itoa(s.Pid)) {
		t.Errorf("ps printed %s", out)
	}
	b.must("pause", b.id)
	b.await("paused")
	b.must("resume", b.id)
	b.await("running")
	b.must("update", "--memory", "64m", b.id)
	if out := b.must("events", "--stats", b.id); !strings.Contains(out, `"limit":67108864`) {
		t.Errorf("statistics are %s", out)
	}
	if out := b.must("list", "-q"); out != b.id+"\n" {
		t.Errorf("list printed %q", out)
	}
	b.fails("unknown signal", "kill", b.id, "SIGNOPE")
	b.must("kill", b.id, "TERM")
	b.await("stopped")
	var status unix.WaitStatus
	if _, err := unix.Wait4(s.Pid, &status, 0, nil); err != nil || status.ExitStatus() != 3 {
		t.Errorf("the process is not the caller's: %v, status %d", err, status.ExitStatus())
	}
	b.fails("not running", "kill", b.id, "KILL")
	b.must("delete", b.id)
	b.fails("does not exist", "delete", b.id)
	b.must("delete", "--force", b.id)
}

func TestHooks(t *testing.T) {
	b := newBundle(t, "true")
	log := filepath.Join(b.dir, "log")
	if err := os.MkdirAll(filepath.Join(b.spec.Root.Path, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	// In the container the log is a file bound into it.
	inside := "/log"
	if err := os.WriteFile(log, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: inside, Type: "bind", Source: log, Options: []string{"bind"}})
	host, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	hook := func(kind, file, sh string) []specs.Hook {
		script := fmt.Sprintf(`set -e; s=$(cat); ns=other; [ "$(readlink /proc/self/ns/mnt)" = "%s" ] && ns=runtime; st=${s#*\"status\":\"}; echo %s ${st%%%%\"*} $ns $X >>%s`, host, kind, file)
		return []specs.Hook{{Path: sh, Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin", "X=" + kind}}}
	}
	b.spec.Hooks = &specs.Hooks{
		Prestart: hook("prestart", log, "/bin/sh"), CreateRuntime: hook("createRuntime", log, "/bin/sh"),
		CreateContainer: hook("createContainer", log, "/bin/sh"), StartContainer: hook("startContainer", inside, "/bin/sh"),
		Poststart: hook("poststart", log, "/bin/sh"), Poststop: hook("poststop", log, "/bin/sh"),
	}
	b.write()
	b.must("create", "--bundle", b.dir, b.id)
	b.must("start", b.id)
	b.await("stopped")
	b.must("delete", b.id)
	got, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	want := "prestart creating runtime prestart\ncreateRuntime creating runtime createRuntime\ncreateContainer creating other createContainer\n" +
		"startContainer created other startContainer\npoststart running runtime poststart\npoststop stopped runtime poststop\n"
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
}

func TestFailingHooks(t *testing.T) {
	fail := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no such luck >&2; exit 4"}}}
	slow, limit := []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "100"}}}, 1
	slow[0].Timeout = &limit
	for _, tt := range []struct {
		name, want string
		hooks      specs.Hooks
		atStart    bool
	}{
		{"createRuntime", "no such luck", specs.Hooks{CreateRuntime: fail}, false},
		{"createContainer", "no such luck", specs.Hooks{CreateContainer: fail}, false},
		{"startContainer", "no such luck", specs.Hooks{StartContainer: fail}, true},
		{"poststart", "no such luck", specs.Hooks{Poststart: fail}, true},
		{"too slow", "longer than 1 s", specs.Hooks{CreateRuntime: slow}, false},
		{"too slow inside", "longer than 1 s", specs.Hooks{CreateContainer: slow}, false},
		{"relative path", "not absolute", specs.Hooks{Prestart: []specs.Hook{{Path: "true"}}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBundle(t, "sleep", "1000")
			b.spec.Hooks = &tt.hooks
			b.write()
			if !tt.atStart {
				b.fails(tt.want, "create", "--bundle", b.dir, b.id)
				b.gone()
				return
			}
			b.must("create", "--bundle", b.dir, b.id)
			b.fails(tt.want, "start", b.id)
			b.await("stopped")
		})
	}
}

func TestConsole(t *testing.T) {
	b := newBundle(t, "sh", "-c", "tty; stty size; read x; echo [$x]")
	b.spec.Process.Terminal, b.spec.Process.ConsoleSize = true, &specs.Box{Width: 100, Height: 30}
	b.write()
	b.fails("without setting console socket", "create", "--bundle", b.dir, b.id)
	path := filepath.Join(b.dir, "tty.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.must("create", "--bundle", b.dir, "--console-socket", path, b.id)
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(err)
	}
	tty := os.NewFile(uintptr(fds[0]), "tty")
	defer tty.Close()
	b.must("start", b.id)
	if _, err := tty.WriteString("typed\n"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for part := make([]byte, 256); ; {
		n, err := tty.Read(part)
		out.Write(part[:n])
		if err != nil {
			break // EIO: nobody has it open any more
		}
	}
	for _, want := range []string{"/dev/pts/0\r\n", "30 100\r\n", "[typed]\r\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		change     func(*specs.Spec)
	}{
		{"missing program", "executable file not found in $PATH", func(s *specs.Spec) { s.Process.Args = []string{"nope"} }},
		{"missing path", "no such file or directory", func(s *specs.Spec) { s.Process.Args = []string{"/nope/x"} }},
		{"not executable", "permission denied", func(s *specs.Spec) { s.Process.Args = []string{"/etc/passwd"} }},
		{"missing root", "invalid rootfs", func(s *specs.Spec) { s.Root.Path = "nowhere" }},
		{"other version", "ociVersion", func(s *specs.Spec) { s.Version = "2.0.0" }},
		{"unknown capability", "unknown capability", func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_X"} }},
		{"seccomp listener", "listenerPath", func(s *specs.Spec) { s.Linux.Seccomp.ListenerPath = "/x" }},
		{"Intel RDT", "Intel RDT", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }},
		{"user namespace without maps", "needs uidMappings", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		}},
		{"maps without user namespace", "isn't enabled", func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }},
		{"device that the host does not have", "the host's is bound", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 5}}
		}},
		{"map of a file system in memory", "only binds", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "tmpfs", Source: "tmpfs", UIDMappings: ids, GIDMappings: ids})
		}},
		{"clocks without time namespace", "need a new time namespace", func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
		}},
		{"unknown clock", "unknown clock", func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"wall": {Secs: 1}}
		}},
		{"sharing mounts with a mount namespace of others", "mount namespace of the container's own", func(s *specs.Spec) {
			s.Linux.Namespaces, s.Linux.RootfsPropagation = s.Linux.Namespaces[1:], "shared"
		}},
		{"twice the same namespace", "duplicated ns", func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, s.Linux.Namespaces[0]) }},
		{"missing source", "no such file or directory", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/nonexistent", Options: []string{"bind"}})
		}},
		{"kernel parameter of the host", "not in a separate kernel namespace", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.panic": "1"} }},
		{"a cgroup of systemd's without the flag", "needs --systemd-cgroup", func(s *specs.Spec) { s.Linux.CgroupsPath = "a.slice:b:c" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBundle(t, "true")
			tt.change(b.spec)
			b.write()
			b.fails(tt.want, "create", "--bundle", b.dir, b.id)
			b.spec.Root.Path = b.dir // for the search of mounts
		})
	}
	b := newBundle(t, "true")
	b.write()
	b.fails("invalid container ID", "create", "--bundle", b.dir, "../x")
	b.fails("no such command", "checkpoint", b.id)
	if !cgroup.Systemd() { // else test/vm has it
		b.fails("systemd does not run here", "--systemd-cgroup", "create", "--bundle", b.dir, b.id)
	}
	log := filepath.Join(b.dir, "log.json")
	if _, err := b.oci("--log", log, "--log-format", "json", "start", b.id); err == nil {
		t.Error("started what does not exist")
	}
	var line struct{ Level, Msg string }
	data, err := os.ReadFile(log)
	if err != nil || json.Unmarshal(data, &line) != nil || line.Level != "error" || !strings.Contains(line.Msg, "does not exist") {
		t.Errorf("the log has %q, %v", data, err)
	}
}
