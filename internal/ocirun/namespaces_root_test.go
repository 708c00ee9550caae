//go:build root

package ocirun_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const firstID = 700000

var ids = []specs.LinuxIDMapping{{HostID: firstID, Size: 65536}}

// remap gives a bundle a user namespace, and its files to the root of that.
func (b *bundle) remap() {
	b.t.Helper()
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = ids, ids
	err := filepath.WalkDir(b.spec.Root.Path, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, firstID, firstID)
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestUserNamespace(t *testing.T) {
	b := newBundle(t, "sh", "-c", "while :; do sleep 0.01; done")
	b.remap()
	score, limit := 500, uint64(0)
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &own); err != nil {
		t.Fatal(err)
	}
	limit = own.Max / 2
	b.spec.Process.OOMScoreAdj = &score
	b.spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_MEMLOCK", Soft: limit, Hard: limit}}
	plain, shown := t.TempDir(), t.TempDir()
	for _, d := range []string{plain, shown} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "f"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/plain", Type: "bind", Source: plain, Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/shown", Type: "bind", Source: shown, Options: []string{"rbind", "idmap"}, UIDMappings: ids, GIDMappings: ids})
	b.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "7"}
	b.write()
	b.must("create", "--bundle", b.dir, b.id)
	b.must("start", b.id)
	out := b.must("exec", b.id, "sh", "-c", `id -u; cat /proc/self/uid_map /proc/1/oom_score_adj /proc/sys/net/ipv4/ip_unprivileged_port_start
stat -c %u:%t:%T /dev/null /dev/tty; stat -c %u /plain/f /shown/f; touch /shown/new && echo made; touch /plain/new || echo not made
echo x >/dev/null && hostname`)
	want := fmt.Sprintf("0\n0 %d 65536\n500\n7\n65534:1:3\n65534:5:0\n65534\n0\nmade\ntouch: /plain/new: Read-only file system\nnot made\nbox\n", firstID)
	var got []string
	for l := range strings.Lines(out) {
		got = append(got, strings.Join(strings.Fields(l), " "))
	}
	if d := cmp.Diff(want, strings.Join(got, "\n")+"\n"); d != "" {
		t.Error(d)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(shown, "new"), &st); err != nil || st.Uid != 0 {
		t.Errorf("through the mapped mount a file became %d's, %v", st.Uid, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", b.state().Pid))
	if err != nil || !strings.Contains(string(limits), fmt.Sprint(limit)) {
		t.Errorf("limits are %s, %v", limits, err)
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d", b.state().Pid), &st); err != nil || st.Uid != firstID {
		t.Errorf("on the host the process is %d's, %v", st.Uid, err)
	}
	// Another container in the same user and network namespaces.
	o := newBundle(t, "sh", "-c", "cat /proc/self/uid_map; readlink /proc/self/ns/user; id -u; touch /made")
	o.remap()
	pid := b.state().Pid
	for i := range o.spec.Linux.Namespaces {
		switch n := &o.spec.Linux.Namespaces[i]; n.Type {
		case specs.UserNamespace:
			n.Path = fmt.Sprintf("/proc/%d/ns/user", pid)
		case specs.NetworkNamespace:
			n.Path = fmt.Sprintf("/proc/%d/ns/net", pid)
		}
	}
	o.write()
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.Join(strings.Fields(o.must("run", "--bundle", o.dir, o.id)), " ")
	if want := fmt.Sprintf("0 %d 65536 %s 0", firstID, ns); joined != want {
		t.Errorf("in the joined namespace: %q, want %q", joined, want)
	}
}

func TestTimeNamespace(t *testing.T) {
	b := newBundle(t, "sh", "-c", "read up rest </proc/uptime; echo ${up%.*}; readlink /proc/self/ns/time")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000000}, "monotonic": {Secs: 5, Nanosecs: 7}}
	for _, remapped := range []bool{false, true} {
		if remapped {
			b.remap()
		}
		b.write()
		f := strings.Fields(b.must("run", "--bundle", b.dir, b.id))
		own, err := os.Readlink("/proc/self/ns/time")
		if err != nil || len(f) != 2 || len(f[0]) < 10 || f[1] == own {
			t.Errorf("remapped %v: up for %q, %v", remapped, f, err)
		}
	}
}

