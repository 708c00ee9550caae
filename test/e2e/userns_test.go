//go:build root

package e2e

import (
	"os"
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
}
