package runtimetest

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/linux/userns"
	"muelle/internal/runtime"
)

// Users runs the part of the suite that is about user namespaces.
func Users(t *testing.T, env Env) {
	s := &suite{env: env, rootfs: MakeRootfs(t)}
	for _, g := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"identity", testUserIdentity}, {"files", testUserFiles}, {"namespaces", testUserNamespaces}, {"exec", testUserExec},
		{"terminal", testUserTerminal}, {"limits", testUserLimits}, {"combined", testUserCombined}, {"refused", testUserRefused}, {"hooks", testUserHooks},
	} {
		t.Run(g.name, func(t *testing.T) { g.run(t, s) })
	}
}

const hostBase = 700000

// remapped puts a container into a user namespace of 65536 ids from hostBase on.
func remapped(c *runtime.Container) {
	ids := []specs.LinuxIDMapping{{HostID: hostBase, Size: 65536}}
	c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings = ids, ids
	c.Spec.Linux.Namespaces = append([]specs.LinuxNamespace{{Type: specs.UserNamespace}}, c.Spec.Linux.Namespaces...)
	for i := range c.Rootfs {
		c.Rootfs[i].Options = append(c.Rootfs[i].Options, "idmap")
	}
}

func expect(t *testing.T, o outcome, want string) {
	t.Helper()
	if o.exit.Code != 0 || o.stdout != want {
		t.Errorf("exit %d, output:\n%swant:\n%sstderr:\n%s", o.exit.Code, o.stdout, want, o.stderr)
	}
}

func testUserIdentity(t *testing.T, s *suite) {
	h := s.host(t)
	expect(t, h.sh(t, `cat /proc/self/uid_map | tr -s " "; id -u; stat -c %u:%g / /bin /dev /dev/null /dev/pts /dev/shm /proc/self/ /dev/mqueue; hostname`, remapped, withTr),
		" 0 700000 65536\n0\n0:0\n0:0\n0:0\n0:0\n0:0\n0:0\n0:0\n0:0\nbox\n")
	// No capability beyond the namespace: the host's own kernel parameters stay shut.
	o := h.sh(t, `echo 1 >/proc/sys/kernel/panic; echo $?; mknod /tmp/sda b 8 0; echo $?`, remapped, func(c *runtime.Container) {
		c.Spec.Linux.ReadonlyPaths = nil
	})
	if o.stdout != "1\n1\n" {
		t.Errorf("output %q, stderr %q", o.stdout, o.stderr)
	}
}

// withTr adds a name for busybox.
func withTr(c *runtime.Container) {
	c.Spec.Process.Args[2] = "alias tr='busybox tr'; " + c.Spec.Process.Args[2]
}

func testUserFiles(t *testing.T, s *suite) {
	h := s.host(t)
	bind, volume := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(bind, "mine"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(bind, "users"), []byte("x"), 0o600))
	must(t, os.Chown(filepath.Join(bind, "users"), 1000, 1000))
	c := h.container("sh", "-c", `stat -c %u:%g /bind/mine /bind/users; cat /bind/mine; echo; touch /volume/new /root/new /tmp/x; chown 1000:1000 /volume/new; stat -c %u /scratch; touch /scratch/x; mkdir /made; cat /etc/passwd | head -n 1`)
	remapped(c)
	must(t, os.Symlink("busybox", filepath.Join(s.rootfs, "bin/chown")))
	c.Spec.Mounts = append(c.Spec.Mounts,
		specs.Mount{Destination: "/bind", Type: "bind", Source: bind, Options: []string{"rbind", "idmap"}},
		specs.Mount{Destination: "/volume", Type: "bind", Source: volume, Options: []string{"rbind", "ridmap"}},
		specs.Mount{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"uid=1000", "mode=700"}})
	expect(t, h.run(t, c), "0:0\n1000:1000\nx\n1000\nroot:x:0:0:root:/root:/bin/sh\n")
	upper := optionOf(c.Rootfs[0].Options, "upperdir")
	// On disk everything has the ids that are seen inside.
	for path, want := range map[string]uint32{filepath.Join(volume, "new"): 1000, filepath.Join(upper, "root/new"): 0, filepath.Join(upper, "made"): 0, filepath.Join(upper, "bind"): 0} {
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		if st.Uid != want {
			t.Errorf("%s belongs to %d, want %d", path, st.Uid, want)
		}
	}
}

func optionOf(options []string, key string) string {
	for _, o := range options {
		if v, ok := strings.CutPrefix(o, key+"="); ok {
			return v
		}
	}
	return ""
}

// testUserNamespaces: every namespace belongs to the container's user namespace, as
// does one that the caller made beforehand.
func testUserNamespaces(t *testing.T, s *suite) {
	h := s.host(t)
	m := &userns.Map{UIDs: []userns.Range{{Host: hostBase, Size: 65536}}, GIDs: []userns.Range{{Host: hostBase, Size: 65536}}}
	user, err := userns.New(m)
	must(t, err)
	defer user.Close()
	made, err := spawn.Namespaces(int(user.Fd()), unix.CLONE_NEWNET)
	must(t, err)
	netns := os.NewFile(uintptr(made[unix.CLONE_NEWNET]), "net")
	defer netns.Close()
	for _, init := range []bool{false, true} {
		c := h.container("sleep", "60")
		remapped(c)
		c.UserNS, c.NetNS, c.Init = user, netns, init
		c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		task := h.start(t, c)
		want := inode(t, filepath.Join("/proc", strconv.Itoa(task.Pid()), "ns/user"))
		for _, name := range []string{"mnt", "ipc", "uts", "net", "pid", "cgroup"} {
			f, err := os.Open(filepath.Join("/proc", strconv.Itoa(task.Pid()), "ns", name))
			must(t, err)
			owner, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.NS_GET_USERNS, 0)
			f.Close()
			if errno != 0 {
				t.Fatalf("ask for the owner of %s: %v", name, errno)
			}
			var st unix.Stat_t
			must(t, unix.Fstat(int(owner), &st))
			unix.Close(int(owner))
			if st.Ino != want {
				t.Errorf("the %s namespace belongs to another user namespace", name)
			}
		}
		must(t, task.Delete(ctxOf(t)))
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Ino
}

