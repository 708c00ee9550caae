package runtimetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
)

// testEscapes has one test for each known way out of a container, named by its
// advisory.
func testEscapes(t *testing.T, s *suite) {
	h := s.host(t)
	s.run(t, "CVE-2024-21626 working directory through a descriptor", func(t *testing.T) {
		c := h.container("sleep", "1000")
		task := h.start(t, c)
		for fd := range 40 {
			cwd := fmt.Sprintf("/proc/self/fd/%d", fd)
			try := h.container("sh", "-c", "ls ../../../../../etc/debian_version; pwd")
			try.Spec.Process.Cwd = cwd
			if task, err := h.r.Start(ctxOf(t), try); err == nil {
				must(t, task.Delete(ctxOf(t)))
				t.Errorf("a container started in %s", cwd)
			}
			p := execOf(c, "sh", "-c", "pwd")
			p.Cwd = cwd
			if _, err := task.Exec(ctxOf(t), p, runtime.ExecOptions{ID: newID()}); err == nil {
				t.Errorf("an exec started in %s", cwd)
			}
		}
	})
	s.run(t, "CVE-2024-21626 working directory is a link", func(t *testing.T) {
		o := h.sh(t, "pwd -P; ls /", func(c *runtime.Container) {
			root := writableRoot(t, c)
			must(t, os.Symlink("../../../../../../../../etc", filepath.Join(root, "up")))
			c.Spec.Process.Cwd = "/up"
		})
		if !strings.HasPrefix(o.stdout, "/etc\n") {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "CVE-2016-9962 descriptors of the runtime", func(t *testing.T) {
		c := h.container("sh", "-c", "while true; do for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null | grep -vE 'pipe:|/dev/null|/dev/pts|total| /proc/[0-9]+/fd$' | grep -E -- '-> /'; done; done")
		a := attach(c)
		task := h.start(t, c)
		for range 100 {
			if o := execRun(t, task, execOf(c, "true"), runtime.ExecOptions{}); o.exit.Code != 0 {
				t.Errorf("got %+v", o)
			}
		}
		must(t, task.Delete(ctxOf(t)))
		a.wait(t)
		if got := a.stdout.String(); got != "" {
			t.Errorf("the container saw %q", got)
		}
	})
	s.run(t, "CVE-2019-5736 overwriting the runtime", func(t *testing.T) {
		before, err := os.ReadFile("/proc/self/exe")
		must(t, err)
		c := h.container("sleep", "1000")
		c.Init = true // PID 1 is the runtime's own binary
		task := h.start(t, c)
		o := execRun(t, task, execOf(c, "sh", "-c", "echo overwritten >/proc/1/exe || echo no; dd if=/bin/true of=/proc/1/exe 2>/dev/null || echo no; chmod 777 /proc/1/exe; cat /proc/1/exe | wc -c"), runtime.ExecOptions{})
		if !strings.HasPrefix(o.stdout, "no\nno\n") {
			t.Errorf("got %+v", o)
		}
		after, err := os.ReadFile("/proc/self/exe")
		must(t, err)
		if len(before) != len(after) {
			t.Error("a binary changed")
		}
		// The classic: the entry point is the runtime itself.
		try := h.container("/proc/self/exe")
		if task, err := h.r.Start(ctxOf(t), try); err == nil {
			_, err = task.Wait(ctxOf(t))
			must(t, err)
			must(t, task.Delete(ctxOf(t)))
		}
		if o := h.sh(t, "echo fine"); o.stdout != "fine\n" {
			t.Errorf("afterwards %+v", o)
		}
	})
	s.run(t, "CVE-2021-30465 mount point is a link out of the root", func(t *testing.T) {
		victim := t.TempDir()
		src := t.TempDir()
		o := h.sh(t, "grep -c ' /victim ' /proc/mounts; find / -name planted 2>/dev/null | head -1", func(c *runtime.Container) {
			root := writableRoot(t, c)
			must(t, os.Symlink(strings.Repeat("../", 20)+victim, filepath.Join(root, "link")))
			must(t, os.WriteFile(filepath.Join(src, "planted"), nil, 0o644))
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/link/deep", Type: "bind", Source: src, Options: []string{"rbind"}})
		})
		left, err := os.ReadDir(victim)
		must(t, err)
		if len(left) > 0 || o.exit.Code > 1 {
			t.Errorf("the host's folder has %v, %+v", left, o)
		}
	})
	for _, kind := range []string{"proc", "sys"} {
		s.run(t, "CVE-2019-19921 /"+kind+" is a link", func(t *testing.T) {
			c := h.container("true")
			root := ownRoot(t, h, c)
			must(t, os.Remove(filepath.Join(root, kind)))
			must(t, os.Mkdir(filepath.Join(root, "elsewhere"), 0o755))
			must(t, os.Symlink("/elsewhere", filepath.Join(root, kind)))
			if task, err := h.r.Start(ctxOf(t), c); err == nil {
				must(t, task.Delete(ctxOf(t)))
				t.Error("it started")
			}
			h.gone(t, c)
		})
	}
	s.run(t, "CVE-2023-27561 masks stay where proc is", func(t *testing.T) {
		o := h.sh(t, "cat /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/core_pattern || echo no")
		if o.stdout != "0\nno\n" {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "CVE-2025-31133 /dev/null of the container in a mask's place", func(t *testing.T) {
		o := h.sh(t, "cat /proc/keys; ls -l /dev/null | cut -c1", func(c *runtime.Container) {
			root := writableRoot(t, c)
			must(t, os.MkdirAll(filepath.Join(root, "dev"), 0o755))
			must(t, os.Symlink("/etc/passwd", filepath.Join(root, "dev", "null")))
			// Without a file system on /dev the image's own link is what is there.
			var mounts []specs.Mount
			for _, m := range c.Spec.Mounts {
				if !strings.HasPrefix(m.Destination, "/dev") {
					mounts = append(mounts, m)
				}
			}
			c.Spec.Mounts = mounts
		})
		if o.stdout != "l\n" {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "CVE-2025-52565 /dev/pts is a link", func(t *testing.T) {
		c := h.container("true")
		c.Spec.Process.Terminal = true
		root := writableRoot(t, c)
		must(t, os.MkdirAll(filepath.Join(root, "dev"), 0o755))
		must(t, os.Symlink("/proc", filepath.Join(root, "dev", "pts")))
		var mounts []specs.Mount
		for _, m := range c.Spec.Mounts {
			if !strings.HasPrefix(m.Destination, "/dev") {
				mounts = append(mounts, m)
			}
		}
		c.Spec.Mounts = mounts
		if task, err := h.r.Start(ctxOf(t), c); err == nil {
			must(t, task.Delete(ctxOf(t)))
			t.Error("it started")
		}
		h.gone(t, c)
	})
	s.run(t, "CVE-2025-52565 /dev/console is a link", func(t *testing.T) {
		victim := filepath.Join(t.TempDir(), "victim")
		must(t, os.WriteFile(victim, []byte("safe"), 0o644))
		o := h.sh(t, "true", func(c *runtime.Container) {
			c.Spec.Process.Terminal = true
			dev := t.TempDir()
			must(t, os.Symlink(strings.Repeat("../", 20)+victim, filepath.Join(dev, "console")))
			must(t, os.Mkdir(filepath.Join(dev, "pts"), 0o755))
			c.Spec.Mounts[1] = specs.Mount{Destination: "/dev", Type: "bind", Source: dev, Options: []string{"bind"}}
			c.Spec.Mounts = append(c.Spec.Mounts[:3], c.Spec.Mounts[5:]...)
		})
		got, err := os.ReadFile(victim)
		must(t, err)
		if string(got) != "safe" {
			t.Errorf("the host's file has %q, %+v", got, o)
		}
	})
	s.run(t, "CVE-2025-52881 sysctl written elsewhere", func(t *testing.T) {
		victim := filepath.Join(t.TempDir(), "victim")
		must(t, os.WriteFile(victim, []byte("safe"), 0o644))
		h.sh(t, "true", func(c *runtime.Container) {
			c.Spec.Linux.Sysctl = map[string]string{"net.core.somaxconn": "77"}
			c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/proc/sys/net/core/somaxconn", Type: "bind", Source: victim, Options: []string{"bind"}})
		})
		got, err := os.ReadFile(victim)
		must(t, err)
		if string(got) != "safe" {
			t.Errorf("the bound file has %q", got)
		}
	})
	s.run(t, "CVE-2022-29162 inheritable capabilities", func(t *testing.T) {
		o := h.sh(t, "grep CapInh /proc/self/status | cut -f2", func(c *runtime.Container) { c.Spec.Process.Capabilities.Inheritable = defaultCaps })
		if o.stdout != "0000000000000000\n" {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "CVE-2022-0492 release_agent", func(t *testing.T) {
		o := h.sh(t, "for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/notify_on_release; do echo 1 >$f && echo yes; done; mount -t cgroup -o memory c /tmp && echo yes; unshare -UrmC true && echo yes; true")
		if strings.Contains(o.stdout, "yes") {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "CVE-2020-15257 the shim's socket", func(t *testing.T) {
		o := h.sh(t, "cat /proc/net/unix", func(c *runtime.Container) {
			var ns []specs.LinuxNamespace
			for _, n := range c.Spec.Linux.Namespaces {
				if n.Type != specs.NetworkNamespace {
					ns = append(ns, n)
				}
			}
			c.Spec.Linux.Namespaces = ns
		})
		for line := range strings.Lines(o.stdout) {
			if strings.Contains(line, "@") && strings.Contains(line, "shim") {
				t.Errorf("abstract socket %q", line)
			}
		}
	})
	s.run(t, "the host's file systems cannot be mounted", func(t *testing.T) {
		o := h.sh(t, "mount -t tmpfs x /tmp && echo yes; mount -o remount,rw /sys && echo yes; umount /proc/kcore && echo yes; umount /proc/sys && echo yes; true")
		if strings.Contains(o.stdout, "yes") {
			t.Errorf("got %+v", o)
		}
	})
	s.run(t, "the old root is gone", func(t *testing.T) {
		o := h.sh(t, "cut -d' ' -f2 /proc/mounts | sort | head -1; ls /.. | sort | tr '\\n' ' '", func(c *runtime.Container) {})
		if !strings.HasPrefix(o.stdout, "/\nbin ") || strings.Contains(o.stdout, "boot") {
			t.Errorf("got %+v", o)
		}
	})
}

// writableRoot is the upper directory of a container's overlay.
func writableRoot(t *testing.T, c *runtime.Container) string {
	for _, o := range c.Rootfs[0].Options {
		if v, ok := strings.CutPrefix(o, "upperdir="); ok {
			return v
		}
	}
	t.Fatal("no upper directory")
	return ""
}

// ownRoot gives a container a root file system that the test may spoil.
func ownRoot(t *testing.T, h *host, c *runtime.Container) string {
	root := t.TempDir()
	for _, d := range []string{"bin", "proc", "sys", "dev"} {
		must(t, os.Mkdir(filepath.Join(root, d), 0o755))
	}
	data, err := os.ReadFile(filepath.Join(h.s.rootfs, "bin/busybox"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "bin/true"), data, 0o755))
	c.Rootfs = []runtime.Mount{{Type: "bind", Source: root, Options: []string{"bind"}}}
	return root
}
