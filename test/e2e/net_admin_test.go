//go:build root

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNetAdminStandsApart: a container that may change its network has a user namespace
// in which every id is the host's, so that its power ends at its own network. Nothing
// else differs.
//
//muelle:ring
func TestNetAdminStandsApart(t *testing.T) {
	host, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	forEach(t, func(t *testing.T, c client) {
		for options, apart := range map[string]bool{
			"":                                       false,
			"--cap-add NET_ADMIN":                    true,
			"--cap-drop ALL --cap-add cap_net_admin": true,
			"--cap-add NET_ADMIN --cap-add SYS_PTRACE":  true,
			"--cap-add NET_RAW":                         false,
			"--cap-add NET_ADMIN --cap-add SYS_MODULE":  false,
			"--cap-add ALL":                             false,
			"--cap-add NET_ADMIN --cap-drop NET_ADMIN":  false,
			"--privileged":                              false,
			"--cap-add NET_ADMIN --userns host":         false,
			"--cap-add NET_ADMIN --network host":        false,
			"--cap-add NET_ADMIN --pid host":            false,
			"--cap-add NET_ADMIN --network none --init": true,
		} {
			args := append(append([]string{"run", "--rm"}, strings.Fields(options)...), "busybox", "readlink", "/proc/self/ns/user")
			if got := c.must(t, args...); (got != host) != apart {
				t.Errorf("%q: the user namespace is %s, the host's %s", options, got, host)
			}
		}
		testNetAdminFiles(t, c)
		testNetAdminShared(t, c)
	})
}

// testNetAdminFiles: owners are as everywhere, on disk and inside.
func testNetAdminFiles(t *testing.T, c client) {
	dir, name, image := t.TempDir(), c.unique(t, "apart"), c.unique(t, "image")
	c.must(t, "run", "-d", "--name", name, "--cap-add", "NET_ADMIN", "--device", "/dev/null:/dev/none", "--tmpfs", "/t:uid=3", "-v", dir+":/bind", "-v", name+":/data",
		"--sysctl", "net.ipv4.ip_default_ttl=9", "busybox", "sleep", "600")
	c.remove(t, name)
	// What hides a whole directory of the image is kept in an attribute that only the
	// host's root may read.
	c.must(t, "exec", name, "sh", "-c", "mv /etc/network /etc/gone 2>/dev/null; rm -rf /bin/../var/spool; mkdir -p /var/spool; touch /bind/f /data/f /own /var/spool/new; chown 7:8 /bind/f /data/f /own; cp /bin/busybox /su; chmod 4755 /su")
	for _, tt := range []struct{ script, want string }{
		{"stat -c %u:%g /own /bind/f /data/f /t /dev/none /etc/hosts", "7:8\n7:8\n7:8\n3:0\n0:0\n0:0"},
		{"cat /proc/sys/net/ipv4/ip_default_ttl", "9"},
		{"cat /proc/self/uid_map | tr -s ' '", " 0 0 4294967295"},
		{"echo x >/dev/none; ls /var/spool", "new"},
		{"ip link add new0 type veth && ip link set lo down && ip link set lo up && echo ok", "ok"},
		{"ping -c 1 -q 127.0.0.1 >/dev/null && echo ok", "ok"},
		{"mknod /k c 1 3 2>/dev/null; echo $?", "1"},
	} {
		if got := c.must(t, "exec", name, "sh", "-c", tt.script); got != strings.TrimSpace(tt.want) {
			t.Errorf("%s: %q, want %q", tt.script, got, tt.want)
		}
	}
	file := filepath.Join(dir, "g")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, 44, 45); err != nil {
		t.Fatal(err)
	}
	c.must(t, "cp", "-a", file, name+":/root/g")
	if got := c.must(t, "exec", name, "stat", "-c", "%u:%g", "/root/g", "/bind/g"); got != "44:45\n44:45" {
		t.Errorf("copied files belong to %q", got)
	}
	c.must(t, "commit", name, image)
	defer c.must(t, "rmi", image)
	for _, options := range [][]string{nil, {"--cap-add", "NET_ADMIN"}} {
		got := c.must(t, append(append([]string{"run", "--rm"}, options...), image, "sh", "-c", "ls /var/spool; stat -c %u:%g:%a /own /su /root/g")...)
		if got != "new\n7:8:644\n0:0:4755\n44:45:600" {
			t.Errorf("%v: the image has %q", options, got)
		}
	}
	c.must(t, "restart", "-t", "0", name)
	if got := c.must(t, "exec", name, "sh", "-c", "ls /var/spool; stat -c %u:%g /own"); got != "new\n7:8" {
		t.Errorf("after a restart: %q", got)
	}
}

// testNetAdminShared: others share its network, and it theirs.
func testNetAdminShared(t *testing.T, c client) {
	vpn, app := c.unique(t, "vpn"), c.unique(t, "app")
	c.must(t, "run", "-d", "--name", vpn, "--cap-add", "NET_ADMIN", "--ipc", "shareable", "busybox", "sleep", "600")
	c.remove(t, vpn)
	c.must(t, "run", "-d", "--name", app, "--ipc", "shareable", "busybox", "sleep", "600")
	c.remove(t, app)
	for options, want := range map[string]string{
		"--network container:" + vpn: "refused",
		"--network container:" + vpn + " --pid container:" + vpn + " --ipc container:" + vpn: "refused",
		"--cap-add NET_ADMIN --network container:" + vpn:                                     "changed",
		"--cap-add NET_ADMIN --network container:" + app + " --pid container:" + app:         "changed",
	} {
		args := append(append([]string{"run", "--rm"}, strings.Fields(options)...), "busybox", "sh", "-c", "ip link show eth0 >/dev/null && { ip link set lo mtu 9000 2>/dev/null && echo changed || echo refused; }")
		if got := c.must(t, args...); got != want {
			t.Errorf("%s: %q, want %q", options, got, want)
		}
	}
}