func testUserExec(t *testing.T, s *suite) {
	h := s.host(t)
	c := h.container("sleep", "60")
	remapped(c)
	task := h.start(t, c)
	for uid, want := range map[uint32]string{0: "0 700000\n1\n", 1000: "1000 701000\n1\n"} {
		var out buffer
		a := make(chan error, 1)
		p := *c.Spec.Process
		p.User = specs.User{UID: uid, GID: uid}
		p.Args = []string{"sh", "-c", `echo $(id -u) $(($(id -u) + $(cat /proc/self/uid_map | busybox awk '{print $2}'))) >/dev/stdout; ps | grep -c "[s]leep 60"`}
		if uid != 0 {
			p.Capabilities = &specs.LinuxCapabilities{Bounding: defaultCaps}
		}
		x, err := task.Exec(ctxOf(t), &p, runtime.ExecOptions{ID: "x" + strconv.Itoa(int(uid)), Streams: &runtime.Streams{Stdout: &out, Stderr: &out, Done: func(err error) { a <- err }}})
		must(t, err)
		exit, err := x.Wait(ctxOf(t))
		must(t, err)
		must(t, <-a)
		if exit.Code != 0 || out.String() != want {
			t.Errorf("user %d: exit %d, output %q, want %q", uid, exit.Code, out.String(), want)
		}
	}
}

func testUserTerminal(t *testing.T, s *suite) {
	h := s.host(t)
	for _, uid := range []uint32{0, 1000} {
		o := h.sh(t, `tty; stat -c %u $(tty); stat -c %u /dev/console; echo y >/dev/tty; echo z >$(tty)`, remapped, func(c *runtime.Container) {
			c.Spec.Process.Terminal = true
			c.Spec.Process.User.UID = uid
			if uid != 0 {
				c.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: defaultCaps}
			}
		})
		if want := strings.ReplaceAll("/dev/pts/0\nU\nU\ny\nz\n", "U", strconv.Itoa(int(uid))); strings.ReplaceAll(o.stdout, "\r", "") != want {
			t.Errorf("user %d: %q, stderr %q", uid, o.stdout, o.stderr)
		}
	}
}

func testUserLimits(t *testing.T, s *suite) {
	h := s.host(t)
	o := h.sh(t, `ulimit -S -n; ulimit -H -n; cat /proc/self/oom_score_adj; cat /proc/sys/kernel/msgmax`, remapped, func(c *runtime.Container) {
		c.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 32, Hard: 64}}
		c.Spec.Process.OOMScoreAdj = ptr(500)
		c.Spec.Linux.Sysctl = map[string]string{"kernel.msgmax": "4321", "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 65535"}
	})
	expect(t, o, "32\n64\n500\n4321\n")
}

// testUserCombined: a container with the host's ids and one without share namespaces.
func testUserCombined(t *testing.T, s *suite) {
	h := s.host(t)
	c := h.container("sleep", "60")
	remapped(c)
	task := h.start(t, c)
	path := func(name string) string { return filepath.Join("/proc", strconv.Itoa(task.Pid()), "ns", name) }
	join := func(c *runtime.Container) {
		for i := range c.Spec.Linux.Namespaces {
			switch ns := &c.Spec.Linux.Namespaces[i]; ns.Type {
			case specs.PIDNamespace:
				ns.Path = path("pid")
			case specs.IPCNamespace:
				ns.Path = path("ipc")
			case specs.NetworkNamespace:
				ns.Path = path("net")
			}
		}
	}
	expect(t, h.sh(t, `ps | grep -c "[s]leep 60"`, join), "1\n")
	expect(t, h.sh(t, `ps | grep -c "[s]leep 60"; id -u`, remapped, join, func(c *runtime.Container) {
		c.Spec.Linux.Namespaces[0].Path = path("user")
	}), "1\n0\n")
	if err := task.Signal(ctxOf(t), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

func testUserRefused(t *testing.T, s *suite) {
	h := s.host(t)
	for name, tt := range map[string]struct {
		change func(*runtime.Container)
		want   string
	}{
		"no root": {func(c *runtime.Container) { c.Spec.Linux.UIDMappings[0].ContainerID = 1 }, "user id 0 is not mapped"},
		"overlap": {func(c *runtime.Container) {
			c.Spec.Linux.GIDMappings = append(c.Spec.Linux.GIDMappings, c.Spec.Linux.GIDMappings[0])
		}, "overlap"},
		"tmpfs of nobody": {func(c *runtime.Container) { c.Spec.Mounts[1].Options = append(c.Spec.Mounts[1].Options, "uid=99999") }, "no such id"},
		"unmappable source": {func(c *runtime.Container) {
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: ramfs(t), Options: []string{"bind", "idmap"}})
		}, "idmapped"},
	} {
		c := h.container("true")
		remapped(c)
		tt.change(c)
		_, err := h.r.Start(ctxOf(t), c)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		h.gone(t, c)
	}
}

// ramfs is a file system without idmapped mounts, gone with the test.
func ramfs(t *testing.T) string {
	dir := t.TempDir()
	must(t, unix.Mount("ramfs", dir, "ramfs", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}
