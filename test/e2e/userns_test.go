//go:build root

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUserNamespaceOfItsOwn: root inside is nobody outside, and may still write where
// root may in the image.
//
//muelle:ring
func TestUserNamespaceOfItsOwn(t *testing.T) {
	d := own(t, "--userns-pool", "1000000:1000000")
	c := ours(d)
	if !remappable(t) {
		// What the kernel lacks is told by name.
		if r := c.try(t, "run", "--rm", "--userns", "auto", "busybox", "true"); r.code != 125 || !strings.Contains(r.err, "user namespaces need Linux 5.19 or newer") {
			t.Errorf("%+v", r)
		}
		return
	}
	c.must(t, "run", "-d", "--name", "own", "--userns", "auto", "-m", "64m", "busybox", "sleep", "1000")
	c.remove(t, "own")
	st, err := os.Stat("/proc/" + c.must(t, "inspect", "-f", "{{.State.Pid}}", "own"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; uid < 1000000 {
		t.Errorf("outside it is user %d", uid)
	}
	if got := c.must(t, "exec", "own", "sh", "-c", "id -u; touch /etc/mine && stat -c %u /etc/mine /bin/busybox"); got != "0\n0\n0" {
		t.Errorf("inside: %q", got)
	}
	if m := strings.Fields(c.must(t, "exec", "own", "cat", "/proc/self/uid_map")); len(m) != 3 || m[0] != "0" || m[1] == "0" {
		t.Errorf("its ids are mapped %v", m)
	}
	checkLimits(t, c, "own", []limit{{"memory", "memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864"}})
	if r := c.try(t, "exec", "own", "sh", "-c", "mknod /k c 1 3 2>&1"); r.code == 0 {
		t.Errorf("a device node was made: %+v", r)
	}
	testOwnersOutside(t, c)
}

// testOwnersOutside: files have inside and on disk the ids that the container knows,
// whatever they are mounted from.
func testOwnersOutside(t *testing.T, c client) {
	const script = "touch /v/f /t/f && chown 7:8 /v/f /t/f && stat -c %u:%g /v/f /t/f /v /t"
	// Who joins its network is in its user namespace: to root of the host's, however few
	// capabilities it has, the kernel gives all of them there.
	ids := c.must(t, "exec", "own", "cat", "/proc/self/uid_map")
	if got := c.must(t, "run", "--rm", "--network", "container:own", "--cap-drop", "ALL", "busybox", "sh", "-c",
		"ip link set lo mtu 1500 2>/dev/null && echo changed || echo refused; cat /proc/self/uid_map"); strings.Join(strings.Fields(got), " ") != "refused "+strings.Join(strings.Fields(ids), " ") {
		t.Errorf("without capabilities: %q, of ids %q", got, ids)
	}
	if got := c.must(t, "run", "--rm", "--network", "container:own", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", "ip link set lo mtu 1500 && echo changed"); got != "changed" {
		t.Errorf("with NET_ADMIN: %q", got)
	}
	args := []string{"run", "--rm", "--userns", "auto", "-v", "own:/v", "--tmpfs", "/t", "busybox", "sh", "-c"}
	if got := c.must(t, append(args, script)...); got != "7:8\n7:8\n0:0\n0:0" {
		t.Errorf("owners: %q", got)
	}
	defer c.must(t, "volume", "rm", "own")
	if got := c.must(t, "run", "--rm", "-v", "own:/v", "busybox", "stat", "-c", "%u:%g", "/v/f"); got != "7:8" {
		t.Errorf("without a user namespace: %q", got)
	}
	c.must(t, append(args, "rm /v/f")...)
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("in\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.must(t, "cp", "-q", file, "own:/etc/copied")
	if got := c.must(t, "exec", "own", "sh", "-c", "cat /etc/copied; stat -c %u:%g /etc/copied; echo out >/etc/copied"); got != "in\n0:0" {
		t.Errorf("copied in: %q", got)
	}
	c.must(t, "cp", "-q", "own:/etc/copied", file)
	if data, err := os.ReadFile(file); err != nil || string(data) != "out\n" {
		t.Errorf("copied out: %q, %v", data, err)
	}
}
