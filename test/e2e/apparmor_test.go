//go:build root && vm

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// strict is a profile that an administrator might load.
const strict = `profile muelle-test-strict flags=(attach_disconnected,mediate_deleted) {
  file, capability, network, signal, umount, ptrace,
  deny /etc/secret r,
}
`

// loadProfile loads a profile of AppArmor into the machine's kernel.
func loadProfile(t *testing.T, text string) {
	t.Helper()
	for _, how := range []string{"-Kr", "-KR"} {
		load := func() {
			cmd := exec.Command("/sbin/apparmor_parser", how)
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("apparmor_parser %s: %v %s", how, err, out)
			}
		}
		if how == "-KR" {
			t.Cleanup(load)
			continue
		}
		load()
	}
}

// TestAppArmor: every container runs under Docker's profile unless it asks for
// something else, and the profile bites.
//
//muelle:ring
func TestAppArmor(t *testing.T) {
	c := ours(world.daemon)
	if got := c.must(t, "info", "-f", "{{json .SecurityOptions}}"); !strings.Contains(got, `"name=apparmor"`) {
		t.Errorf("info %s", got)
	}
	loadProfile(t, strict)
	const (
		current = "cat /proc/self/attr/current"
		mount   = "(mount -t tmpfs none /mnt && echo mounted) 2>&1"
		secret  = "echo x >/etc/secret; cat /etc/secret 2>&1"
		capable = "--cap-add SYS_ADMIN --security-opt seccomp=unconfined "
	)
	for _, tt := range []struct{ name, options, script, want string }{
		{"default", "", current, "docker-default (enforce)"},
		{"with an init", "--init", current, "docker-default (enforce)"},
		{"with no-new-privileges", "--security-opt no-new-privileges -u 7", current, "docker-default (enforce)"},
		{"nothing is mounted", capable, "mkdir -p /mnt; " + mount, "mount: mounting none on /mnt failed: Permission denied"},
		{"but unconfined", capable + "--security-opt apparmor=unconfined", "mkdir -p /mnt; " + current + "; " + mount, "unconfined\nmounted"},
		{"nothing is triggered", "--security-opt systempaths=unconfined", "(echo h >/proc/sysrq-trigger) 2>&1", "sh: can't create /proc/sysrq-trigger: Permission denied"},
		{"privileged", "--privileged", current, "unconfined"},
		{"privileged by its own", "--privileged --security-opt apparmor=docker-default", current, "docker-default (enforce)"},
		{"another profile", "--security-opt apparmor=muelle-test-strict", current + "; " + secret, "muelle-test-strict (enforce)\ncat: can't open '/etc/secret': Permission denied"},
		{"of old", "--security-opt apparmor:muelle-test-strict", current, "muelle-test-strict (enforce)"},
	} {
		r := c.try(t, append(append([]string{"run", "--rm"}, strings.Fields(tt.options)...), "busybox", "sh", "-c", tt.script)...)
		if got := strings.TrimSpace(r.out); got != tt.want {
			t.Errorf("%s: got %q, want %q (%+v)", tt.name, got, tt.want, r)
		}
	}
	unknown := `AppArmor profile "muelle-test-none" is not loaded on this host`
	if r := c.try(t, "run", "--rm", "--security-opt", "apparmor=muelle-test-none", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, unknown) {
		t.Errorf("an unknown profile: %+v", r)
	}
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "busybox", "sleep", "1000")
	c.remove(t, name)
	for _, args := range [][]string{{"exec"}, {"exec", "--privileged"}} {
		if got := c.must(t, append(args, name, "cat", "/proc/self/attr/current")...); got != "docker-default (enforce)" {
			t.Errorf("%v: %q", args, got)
		}
	}
	if got := c.must(t, "inspect", "-f", "{{.AppArmorProfile}}", name); got != "docker-default" {
		t.Errorf("inspect %q", got)
	}
	if got := c.must(t, "inspect", "--kernel", name); !strings.Contains(got, "docker-default (enforce)") {
		t.Errorf("the kernel's view:\n%s", got)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM busybox\nRUN cat /proc/self/attr/current >/profile\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "build", "-q", "-t", "profiled", dir)
	if got := c.must(t, "run", "--rm", "profiled", "cat", "/profile"); got != "docker-default (enforce)" {
		t.Errorf("a step of a build: %q", got)
	}
	c.must(t, "rmi", "profiled")
}

// TestAppArmorOfTheDaemon: apparmor-profile holds for containers that name none, also
// in a user namespace, and an unknown one is not found out at the first container only.
//
//muelle:ring
func TestAppArmorOfTheDaemon(t *testing.T) {
	loadProfile(t, strict)
	d := own(t, "--apparmor-profile", "muelle-test-strict", "--userns-pool", "1000000:1000000", "--add-runtime", "oci="+filepath.Join(world.bin, "muelle-oci"))
	c := ours(d)
	for options, want := range map[string]string{
		"": "muelle-test-strict (enforce)", "--userns auto": "muelle-test-strict (enforce)", "--privileged": "unconfined",
		"--runtime oci":                          "muelle-test-strict (enforce)",
		"--security-opt apparmor=docker-default": "docker-default (enforce)", "--userns auto --security-opt apparmor=docker-default": "docker-default (enforce)",
	} {
		if strings.Contains(options, "--userns") && !remappable(t) {
			continue
		}
		if got := c.must(t, append(append([]string{"run", "--rm"}, strings.Fields(options)...), "busybox", "cat", "/proc/self/attr/current")...); got != want {
			t.Errorf("%q: %q, want %q", options, got, want)
		}
	}
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(world.bin, "muelled"), "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "run"),
		"-H", "unix://"+filepath.Join(dir, "s"), "--pidfile", filepath.Join(dir, "pid"), "--apparmor-profile", "muelle-test-none")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "AppArmor profile \\\"muelle-test-none\\\" is not loaded") && !strings.Contains(string(out), `AppArmor profile "muelle-test-none" is not loaded`) {
		t.Errorf("a daemon with an unknown profile: %v %s", err, out)
	}
}

// TestAppArmorWithoutParser: where the profile cannot be compiled, containers that ask for
// none run without one, which is said; to ask for it is an error.
//
//muelle:ring
func TestAppArmorWithoutParser(t *testing.T) {
	const parser, hidden = "/sbin/apparmor_parser", "/sbin/apparmor_parser.hidden"
	if err := os.Rename(parser, hidden); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(hidden, parser); err != nil {
			t.Error(err)
		}
	})
	// Another daemon may have loaded it; that one loads it again when it needs it.
	if f, err := os.OpenFile("/sys/kernel/security/apparmor/.remove", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	} else {
		_, err := f.WriteString("docker-default")
		f.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	c := ours(own(t))
	if got := c.must(t, "run", "--rm", "busybox", "cat", "/proc/self/attr/current"); got != "unconfined" {
		t.Errorf("without a parser: %q", got)
	}
	if r := c.try(t, "info"); !strings.Contains(r.out+r.err, "apparmor_parser is not installed") {
		t.Errorf("info does not tell: %+v", r)
	}
	if r := c.try(t, "run", "--rm", "--security-opt", "apparmor=docker-default", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, "docker-default profile could not be loaded") || !strings.Contains(r.err, "apparmor_parser") {
		t.Errorf("a profile that cannot be loaded: %+v", r)
	}
	c.must(t, "run", "--rm", "--security-opt", "apparmor=unconfined", "busybox", "true")
}
