//go:build root && vm

package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestZonesOnAStockKernel: what a zone publishes and what it may reach is held by the
// modules that distributions build, and so is who may send from which address.
//
//muelle:ring
func TestZonesOnAStockKernel(t *testing.T) {
	c := ours(world.daemon)
	zone := c.unique(t, "z")
	c.must(t, "network", "create", "--zone", "publish=host", "--zone", "egress=none", "--subnet", "10.77.0.0/24", zone)
	t.Cleanup(func() { c.must(t, "network", "rm", zone) })
	server, other := c.unique(t, "s"), c.unique(t, "o")
	echo := []string{"-v", world.echo + ":/echo:ro", "busybox", "/echo", "7000"}
	c.must(t, append([]string{"run", "-d", "--name", server, "--network", zone, "--ip", "10.77.0.10", "-p", "18601:7000"}, echo...)...)
	c.remove(t, server)
	c.must(t, append([]string{"run", "-d", "--name", other, "-p", "18602:7000", "--cap-add", "NET_ADMIN"}, echo...)...)
	c.remove(t, other)
	for _, port := range []string{"18601", "18602"} {
		if err := eventually(20*time.Second, func() error { return echoesFrom("tcp", "127.0.0.1", "127.0.0.1:"+port, true) }); err != nil {
			t.Errorf("this host: port %s: %v", port, err)
		}
		allowed := port == "18602"
		if err := outside(func() error { return echoesFrom("tcp", outsideAddr, hostAddr+":"+port, allowed) }); (err == nil) != allowed {
			t.Errorf("outside: port %s: %v", port, err)
		}
	}
	// The name server outside also takes TCP.
	reach := func(args ...string) string {
		return c.try(t, append(append([]string{"exec"}, args...), "nc", "-w", "3", outsideAddr, "53")...).err
	}
	if got := reach(other); got != "" {
		t.Errorf("a container without a zone reaches nobody outside: %s", got)
	}
	if got := reach(server); got == "" {
		t.Error("a zone without egress reaches somebody outside")
	}

	// A neighbour that may change its own addresses.
	rogue := c.unique(t, "r")
	c.must(t, "run", "-d", "--name", rogue, "--network", zone, "--cap-add", "NET_ADMIN", "busybox", "sleep", "1000")
	c.remove(t, rogue)
	const ask = "echo word | timeout 3 nc 10.77.0.10 7000"
	if got := c.try(t, "exec", rogue, "sh", "-c", ask); strings.TrimSpace(got.out) != "word" {
		t.Errorf("from its own address: %+v", got)
	}
	c.must(t, "exec", rogue, "ip", "addr", "add", "10.77.0.99/24", "dev", "eth0")
	c.must(t, "exec", rogue, "ip", "route", "add", "10.77.0.10/32", "dev", "eth0", "src", "10.77.0.99")
	if got := c.try(t, "exec", rogue, "sh", "-c", ask); got.out != "" {
		t.Errorf("from an address that is not its own: %+v", got)
	}
}

// TestSubInterfaces: networks of the drivers macvlan and ipvlan, and one on a VLAN that is
// made for it; hosts that cannot build them leave their modules out.
//
//muelle:ring
func TestSubInterfaces(t *testing.T) {
	c := ours(world.daemon)
	const beyond = "198.18.10.2"
	if err := outside(func() error {
		lan, err := netlink.LinkByName("lan")
		if err != nil {
			return err
		}
		if err := netlink.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "lan.10", ParentIndex: lan.Attrs().Index}, VlanId: 10}); err != nil {
			return err
		}
		return upWith("lan.10", beyond+"/24")
	}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ driver, parent, address, subnet, outside string }{
		{"macvlan", "uplink", "192.0.2.71", "192.0.2.0/24", outsideAddr},
		{"ipvlan", "uplink", "192.0.2.72", "192.0.2.0/24", outsideAddr},
		{"ipvlan", "uplink.10", "198.18.10.3", "198.18.10.0/24", beyond},
	} {
		driver, address := tc.driver+" on "+tc.parent, tc.address
		name, network := c.unique(t, "c"), c.unique(t, "n")
		c.must(t, "network", "create", "-d", tc.driver, "-o", "parent="+tc.parent, "--subnet", tc.subnet, "--gateway", tc.outside, network)
		c.must(t, "run", "-d", "--name", name, "--network", network, "--ip", address, "-v", world.echo+":/echo:ro", "busybox", "/echo", "7000")
		try := func() error {
			return outside(func() error { return echoesFrom("tcp", tc.outside, net.JoinHostPort(address, "7000"), true) })
		}
		if err := eventually(20*time.Second, try); err != nil {
			t.Errorf("%s: from outside: %v", driver, err)
		}
		if r := c.try(t, "exec", name, "ping", "-c", "1", "-W", "5", tc.outside); r.code != 0 {
			t.Errorf("%s: to the outside: %+v", driver, r)
		}
		c.must(t, "rm", "-f", name)
		c.must(t, "network", "rm", network)
	}
	if _, err := net.InterfaceByName("uplink.10"); err == nil {
		t.Error("the interface of the VLAN stays when its network is removed")
	}
}
