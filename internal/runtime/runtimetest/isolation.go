package runtimetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/runtime"
)

func testIsolation(t *testing.T, s *suite) {
	h := s.host(t)
	tests := []struct {
		name   string
		change func(c *runtime.Container)
		script string
		want   string
	}{
		{"pid", nil, "echo $$; ls -d /proc/[0-9]* | head -1", "1\n/proc/1\n"},
		{"hostname", nil, "hostname; cat /proc/sys/kernel/domainname", "box\nexample\n"},
		{"environment", nil, "env | sort", "HOME=/root\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nSHLVL=1\n"},
		{"user and groups", func(c *runtime.Container) {
			c.Spec.Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5, 10}, Umask: ptr(uint32(0o027))}
			c.Spec.Process.Cwd = "/home/u"
		}, "id -u; id -G; pwd; umask; echo x >/dev/stdout", "1000\n1000 5 10\n/home/u\n0027\nx\n"},
		{"capabilities of root", nil, "grep ^Cap /proc/self/status | cut -f2", "0000000000000000\n00000000a80425fb\n00000000a80425fb\n00000000a80425fb\n0000000000000000\n"},
		{"capabilities of a user", func(c *runtime.Container) {
			c.Spec.Process.User = specs.User{UID: 1000, GID: 1000}
			c.Spec.Process.Capabilities.Effective, c.Spec.Process.Capabilities.Permitted = nil, nil
		}, "grep ^Cap /proc/self/status | cut -f2", "0000000000000000\n0000000000000000\n0000000000000000\n00000000a80425fb\n0000000000000000\n"},
		{"ambient capability", func(c *runtime.Container) {
			p := c.Spec.Process
			p.User = specs.User{UID: 1000, GID: 1000}
			one := []string{"CAP_NET_BIND_SERVICE"}
			p.Capabilities = &specs.LinuxCapabilities{Bounding: one, Effective: one, Permitted: one, Inheritable: one, Ambient: one}
		}, "grep ^Cap /proc/self/status | cut -f2", strings.Repeat("0000000000000400\n", 5)},
		{"no_new_privs and seccomp", func(c *runtime.Container) { c.Spec.Process.NoNewPrivileges = true }, "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", "NoNewPrivs:\t1\nSeccomp:\t2\n"},
		{"seccomp without no_new_privs", nil, "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; unshare -U true; echo $?", "NoNewPrivs:\t0\nSeccomp:\t2\n1\n"},
		{"limits", func(c *runtime.Container) {
			c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
		}, "ulimit -n; ulimit -Hn; ulimit -c", "100\n200\n0\n"},
		{"limit of files without a word", nil, "ulimit -n; ulimit -Hn", "1024\n" + hardFiles(t) + "\n"},
		{"oom_score_adj", func(c *runtime.Container) { c.Spec.Process.OOMScoreAdj = ptr(500) }, "cat /proc/self/oom_score_adj", "500\n"},
		{"devices", nil, "cd /dev; ls -d *; stat -c '%t %T %a' null tty", ""},
		{"dev is usable", nil, "head -c 3 /dev/zero | od -An -c; echo x >/dev/null; echo y >/dev/stderr; readlink /dev/ptmx; readlink /dev/fd", "  \\0  \\0  \\0\npts/ptmx\n/proc/self/fd\n"},
		{"masked", nil, "cat /proc/kcore | wc -c; ls /sys/firmware /proc/acpi | wc -w; stat -c '%t %T' /proc/timer_list", "0\n2\n1 3\n"},
		{"read-only paths", nil, "echo 1 >/proc/sys/kernel/panic || echo no; echo b >/proc/sysrq-trigger || echo no; mkdir /sys/fs/cgroup/memory/x || echo no; mkdir /sys/fs/cgroup/x || echo no; touch /sys/x || echo no", "no\nno\nno\nno\nno\n"},
		{"read-only root", func(c *runtime.Container) { c.Spec.Root.Readonly = true }, "touch /x || echo no; touch /dev/shm/y && echo yes", "no\nyes\n"},
		{"shm and mqueue", nil, "grep -E ' /dev/(shm|mqueue) ' /proc/mounts | cut -d' ' -f1,3; stat -c %a /dev/shm", "mqueue mqueue\nshm tmpfs\n1777\n"},
		{"missing working directory is made", func(c *runtime.Container) { c.Spec.Process.Cwd = "/a/b c" }, "pwd; stat -c '%a %u' .", "/a/b c\n755 0\n"},
		{"sysctl", func(c *runtime.Container) {
			c.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"}
		}, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced", "0\n1\n"},
		{"network of its own", nil, "ls /sys/class/net", "lo\n"},
		{"cgroup view", nil, "cat /sys/fs/cgroup/pids/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | head -1", "1\n"},
		{"additional device", func(c *runtime.Container) {
			c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/mine/kmsg", Type: "c", Major: 1, Minor: 11, FileMode: ptr(os.FileMode(0o640)), UID: ptr(uint32(7)), GID: ptr(uint32(8))}}
		}, "stat -c '%t %T %a %u %g' /dev/mine/kmsg; cat /dev/mine/kmsg 2>&1 | cut -d: -f3", "1 b 640 7 8\n Operation not permitted\n"},
		{"signals are as after login", nil, "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2", "0000000000000000\n0000000000000000\n"},
		{"no descriptor is left open", nil, "ls /proc/self/fd | wc -l", "4\n"},
		{"keyring of its own", nil, "grep -c muelle /proc/keys; echo", "0\n\n"},
	}
	for _, tt := range tests {
		s.run(t, tt.name, func(t *testing.T) {
			o := h.sh(t, tt.script, func(c *runtime.Container) {
				c.Spec.Domainname = "example"
				if tt.change != nil {
					tt.change(c)
				}
			})
			if tt.name == "devices" {
				for _, d := range []string{"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"} {
					if !strings.Contains("\n"+o.stdout, "\n"+d+"\n") {
						t.Errorf("%s is missing in %q", d, o.stdout)
					}
				}
				if !strings.HasSuffix(o.stdout, "1 3 666\n5 0 666\n") {
					t.Errorf("got %q", o.stdout)
				}
				return
			}
			if o.stdout != tt.want {
				t.Errorf("got %q, want %q; stderr %q", o.stdout, tt.want, o.stderr)
			}
		})
	}
	s.run(t, "binds", func(t *testing.T) { testBinds(t, h) })
	s.run(t, "many layers", func(t *testing.T) { testLayers(t, h) })
	s.run(t, "shared namespaces", func(t *testing.T) { testShared(t, h) })
	s.run(t, "cgroup namespace", func(t *testing.T) {
		o := h.sh(t, "cut -d: -f3 /proc/self/cgroup | sort -u", func(c *runtime.Container) {
			c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		})
		if o.stdout != "/\n" {
			t.Errorf("got %q", o.stdout)
		}
	})
	s.run(t, "nothing is mounted on the host", func(t *testing.T) {
		c := h.container("sleep", "1000")
		h.start(t, c)
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		must(t, err)
		if strings.Contains(string(mounts), c.ID) {
			t.Error("the container's mounts are seen on the host")
		}
	})
}

