//go:build root

package e2e

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEscapesFromUserNamespace: with every capability and nothing masked, a container
// that has a user namespace changes nothing of the host's.
func TestEscapesFromUserNamespace(t *testing.T) {
	d := own(t, "--userns-pool", "1000000:1000000")
	c, dir := ours(d), t.TempDir()
	// Of nobody that the container knows, and of the host's root.
	for name, owner := range map[string]int{"stranger": 200000, "root": 0} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(file, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	// A device that somebody without a user namespace has left in a volume.
	c.must(t, "run", "--rm", "-v", "left:/v", "busybox", "mknod", "-m", "666", "/v/disk", "b", "7", "0")
	const strong = "--userns auto --cap-add ALL --security-opt seccomp=unconfined --security-opt systempaths=unconfined --security-opt apparmor=unconfined"
	args := append([]string{"run", "-d", "--name", "strong"}, strings.Fields(strong)...)
	if _, err := os.Stat("/sys/kernel/security/apparmor"); err != nil {
		args = args[:len(args)-2]
	}
	c.must(t, append(args, "-v", dir+":/host", "-v", "left:/v", "-v", world.echo+":/echo:ro", "busybox", "sleep", "600")...)
	c.remove(t, "strong")
	uplink, err := net.InterfaceByName("uplink")
	if err != nil {
		t.Fatal(err)
	}
	for _, how := range [][]string{{"exec", "strong"}, {"exec", "--privileged", "strong"}} {
		for name, script := range map[string]string{
			// Each writes what is there already: were it possible, nothing would change.
			"kernel's parameters":     "cat /proc/sys/kernel/core_pattern >/tmp/p; cat /tmp/p >/proc/sys/kernel/core_pattern",
			"memory's parameters":     "cat /proc/sys/vm/swappiness >/tmp/p; cat /tmp/p >/proc/sys/vm/swappiness",
			"magic key":               "echo h >/proc/sysrq-trigger",
			"kernel's memory":         "head -c 1 /proc/kcore",
			"clock":                   "date -s @$(date +%s) 2>&1 | grep -q 'not permitted' && exit 1",
			"module":                  "insmod /bin/busybox",
			"block device":            "mknod /disk b 7 0",
			"null device":             "mknod /nil c 1 3",
			"device left in a volume": "head -c 1 /v/disk",
			"cgroup of the host":      "mkdir -p /mnt/c && mount -t cgroup -o memory none /mnt/c",
			"debugging files":         "mkdir -p /mnt/d && mount -t debugfs none /mnt/d",
			"security files":          "mkdir -p /mnt/s && mount -t securityfs none /mnt/s",
			"disk":                    "mkdir -p /mnt/e && mount -t ext4 /dev/loop0 /mnt/e",
			"stranger's file":         "cat /host/stranger",
			"to own it":               "chown 0 /host/stranger",
			"host's interfaces":       fmt.Sprintf("/echo upon %d", uplink.Index),
			"host's processes":        "unshare -U true; nsenter -t 1 -m -u -n -p ls /proc/1/root/var/lib/dpkg",
			"parent of the root":      "mkdir -p /c && cd / && chroot /c ls / 2>/dev/null; ls /../../../../../var/lib/dpkg",
		} {
			if r := c.try(t, append(how, "sh", "-c", script)...); r.code == 0 {
				t.Errorf("%v: %s: %+v", how, name, r)
			}
		}
	}
	// On disk its root is root: what it leaves there with the set-user-id bit must be out
	// of the reach of the host's users (CVE-2021-41091).
	c.must(t, "exec", "strong", "sh", "-c", "cp /bin/busybox /v/su; chown 0 /v/su; chmod 4755 /v/su")
	su := c.must(t, "volume", "inspect", "-f", "{{.Mountpoint}}", "left") + "/su"
	if st, err := os.Stat(su); err != nil || st.Mode()&os.ModeSetuid == 0 {
		t.Fatalf("%v, %v", st, err)
	}
	try := exec.Command(su, "id", "-u")
	try.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := try.CombinedOutput(); err == nil {
		t.Errorf("a user of the host runs it: %s", out)
	}
}

// TestShimSurvivesGarbage: whoever reaches a shim's socket, which is root, ends neither
// the shim nor the container by what he says.
func TestShimSurvivesGarbage(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "c")
	c.must(t, "run", "-d", "--name", name, "busybox", "sleep", "600")
	c.remove(t, name)
	socket := filepath.Join(world.daemon.dir, "run", "containers", c.must(t, "inspect", "-f", "{{.Id}}", name), "shim.sock")
	for dir := filepath.Dir(socket); dir != filepath.Dir(world.daemon.dir); dir = filepath.Dir(dir) {
		st, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() == 0o700 {
			break
		}
		if dir == world.daemon.dir {
			t.Errorf("everybody reaches %s", socket)
		}
	}
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	say := func(b []byte) {
		// The whole path is longer than a socket's may be.
		conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/shim.sock", dir.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		// It may hang up before all is said.
		_, _ = conn.Write(b)
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _ = conn.Read(make([]byte, 100))
	}
	for kind := range byte(20) {
		for _, size := range []uint32{0, 1, 20, 16<<20 + 1, 1<<32 - 1} {
			b := binary.LittleEndian.AppendUint32(nil, size)
			b = append(b, 1, 0, 0, 0, kind%3, 0, kind, 0)
			body := make([]byte, 20)
			if _, err := rand.Read(body); err != nil {
				t.Fatal(err)
			}
			say(append(b, body...))
		}
	}
	if got := c.must(t, "exec", name, "echo", "alive"); got != "alive" {
		t.Errorf("got %q", got)
	}
}
