//go:build root

package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/api"
)

func explain(t *testing.T, name string) api.WhyReport {
	t.Helper()
	var r api.WhyReport
	if err := json.Unmarshal([]byte(ours(world.daemon).must(t, "why", "--json", name)), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// wantCause checks the most important finding: its cause, and what all of it says.
func wantCause(t *testing.T, name, cause string, parts ...string) {
	t.Helper()
	r := explain(t, name)
	f := r.Findings[0]
	text := f.What + "\n" + strings.Join(f.Do, "\n")
	for _, e := range f.Evidence {
		text += "\n" + e.Source + ": " + e.Text
	}
	if f.Cause != cause {
		t.Errorf("%s: cause %s, want %s\n%+v", name, f.Cause, cause, r)
	}
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s: %q is missing in\n%s", name, p, text)
		}
	}
	if len(f.Evidence) == 0 && cause != "running" {
		t.Errorf("%s: %s without evidence", name, cause)
	}
}

// crasher is the smallest program that uses memory which is not its own.
func crasher() []byte {
	const base, head = 0x400000, 120
	code := []byte{0x31, 0xc0, 0x88, 0x00} // xor eax,eax; mov [rax],al
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	put := func(v ...any) {
		for _, x := range v {
			binary.Write(&b, binary.LittleEndian, x)
		}
	}
	put([]uint16{2, 62}, uint32(1), []uint64{base + head, 64, 0}, uint32(0), []uint16{64, 56, 1, 0, 0, 0})
	put([]uint32{1, 5}, []uint64{0, base, base, uint64(head + len(code)), uint64(head + len(code)), 0x1000})
	b.Write(code)
	return b.Bytes()
}

