//go:build root

package e2e

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSecurityOptions looks at the effect of each option from inside.
func TestSecurityOptions(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "no-mkdir.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	status := func(field string) string { return "grep " + field + ": /proc/self/status | cut -f2" }
	const bounding, none = "CapBnd", "0000000000000000"
	for _, tt := range []struct {
		name    string
		options string
		script  string
		want    string
	}{
		{"default capabilities", "", status(bounding), "00000000a80425fb"},
		{"drop all", "--cap-drop ALL", status(bounding), none},
		{"drop all, add one", "--cap-drop all --cap-add CHOWN", status(bounding), "0000000000000001"},
		{"add by its full name", "--cap-drop ALL --cap-add cap_net_raw", status(bounding), "0000000000002000"},
		{"drop one", "--cap-drop CAP_CHOWN", "chown 5 /tmp 2>&1 || true", "chown: /tmp: Operation not permitted"},
		{"seccomp by default", "", status("Seccomp"), "2"},
		{"seccomp unconfined", "--security-opt seccomp=unconfined", status("Seccomp"), "0"},
		{"seccomp builtin", "--security-opt seccomp=builtin", status("Seccomp"), "2"},
		{"seccomp profile", "--security-opt seccomp=" + profile, "mkdir /x 2>&1; echo y >/y && cat /y", "mkdir: can't create directory '/x': Operation not permitted\ny"},
		{"privileged", "--privileged", status("Seccomp") + "; test -w /proc/sys/kernel && echo writable", "0\nwritable"},
		{"no-new-privileges", "--security-opt no-new-privileges", status("NoNewPrivs"), "1"},
		{"new privileges", "--security-opt no-new-privileges=false", status("NoNewPrivs"), "0"},
		{"system paths", "", "cat /proc/keys | wc -l; grep -q ' /proc/sys ' /proc/mounts; echo $?", "0\n0"},
		{"system paths unconfined", "--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/mounts || true", "0"},
		{"labels mean nothing without SELinux", "--security-opt label=type:x", "echo ok", "ok"},
		{"read-only", "--read-only --tmpfs /run", "touch /x 2>&1; touch /run/x && echo run", "touch: /x: Read-only file system\nrun"},
		{"user by id", "-u 1234:567", "id -u; id -g", "1234\n567"},
		{"user by id alone", "-u 1234", "id -u; id -g", "1234\n0"},
		{"user by name", "-u root", "id -u", "0"},
		{"groups by id", "-u 5 --group-add 77 --group-add 78", "id -G", "0 77 78"},
		{"host's process ids", "--pid host", "test -e /proc/$PPID/exe || test -d /proc/2; echo $?", "0"},
		{"own hostname", "--hostname box", "hostname", "box"},
		{"ipc none", "--ipc none", "test -e /dev/shm; echo $?", "1"},
		{"ipc private", "--ipc private", "grep -c ' /dev/shm ' /proc/mounts", "1"},
		{"sysctl", "--sysctl net.ipv4.ip_default_ttl=33 --sysctl kernel.msgmax=4321", "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/msgmax", "33\n4321"},
		{"oom score", "--oom-score-adj 321", "cat /proc/self/oom_score_adj", "321"},
		{"userns host", "--userns host", "cat /proc/self/uid_map | tr -s ' '", " 0 0 4294967295"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			forEach(t, func(t *testing.T, c client) {
				args := append([]string{"run", "--rm"}, strings.Fields(tt.options)...)
				if got := c.must(t, append(args, "busybox", "sh", "-c", tt.script)...); got != strings.TrimSpace(tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestSecurityRefused(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		stopped := c.unique(t, "stopped")
		c.must(t, "create", "--name", stopped, "busybox", "true")
		c.remove(t, stopped)
		private := c.unique(t, "private")
		c.must(t, "run", "-d", "--name", private, "--ipc", "private", "busybox", "sleep", "600")
		c.remove(t, private)
		for options, want := range map[string]string{
			"--cap-add NOPE":                          "invalid capability: \"CAP_NOPE\"",
			"--security-opt bogus=1":                  `invalid --security-opt 2: "bogus=1"`,
			"--security-opt apparmor=strict":          "AppArmor is not enabled on this host",
			"--security-opt no-new-privileges=maybe":  `invalid --security-opt 2: "no-new-privileges=maybe"`,
			"--network host --sysctl net.core.wmem=1": "not allowed in host network namespace",
			"--sysctl kernel.panic=1":                 "is not allowed",
			"--pid container:" + stopped:              "cannot join PID of a non running container",
			"--network container:" + stopped:          "cannot join network of a non running container",
			"--ipc container:" + private:              "non-shareable IPC",
			"--oom-score-adj 1001":                    "range for oom score adj is [-1000, 1000]",
			"-u nobody-here":                          "unable to find user nobody-here: no matching entries in passwd file",
			"--group-add nogroup-here":                "unable to find group nogroup-here",
			"--isolation hyperv":                      "invalid isolation",
			"--uts host --hostname x":                 "conflicting options: hostname and the UTS mode",
		} {
			r := c.try(t, append(append([]string{"run", "--rm"}, strings.Fields(options)...), "busybox", "true")...)
			if r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%s: exit %d, %q, want %q", options, r.code, r.err, want)
			}
		}
	})
}

// withSubids lets the daemons that this test starts find subordinate ids, in the
// test's own mount namespace.
func withSubids(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "subid")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		if err := syscall.Mount(file, name, "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(name, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUserNamespaces runs a daemon that remaps every container.
func TestUserNamespaces(t *testing.T) {
	withSubids(t, "dockremap:2000000:65536\n")
	d := own(t, "--userns-remap", "default", "--userns-pool", "1000000:300000", "--no-new-privileges", "--add-runtime", "oci="+filepath.Join(world.bin, "muelle-oci"))
	makeBusybox(t, d)
	for _, c := range clients(t, d) {
		t.Run(c.name, func(t *testing.T) {
			if got := c.must(t, "info", "-f", "{{json .SecurityOptions}}"); !strings.Contains(got, `"name=userns"`) || !strings.Contains(got, `"name=no-new-privileges"`) {
				t.Errorf("info %s", got)
			}
			testRemapped(t, c)
			testRemappedShared(t, c)
			testRemappedFiles(t, c)
		})
	}
	testAuto(t, ours(d))
	testRemappedFiles(t, ours(d), "--userns=auto") // which Docker's client does not know
	testComposeUsers(t, ours(d))
}

// testComposeUsers: userns_mode of a service.
func testComposeUsers(t *testing.T, c client) {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	text := "name: users\nservices:\n"
	for service, mode := range map[string]string{"remapped": "", "host": "userns_mode: host, ", "auto": "userns_mode: auto, "} {
		text += "  " + service + ": {" + mode + "image: busybox, command: sleep 600, stop_grace_period: 0s}\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "compose", "-f", file, "up", "-d")
	defer c.must(t, "compose", "-f", file, "down")
	for service, want := range map[string]string{"remapped": "0 2000000 65536", "host": "0 0 4294967295", "auto": "0 10"} {
		if got := strings.Join(strings.Fields(c.must(t, "compose", "-f", file, "exec", "-T", service, "cat", "/proc/self/uid_map")), " "); !strings.HasPrefix(got, want) {
			t.Errorf("%s: map %q, want %q", service, got, want)
		}
	}
}

func testRemapped(t *testing.T, c client) {
	name := c.unique(t, "remapped")
	c.must(t, "run", "-d", "--init", "--name", name, "-v", name+":/data", "busybox", "sh", "-c", "touch /data/f /own; chown 7:7 /data/f; exec sleep 600")
	c.remove(t, name)
	for _, tt := range []struct{ args, want string }{
		{"exec " + name + " cat /proc/1/uid_map", "0 2000000 65536"},
		{"exec " + name + " id -u", "0"},
		{"exec -u 5 " + name + " id -u", "5"},
		{"exec " + name + " grep NoNewPrivs /proc/self/status", "NoNewPrivs: 1"},
		{"exec " + name + " stat -c %u:%g /own /data/f /etc/hosts /dev/null", "0:0 7:7 0:0 0:0"},
		{"run --rm --userns host -v " + name + ":/data busybox stat -c %u /data/f /proc/1/", "7 0"},
		{"run --rm -t busybox sh -c tty", "/dev/pts/0"},
		{"run --rm -t -u 9 busybox stat -c %u /dev/console", "9"},
		{"run --rm busybox ping -c1 -q 127.0.0.1", ""},
		{"run --rm --device /dev/null:/dev/none busybox stat -c %t:%T /dev/none", "1:3"},
		{"run --rm --sysctl net.ipv4.ip_default_ttl=9 busybox cat /proc/sys/net/ipv4/ip_default_ttl", "9"},
		{"run --rm --tmpfs /t:uid=3 busybox stat -c %u /t", "3"},
		{"run --rm --privileged --userns host busybox cat /proc/self/uid_map", "0 0 4294967295"},
	} {
		got := strings.Join(strings.Fields(c.must(t, strings.Fields(tt.args)...)), " ")
		if tt.want != "" && got != tt.want {
			t.Errorf("%s: %q, want %q", tt.args, got, tt.want)
		}
	}
	top := c.must(t, "top", name, "-eo", "pid,uid,args")
	if !strings.Contains(top, " 2000000 ") {
		t.Errorf("the host sees other ids than those of the map: %s", top)
	}
	for options, want := range map[string]string{
		"--privileged":   "privileged mode is incompatible with user namespaces",
		"--network host": "cannot share the host's network namespace when user namespaces are enabled",
		"--pid host":     "cannot share the host PID namespace when user namespaces are enabled",
		"--runtime oci":  "user namespaces need Muelle's own runtime, not oci: run the container with --userns host",
	} {
		if r := c.try(t, append(append([]string{"run", "--rm"}, strings.Fields(options)...), "busybox", "true")...); r.code != 125 || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v", options, r)
		}
	}
	// Files go in and out by the ids that the container knows.
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 44, 45); err != nil {
		t.Fatal(err)
	}
	c.must(t, "cp", "-a", file, name+":/root/f")
	c.must(t, "cp", "-a", file, name+":/data/g")
	if got := c.must(t, "exec", name, "stat", "-c", "%u:%g", "/root/f", "/data/g"); got != "44:45\n44:45" {
		t.Errorf("copied files belong to %q", got)
	}
}

func testRemappedShared(t *testing.T, c client) {
	name := c.unique(t, "shared")
	c.must(t, "run", "-d", "--name", name, "--ipc", "shareable", "busybox", "sleep", "600")
	c.remove(t, name)
	if got := c.must(t, "run", "--rm", "--network", "container:"+name, "--pid", "container:"+name, "--ipc", "container:"+name, "busybox", "sh", "-c", "ps | grep -c '[s]leep 600'; touch /dev/shm/x; ping -c1 -q 127.0.0.1 >/dev/null; echo $?"); got != "1\n0" {
		t.Errorf("shared namespaces: %q", got)
	}
}

// testAuto: containers with a range of ids each.
func testAuto(t *testing.T, c client) {
	seen := map[string]bool{}
	for n := range 2 {
		name := c.unique(t, fmt.Sprintf("auto%d", n))
		c.must(t, "run", "-d", "--userns", "auto:size=1000", "--name", name, "busybox", "sleep", "600")
		c.remove(t, name)
		line := strings.Join(strings.Fields(c.must(t, "exec", name, "cat", "/proc/self/uid_map")), " ")
		if seen[line] || !strings.HasSuffix(line, " 1000") {
			t.Errorf("map %q, seen before %t", line, seen[line])
		}
		seen[line] = true
		c.must(t, "restart", "-t", "0", name)
		if again := strings.Join(strings.Fields(c.must(t, "exec", name, "cat", "/proc/self/uid_map")), " "); again != line {
			t.Errorf("after a restart: %q, before %q", again, line)
		}
	}
	if r := c.try(t, "run", "--rm", "--userns", "auto:size=400000", "busybox", "true"); r.code != 125 || !strings.Contains(r.err, "the pool has no 400000 ids in a row left") {
		t.Errorf("more than there are: %+v", r)
	}
}

// makeBusybox gives another daemon the image.
func makeBusybox(t *testing.T, d *daemon) {
	t.Helper()
	ours(d).must(t, "pull", "-q", "busybox")
}

// TestAdvisories tries attacks that have worked against other engines on ours. Those
// on the runtime itself are in internal/runtime/runtimetest; docs/security.md lists all.
func TestAdvisories(t *testing.T) {
	c := ours(world.daemon)
	t.Run("CVE-2024-21626 working directory through a leaked descriptor", func(t *testing.T) {
		name := c.unique(t, "cwd")
		c.must(t, "run", "-d", "--name", name, "busybox", "sleep", "600")
		c.remove(t, name)
		for fd := 3; fd < 20; fd++ {
			dir := fmt.Sprintf("/proc/self/fd/%d", fd)
			for _, args := range [][]string{{"run", "--rm", "-w", dir, "busybox", "ls", "../../../../../../etc/subuid"}, {"exec", "-w", dir, name, "ls", "../../../../../../etc/subuid"}} {
				if r := c.try(t, args...); r.code == 0 {
					t.Fatalf("%v: it got out: %s", args, r.out)
				}
			}
		}
	})
	t.Run("CVE-2019-14271 cp loads nothing of a container", func(t *testing.T) {
		// Whoever opened one of these for reading would wait for ever.
		box := c.unique(t, "loaded")
		c.must(t, "run", "-d", "--name", box, "busybox", "sh", "-c", `for l in /lib /lib64 /lib/x86_64-linux-gnu /lib/aarch64-linux-gnu /usr/lib; do mkdir -p $l
for f in libnss_files.so.2 libnss_dns.so.2 libc.so.6 ld-linux-x86-64.so.2; do rm -f $l/$f; mkfifo $l/$f; done; done
rm -f /etc/nsswitch.conf /etc/ld.so.cache /etc/ld.so.preload; mkfifo /etc/nsswitch.conf /etc/ld.so.cache /etc/ld.so.preload; mkdir /d; echo x >/d/f; touch /ready; exec sleep 600`)
		c.remove(t, box)
		c.must(t, "exec", box, "sh", "-c", "until [ -e /ready ]; do usleep 10000; done")
		out := filepath.Join(t.TempDir(), "out")
		c.must(t, "cp", "-a", box+":/d", out)
		c.must(t, "cp", "-a", out, box+":/in")
		if got := c.must(t, "exec", box, "cat", "/in/f"); got != "x" {
			t.Errorf("copied %q", got)
		}
		for _, name := range []string{"muelled", "muelle-oci", "muelle-shim"} {
			file, err := os.Open(filepath.Join(world.bin, name))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			var program io.ReaderAt = file
			if name == "muelle-shim" {
				in := carriedShim(t)
				program = io.NewSectionReader(file, in.Offset, in.Size)
			}
			f, err := elf.NewFile(program)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range f.Progs {
				if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
					t.Errorf("%s loads libraries", name)
				}
			}
		}
	})
	t.Run("CVE-2021-41091 data-root is closed to users", func(t *testing.T) {
		name := c.unique(t, "closed")
		c.must(t, "run", "-d", "--name", name, "-v", name+":/v", "busybox", "sh", "-c", "cp /bin/busybox /suid; chmod 4755 /suid; sleep 600")
		c.remove(t, name)
		id := c.must(t, "inspect", "-f", "{{.Id}}", name)
		data := filepath.Join(world.daemon.dir, "data")
		for _, path := range []string{data, filepath.Join(data, "containers", id), filepath.Join(data, "containers", id, "upper", "suid"), filepath.Join(data, "volumes"), filepath.Join(data, "store")} {
			cmd := exec.Command("ls", path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			if out, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("nobody may look into %s: %s", path, out)
			}
		}
	})
	t.Run("CVE-2020-15257 no abstract socket", func(t *testing.T) {
		if got := c.must(t, "run", "--rm", "--network", "host", "busybox", "sh", "-c", "grep -c '@.*muelle' /proc/net/unix; true"); got != "0" {
			t.Errorf("%s abstract sockets", got)
		}
	})
	t.Run("CVE-2022-0492 release_agent", func(t *testing.T) {
		if r := c.try(t, "run", "--rm", "busybox", "sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do echo x >$d/release_agent && exit 0; mkdir $d/child && exit 0; done; mount -t cgroup -o memory c /tmp && exit 0; exit 9"); r.code != 9 {
			t.Errorf("a control group can be written: %+v", r)
		}
	})
	t.Run("CVE-2022-29162 inheritable capabilities", func(t *testing.T) {
		if got := c.must(t, "run", "--rm", "--cap-add", "SYS_ADMIN", "busybox", "sh", "-c", "grep -E 'CapInh|CapAmb' /proc/self/status | cut -f2 | sort -u"); got != "0000000000000000" {
			t.Errorf("sets %q", got)
		}
	})
	t.Run("CVE-2022-36109 primary group is among the supplementary ones", func(t *testing.T) {
		if got := c.must(t, "run", "--rm", "-u", "5:6", "busybox", "id", "-G"); got != "6" {
			t.Errorf("groups %q", got)
		}
	})
	t.Run("CVE-2016-3697 a number is no user's name", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "passwd"), []byte("1000:x:0:0::/:/bin/sh\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := c.must(t, "run", "--rm", "-u", "1000", "-v", dir+"/passwd:/etc/passwd", "busybox", "id", "-u"); got != "1000" {
			t.Errorf("user %s", got)
		}
	})
}