func testBinds(t *testing.T, h *host) {
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "f"), []byte("content\n"), 0o644))
	must(t, os.Mkdir(filepath.Join(src, "sub"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(src, "sub"), "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(filepath.Join(src, "sub"), unix.MNT_DETACH) })
	must(t, os.WriteFile(filepath.Join(src, "sub", "deep"), []byte("deep\n"), 0o644))
	flagged := t.TempDir()
	must(t, unix.Mount("tmpfs", flagged, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, ""))
	t.Cleanup(func() { must(t, unix.Unmount(flagged, unix.MNT_DETACH)) })
	bind := func(dest string, source string, options ...string) func(*runtime.Container) {
		return func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: source, Options: append([]string{"rprivate"}, options...)})
		}
	}
	tests := []struct {
		name   string
		change func(*runtime.Container)
		script string
		want   string
	}{
		{"directory", bind("/new/dir", src, "rbind"), "cat /new/dir/f /new/dir/sub/deep; touch /new/dir/w && echo yes", "content\ndeep\nyes\n"},
		{"read-only", bind("/m", src, "rbind", "ro"), "cat /m/f; touch /m/f || echo no; touch /m/sub/deep && echo yes", "content\nno\nyes\n"},
		{"read-only, other flags stay", func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: flagged, Options: []string{"bind", "ro"}})
		}, "grep ' /m ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1-5", "ro,nosuid,nodev,noexec,noatime\n"},
		{"other flags change", func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: flagged, Options: []string{"bind", "exec", "relatime"}})
		}, "grep ' /m ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1-4", "rw,nosuid,nodev,relatime\n"},
		{"read-only below proc", func(c *runtime.Container) {
			bind("/proc/uptime", filepath.Join(src, "f"), "bind", "ro")(c)
		}, "cat /proc/uptime; echo x >/proc/uptime || echo no", "content\nno\n"},
		{"read-only recursively", bind("/m", src, "rbind", "rro"), "touch /m/f || echo no; touch /m/sub/deep || echo no", "no\nno\n"},
		{"not recursive", bind("/m", src, "bind"), "ls /m/sub | wc -l", "0\n"},
		{"file", bind("/etc/new/file", filepath.Join(src, "f"), "rbind"), "cat /etc/new/file; stat -c %F /etc/new/file", "content\nregular file\n"},
		{"flags", bind("/m", src, "bind", "nosuid", "noexec", "nodev"), "grep ' /m ' /proc/mounts | cut -d' ' -f4 | cut -d, -f2-4", "nosuid,nodev,noexec\n"},
		{"below proc", bind("/proc/uptime", filepath.Join(src, "f"), "bind"), "cat /proc/uptime", "content\n"},
	}
	for _, tt := range tests {
		h.s.run(t, tt.name, func(t *testing.T) {
			if o := h.sh(t, tt.script, tt.change); o.stdout != tt.want {
				t.Errorf("got %q, want %q; stderr %q", o.stdout, tt.want, o.stderr)
			}
		})
	}
	h.s.run(t, "propagation", func(t *testing.T) {
		// A mount made later on the host arrives in a slave, not in a private bind.
		base := t.TempDir()
		must(t, unix.Mount("tmpfs", base, "tmpfs", 0, ""))
		t.Cleanup(func() { unix.Unmount(base, unix.MNT_DETACH) })
		must(t, unix.Mount("", base, "", unix.MS_SHARED, ""))
		must(t, os.Mkdir(filepath.Join(base, "late"), 0o755))
		c := h.container("sh", "-c", "echo ready; read x; ls /slave/late /private/late")
		c.OpenStdin = true
		for dest, p := range map[string]string{"/slave": "rslave", "/private": "rprivate"} {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: dest, Type: "bind", Source: base, Options: []string{"rbind", p}})
		}
		a := &attached{done: make(chan error, 1)}
		c.Attach = []*runtime.Streams{a.streams()}
		task := h.start(t, c)
		eventually(t, func() bool { return a.stdout.String() == "ready\n" })
		must(t, unix.Mount("tmpfs", filepath.Join(base, "late"), "tmpfs", 0, ""))
		must(t, os.WriteFile(filepath.Join(base, "late", "seen"), nil, 0o644))
		must(t, task.Attach(ctxOf(t), &runtime.Streams{Stdin: strings.NewReader("\n")}))
		a.wait(t)
		if got, want := a.stdout.String(), "ready\n/private/late:\n\n/slave/late:\nseen\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// testLayers mounts more lower directories than fit a page as they are, and more