// A second container joins the clocks of a first, and what exec starts has them too.
func TestJoinedTimeNamespace(t *testing.T) {
	first := newBundle(t, "sh", "-c", "while :; do sleep 0.01; done")
	first.spec.Linux.Namespaces = append(first.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	first.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000000}}
	first.write()
	first.must("create", "--bundle", first.dir, first.id)
	first.must("start", first.id)
	path := fmt.Sprintf("/proc/%d/ns/time", first.state().Pid)
	want, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	const show = "read up rest </proc/uptime; echo ${up%????????.*}; readlink /proc/self/ns/time"
	if got := first.must("exec", first.id, "sh", "-c", show); got != "10\n"+want+"\n" {
		t.Errorf("exec: %q, want %s", got, want)
	}
	if out, err := first.oci("exec", first.id, "/none"); err == nil || !strings.Contains(out, "no such file") {
		t.Errorf("exec of nothing: %q, %v", out, err)
	}
	for _, remapped := range []bool{false, true} {
		b := newBundle(t, "sh", "-c", show)
		b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace, Path: path})
		if remapped {
			b.remap()
		}
		b.write()
		if got := b.must("run", "--bundle", b.dir, b.id); got != "10\n"+want+"\n" {
			t.Errorf("remapped %v: %q, want %s", remapped, got, want)
		}
	}
	b := newBundle(t, "true")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace, Path: path})
	b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}}
	b.write()
	b.fails("timeOffsets need a new time namespace", "run", "--bundle", b.dir, b.id)
	b.spec.Linux.TimeOffsets = nil
	b.spec.Linux.Namespaces[len(b.spec.Linux.Namespaces)-1].Path = "/proc/self/ns/uts"
	b.write()
	b.fails("join time namespace: invalid argument", "run", "--bundle", b.dir, b.id)
}

// A mount namespace that is others' as well sees nothing of the container.
func TestSharedMountNamespace(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "1000")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	theirs := fmt.Sprintf("/proc/%d/", other.Process.Pid)
	seen, err := os.ReadFile(theirs + "mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"the host's": "", "joined": theirs + "ns/mnt"} {
		t.Run(name, func(t *testing.T) {
			b := newBundle(t, "sh", "-c", "while :; do sleep 0.01; done")
			b.spec.Linux.Namespaces = b.spec.Linux.Namespaces[1:]
			want := "/proc/self/ns/mnt"
			if path != "" {
				b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.MountNamespace, Path: path})
				want = path
			}
			if want, err = os.Readlink(want); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			b.spec.Root.Readonly = true
			b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind"}})
			// The mount points are made while the root can still be written.
			b.write()
			b.must("create", "--bundle", b.dir, b.id)
			b.must("start", b.id)
			out := b.must("exec", b.id, "sh", "-c", `readlink /proc/1/ns/mnt; touch /data/x && echo x >/dev/null && hostname; touch /y 2>/dev/null || echo ro; ls -d /work /home/u /bin/noexec 2>/dev/null; cat /proc/kcore; echo 1 >/proc/sys/kernel/panic || echo no; cd /../../..; ls -d bin/noexec`)
			rest, ok := strings.CutPrefix(out, want+"\nbox\nro\n/home/u\n/bin/noexec\n")
			if !ok && !strings.Contains(out, "/home/u") || !strings.HasSuffix(rest, "no\nbin/noexec\n") && ok || strings.Contains(out, "/work") {
				t.Errorf("printed %q", out)
			}
			for file, want := range map[string]string{"/proc/self/mountinfo": string(before), theirs + "mountinfo": string(seen)} {
				if now, err := os.ReadFile(file); err != nil || string(now) != want {
					t.Errorf("mounts have changed: %s, %v", cmp.Diff(want, string(now)), err)
				}
			}
		})
	}
}