// whyImage is an image of busybox and of programs that do not start.
func whyImage(t *testing.T, c client) string {
	t.Helper()
	dir := t.TempDir()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"bin", "tmp", "etc", "lib"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"crlf.sh": "#!/bin/sh\r\necho\r\n", "lost.sh": "#!/usr/bin/python9\n", "plain.sh": "echo hi\n", "garbage": "hello",
		"arm":   "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00" + strings.Repeat("\x00", 200),
		"crash": string(crasher()), "lib/ld-musl-x86_64.so.1": "x", "etc/passwd": "root:x:0:0:root:/:/bin/sh\n",
	}
	for name, from := range map[string]string{"bin/busybox": busybox, "dynamic": "/bin/ls"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(data)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "plain.sh"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, applet := range strings.Fields("sh sleep mkdir mount dd kill echo cat") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	tar, err := exec.Command("tar", "-C", dir, "-c", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	name := c.unique(t, "why")
	if r := c.pipe(t, tar, "import", "-c", `CMD ["sh"]`, "-", name); r.code != 0 {
		t.Fatalf("import: %+v", r)
	}
	t.Cleanup(func() { c.try(t, "rmi", "-f", name) })
	return name
}

func TestWhyItEnded(t *testing.T) {
	c := ours(world.daemon)
	img := whyImage(t, c)
	host := t.TempDir()
	profile := filepath.Join(host, "kill.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_KILL_PROCESS"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(host, "run.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\r\necho hi\r\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sh := func(script string, flags ...string) []string { return append(flags, img, "sh", "-c", script) }
	cases := []struct {
		name  string
		args  []string
		cause string
		parts []string
	}{
		{"no-program", []string{img, "nosuch"}, "missing-program", []string{"searched /usr/local/sbin", "executable file not found"}},
		{"quoted", []string{img, "ls -l"}, "missing-program", []string{"leave the quotes away"}},
		{"hidden", []string{"-v", host + ":/bin", img, "/bin/sh"}, "missing-program", []string{"hides what the image has there"}},
		{"typo", []string{img, "slepe", "1"}, "missing-program", []string{"Did you mean sleep?"}},
		{"crlf-mounted", []string{"-v", script + ":/run.sh", img, "/run.sh"}, "crlf", []string{"Windows line endings"}},
		{"not-executable-mounted", []string{"-v", profile + ":/run.sh", img, "/run.sh"}, "not-executable", []string{"chmod +x " + profile}},
		{"folder-for-file", []string{"-v", host + "/app.conf:/etc/app.conf", img, "cat", "/etc/app.conf"}, "mounted-folder", []string{"rmdir " + host + "/app.conf"}},
		{"missing-file", []string{img, "cat", "/srv/app.conf"}, "missing-file", []string{"looked for /srv/app.conf", "COPY"}},
		{"refused", sh("echo 'connect ECONNREFUSED 127.0.0.1:5432'; exit 1"), "refused", []string{"is the container itself"}},
		{"read-only-root", sh("echo x >/foo", "--read-only"), "read-only", []string{"--tmpfs /tmp"}},
		{"crlf", []string{img, "/crlf.sh"}, "crlf", []string{"Windows line endings", `"#!/bin/sh\r"`, "sed -i"}},
		{"no-interpreter", []string{img, "/lost.sh"}, "missing-interpreter", []string{"/usr/bin/python9"}},
		{"not-executable", []string{img, "/plain.sh"}, "not-executable", []string{"0644", "COPY --chmod=755"}},
		{"no-shebang", []string{img, "/garbage"}, "not-a-program", []string{"#!"}},
		{"no-loader", []string{img, "/dynamic"}, "missing-loader", []string{"/lib64/ld-linux-x86-64.so.2", "built for glibc, and the image has musl"}},
		{"arm", []string{img, "/arm"}, "wrong-architecture", []string{"built for arm64, this machine is amd64"}},
		{"directory", []string{img, "/tmp"}, "is-directory", nil},
		{"no-user", []string{"-u", "bob", img, "sh"}, "no-user", []string{`"bob"`}},
		{"workdir", []string{"-w", "/etc/passwd", img, "sh"}, "workdir", []string{"/etc/passwd"}},
		{"shell-127", sh("nosuchtool"), "missing-program", []string{"nosuchtool", "exit code 127"}},
		{"shell-126", sh("/plain.sh"), "not-executable", []string{"/plain.sh"}},
		{"library", sh("echo '/x: error while loading shared libraries: libfoo.so.1: cannot open shared object file'; exit 127"), "missing-library", []string{"libfoo.so.1"}},
		{"oom", sh("x=a; while :; do x=$x$x; done", "-m", "20m", "--memory-swap", "20m"), "oom", []string{"limit of 20m", "oom_kill", "Killed process", "--memory 40m"}},
		{"pids", sh("for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait; exit 1", "--pids-limit", "5"), "pids-exhausted", []string{"limit of 5", "pids.events"}},
		{"read-only", sh("echo x >/etc/foo", "--read-only"), "read-only", []string{"--tmpfs /etc"}},
		{"read-only-mount", sh("echo x >/data/f", "-v", host+":/data:ro"), "read-only", []string{"/data is mounted read-only", host}},
		{"owner", sh("echo x >/data/f", "-u", "1000", "-v", host+":/data"), "wrong-owner", []string{"user 1000", "belongs to user 0", "chown -R 1000:0 " + host}},
		{"space", sh("dd if=/dev/zero of=/t/x bs=1k count=100 || exit 1", "--tmpfs", "/t:size=64k"), "disk-full", []string{"tmpfs at /t"}},
		{"sigsys", []string{"--security-opt", "seccomp=" + profile, img, "mkdir", "/x"}, "denied-syscall", []string{"system call", "SIGSYS"}},
		{"eperm", []string{img, "mount", "-t", "tmpfs", "none", "/tmp"}, "denied-syscall", []string{"mounting", "the default one"}},
		{"crash", []string{img, "/crash"}, "crashed", []string{"SIGSEGV"}},
		{"finished", []string{img, "echo", "hi"}, "finished", []string{"with success"}},
		{"no-input", []string{img}, "finished", []string{"read the end of its input", "-it"}},
		{"variable", sh(": ${DATABASE_URL:?}"), "missing-variable", []string{"DATABASE_URL, which is not set", "-e DATABASE_URL=VALUE"}},
		{"variable-empty", sh(": ${DATABASE_URL:?}", "-e", "DATABASE_URL="), "missing-variable", []string{"set, but empty"}},
		{"failed", sh("echo no database; exit 3"), "failed", []string{"exit code 3", "no database"}},
		{"address", []string{"-p", "198.51.100.99:80:80", img, "sh"}, "no-such-address", []string{"198.51.100.99, which is no address of this host", "-p 80:80"}},
		{"oom-child", sh(`sh -c 'x=a; while :; do x=$x$x; done'; exit 5`, "-m", "20m", "--memory-swap", "20m"), "oom", []string{"killed one of its processes"}},
		{"name", sh("echo \"wget: bad address 'db'\"; exit 1"), "unresolved-name", []string{"resolve db", "default bridge"}},
	}
	for _, tc := range cases {
		name := c.unique(t, tc.name)
		c.try(t, append([]string{"run", "--name", name}, tc.args...)...)
		c.remove(t, name)
		wantCause(t, name, tc.cause, tc.parts...)
	}
	text := c.must(t, "why", c.unique(t, "oom"))
	if !strings.Contains(text, "exited (137) since") || !strings.Contains(text, "What to do:") {
		t.Errorf("the text is\n%s", text)
	}
	if r := c.try(t, "why", "nosuch"); r.code != 1 || !strings.Contains(r.err, "No such container: nosuch") {
		t.Errorf("%+v", r)
	}
}

// TestWhyNoAnswer: the other container is looked at, and the resolver's record.
func TestWhyNoAnswer(t *testing.T) {
	c := ours(world.daemon)
	near, far, app, db := c.unique(t, "near"), c.unique(t, "far"), c.unique(t, "app"), c.unique(t, "db")
	for _, n := range []string{near, far} {
		c.must(t, "network", "create", n)
		t.Cleanup(func() { c.must(t, "network", "rm", n) })
	}
	c.must(t, "run", "-d", "--name", db, "--network", far, "busybox", "sleep", "1000")
	c.remove(t, db)
	run := func(script string, flags ...string) {
		t.Helper()
		c.try(t, "rm", "-f", app)
		c.try(t, append(append([]string{"run", "--name", app}, flags...), "busybox", "sh", "-c", script)...)
	}
	c.remove(t, app)
	run("nslookup "+db+" >/dev/null; echo \"wget: bad address '"+db+"'\"; exit 1", "--network", near)
	wantCause(t, app, "unresolved-name", "share no network", app+": "+near+"; "+db+": "+far, "muelle network connect "+far+" "+app)
	run("echo 'dial tcp "+db+":80: connect: connection refused'; exit 1", "--network", far)
	wantCause(t, app, "refused", "nothing in it listens on port 80")
	c.must(t, "exec", "-d", db, "nc", "-l", "-p", "80")
	if err := eventually(30*time.Second, func() error {
		if text := c.must(t, "why", app); !strings.Contains(text, "nothing listened there yet") {
			return fmt.Errorf("%s", text)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	c.must(t, "kill", db)
	wantCause(t, app, "refused", db+" does not run", "exited (137)")
}

func TestWhyItWasKilled(t *testing.T) {
	c := ours(world.daemon)
	img := whyImage(t, c)
	run := func(what string, args ...string) string {
		t.Helper()
		name := c.unique(t, what)
		c.must(t, append([]string{"run", "-d", "--name", name}, args...)...)
		c.remove(t, name)
		return name
	}
	killed := run("killed", img, "sleep", "100")
	c.must(t, "kill", killed)
	wantCause(t, killed, "killed-by-user", "SIGKILL", "docker kill")
	slow := run("slow", img, "sh", "-c", "sleep 100; true")
	c.must(t, "stop", "-t", "0", slow)
	wantCause(t, slow, "stop-timeout", "SIGTERM", "(stop timeout)", "its first process is a shell")
	stopped := run("stopped", "--init", img, "sleep", "100")
	c.must(t, "stop", stopped)
	wantCause(t, stopped, "stopped", "by a user")
	outside := run("outside", img, "sleep", "100")
	var pid int
	if _, err := fmt.Sscan(c.must(t, "inspect", "-f", "{{.State.Pid}}", outside), &pid); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.must(t, "wait", outside)
	wantCause(t, outside, "killed-outside", "the engine did not send")
	never := c.unique(t, "never")
	c.must(t, "create", "--name", never, img)
	c.remove(t, never)
	wantCause(t, never, "never-started", "never started")
	fine := run("fine", img, "sleep", "100")
	wantCause(t, fine, "running", "nothing is known to be wrong")
}

func TestWhyItIsUnwell(t *testing.T) {
	c := ours(world.daemon)
	img := whyImage(t, c)
	ill, loop := c.unique(t, "ill"), c.unique(t, "loop")
	c.must(t, "run", "-d", "--name", ill, "--health-cmd", "curl -f http://localhost/", "--health-interval", "50ms", "--health-retries", "2", img, "sleep", "100")
	c.remove(t, ill)
	c.must(t, "run", "-d", "--name", loop, "--restart", "always", img, "sh", "-c", "exit 4")
	c.remove(t, loop)
	awaitHealth(t, c, ill, ctypes.Unhealthy)
	wantCause(t, ill, "unhealthy", "curl: not found", "curl is not in the image", "--health-http")
	since := func() string {
		_, text, _ := strings.Cut(explain(t, ill).Findings[0].What, "fails since ")
		at, _, _ := strings.Cut(text, ",")
		return at
	}
	first := since()
	// More failures than are kept: it is known all the same when they began.
	if err := eventually(20*time.Second, func() error {
		var n int
		if _, err := fmt.Sscan(c.must(t, "inspect", "-f", "{{.State.Health.FailingStreak}}", ill), &n); err != nil || n < 40 {
			return fmt.Errorf("%d failures: %v", n, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if now := since(); now != first || first == "" {
		t.Errorf("unhealthy since %q, and before since %q", now, first)
	}
	if err := eventually(20*time.Second, func() error {
		causes := map[string]string{}
		for _, f := range explain(t, loop).Findings {
			causes[f.Cause] = f.What
		}
		if !strings.Contains(causes["crash-loop"], "ended the same way: exit code 4") || !strings.Contains(causes["back-off"], "waits for its next start") {
			return fmt.Errorf("%v", causes)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestWhyAPortIsTaken(t *testing.T) {
	c := ours(world.daemon)
	img := whyImage(t, c)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, number, _ := net.SplitHostPort(l.Addr().String())
	mine, theirs, holder := c.unique(t, "mine"), c.unique(t, "theirs"), c.unique(t, "holder")
	c.try(t, "run", "--name", mine, "-p", number+":80", img, "sh")
	c.remove(t, mine)
	wantCause(t, mine, "port-taken", "Port "+number, "by process ", fmt.Sprintf("pid %d", os.Getpid()), "-p OTHER:80")
	c.must(t, "run", "-d", "--name", holder, "-p", "18099:80", img, "sleep", "100")
	c.remove(t, holder)
	c.try(t, "run", "--name", theirs, "-p", "18099:80", img, "sh")
	c.remove(t, theirs)
	wantCause(t, theirs, "port-taken", "container "+holder, "muelle stop "+holder)
}

func TestWhyAServiceDoesNotStart(t *testing.T) {
	c := ours(world.daemon)
	img := whyImage(t, c)
	compose := project(t, `
services:
  db:
    image: `+img+`
    command: sleep 100
    stop_grace_period: 0s
    x-health: {tcp: 5432, interval: 100ms, retries: 1}
  web:
    image: `+img+`
    command: sleep 100
    depends_on: {db: {condition: service_healthy}}
`)
	if r := compose("up", "-d"); r.code == 0 {
		t.Fatalf("up: %+v", r)
	}
	name := strings.ToLower(t.Name())
	wantCause(t, name+"/web", "dependency", "waits for service db, which is unhealthy")
	wantCause(t, name+"/db", "unhealthy", "nothing listens on port 5432")
}

func TestWhyAfterTheDaemonsEnd(t *testing.T) {
	d := own(t)
	c := ours(d)
	img := whyImage(t, c)
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--init", "--name", name, img, "sleep", "100")
	c.remove(t, name)
	if err := d.shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if out := c.must(t, "why", name); !strings.Contains(out, "because the engine itself was shut down") {
		t.Error(out)
	}
}