// than fit when they are shortened.
func testLayers(t *testing.T, h *host) {
	for _, tt := range []struct {
		name string
		n    int
		dir  func(i int) string
	}{
		{"shortened", 120, func(i int) string { return fmt.Sprintf("%d/fs", i) }},
		{"one by one", 60, func(i int) string { return fmt.Sprintf("%s-%d/fs", strings.Repeat("x", 100), i) }},
	} {
		h.s.run(t, tt.name, func(t *testing.T) {
			base := filepath.Join(t.TempDir(), strings.Repeat("layer", 8))
			var lower []string
			for i := range tt.n {
				d := filepath.Join(base, tt.dir(i))
				must(t, os.MkdirAll(filepath.Join(d, "layers"), 0o755))
				must(t, os.WriteFile(filepath.Join(d, "layers", fmt.Sprint(i)), nil, 0o644))
				lower = append(lower, d)
			}
			o := h.sh(t, "ls /layers | wc -l; touch /layers/new && echo yes", func(c *runtime.Container) {
				c.Rootfs[0].Options[0] = "lowerdir=" + strings.Join(append(lower, h.s.rootfs), ":")
			})
			if want := fmt.Sprintf("%d\nyes\n", tt.n); o.stdout != want {
				t.Errorf("got %+v, want %q", o, want)
			}
		})
	}
}

func testShared(t *testing.T, h *host) {
	first := h.start(t, h.container("sleep", "1000"))
	join := func(kind specs.LinuxNamespaceType, file string) func(*runtime.Container) {
		return func(c *runtime.Container) {
			for i := range c.Spec.Linux.Namespaces {
				if c.Spec.Linux.Namespaces[i].Type == kind {
					c.Spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), file)
				}
			}
		}
	}
	link := func(file string) string {
		l, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", first.Pid(), file))
		must(t, err)
		return l + "\n"
	}
	for kind, file := range map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.PIDNamespace: "pid"} {
		h.s.run(t, file, func(t *testing.T) {
			if o := h.sh(t, "readlink /proc/self/ns/"+file, join(kind, file)); o.stdout != link(file) {
				t.Errorf("got %+v, want %s", o, link(file))
			}
		})
	}
	h.s.run(t, "network handed over", func(t *testing.T) {
		ns, err := first.NetNS(ctxOf(t))
		must(t, err)
		defer ns.Close()
		if o := h.sh(t, "readlink /proc/self/ns/net", func(c *runtime.Container) { c.NetNS = ns }); o.stdout != link("net") {
			t.Errorf("got %+v", o)
		}
	})
	h.s.run(t, "host's", func(t *testing.T) {
		own := func(file string) string {
			l, err := os.Readlink("/proc/self/ns/" + file)
			must(t, err)
			return l + "\n"
		}
		o := h.sh(t, "readlink /proc/self/ns/net; readlink /proc/self/ns/pid; sleep 1000 & exit 4", func(c *runtime.Container) {
			c.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.UTSNamespace}, {Type: specs.IPCNamespace}}
		})
		if want := own("net") + own("pid"); o.stdout != want || o.exit.Code != 4 {
			t.Errorf("got %+v, want %q", o, want)
		}
	})
}

// hardFiles is this process's own limit of open files.
func hardFiles(t *testing.T) string {
	t.Helper()
	var l syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	return strconv.FormatUint(l.Max, 10)
}
