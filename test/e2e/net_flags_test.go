//go:build root

package e2e

import (
	"strings"
	"testing"
)

// TestLinks: a container on the default bridge is told of another by hosts and
// environment, and of its new address when that one starts again.
func TestLinks(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		db, web := c.unique(t, "db"), c.unique(t, "web")
		c.must(t, "run", "-d", "--name", db, "--expose", "6379", "-e", "PASS=x", "busybox", "sleep", "1000")
		c.remove(t, db)
		c.must(t, "run", "-d", "--name", web, "--link", db+":red-is", "busybox", "sleep", "1000")
		c.remove(t, web)
		address := func(name string) string {
			return c.must(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name)
		}
		for _, want := range []string{
			"RED_IS_NAME=/" + web + "/red-is", "RED_IS_PORT=tcp://" + address(db) + ":6379", "RED_IS_ENV_PASS=x",
			"RED_IS_PORT_6379_TCP_ADDR=" + address(db), "RED_IS_PORT_6379_TCP_PORT=6379", "RED_IS_PORT_6379_TCP_PROTO=tcp",
		} {
			if env := c.must(t, "exec", web, "env"); !strings.Contains(env+"\n", want+"\n") {
				t.Errorf("no %s in\n%s", want, env)
			}
		}
		c.must(t, "exec", web, "ping", "-c", "1", "-W", "2", "red-is")
		c.must(t, "exec", web, "ping", "-c", "1", "-W", "2", db)
		if got := c.must(t, "inspect", "-f", "{{.HostConfig.Links}}", web); got != "[/"+db+":/"+web+"/red-is]" {
			t.Errorf("inspect shows %s", got)
		}
		// Another takes the address meanwhile.
		old := address(db)
		c.must(t, "stop", "-t", "0", db)
		other := c.unique(t, "other")
		c.must(t, "run", "-d", "--name", other, "busybox", "sleep", "1000")
		c.remove(t, other)
		c.must(t, "rename", db, db+"x")
		c.must(t, "start", db+"x")
		c.remove(t, db+"x")
		hosts := c.must(t, "exec", web, "cat", "/etc/hosts")
		if !strings.Contains(hosts, address(db+"x")+"\tred-is ") || address(db+"x") != old && strings.Contains(hosts, old+"\tred-is") {
			t.Errorf("%s moved from %s to %s:\n%s", db, old, address(db+"x"), hosts)
		}
		c.must(t, "stop", "-t", "0", web)
		c.must(t, "stop", "-t", "0", db+"x")
		if r := c.try(t, "start", web); r.code == 0 || !strings.Contains(r.err, "Cannot link to a non running container") {
			t.Errorf("a link to a container that has ended: %+v", r)
		}
		c.must(t, "rm", "--link", "/"+web+"/red-is")
		c.must(t, "start", web)
	})
}

// TestNetworkAttributes: what endpoints are asked for on the command line arrives in
// the container.
func TestNetworkAttributes(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		octet := map[string]string{"docker": "61"}[c.name]
		if octet == "" {
			octet = "62"
		}
		front, back, conf := c.unique(t, "front"), c.unique(t, "back"), c.unique(t, "conf")
		subnet := func(n string) string { return "10." + octet + "." + n + ".0/24" }
		at := func(n, host string) string { return "10." + octet + "." + n + "." + host }
		create := func(name string, args ...string) {
			t.Helper()
			c.must(t, append(append([]string{"network", "create"}, args...), name)...)
			t.Cleanup(func() { c.must(t, "network", "rm", name) })
		}
		create(conf, "--config-only", "--subnet", subnet("2"), "--ip-range", at("2", "128")+"/25", "--gateway", at("2", "254"), "--aux-address", "router="+at("2", "129"))
		create(front, "--ipv6", "--subnet", subnet("1"), "--subnet", "fd00:"+octet+"::/64", "--attachable", "--label", "a=b", "-o", "com.docker.network.driver.mtu=1400")
		create(back, "--config-from", conf)
		if r := c.try(t, "network", "rm", conf); r.code == 0 || !strings.Contains(r.err, "is in use") {
			t.Errorf("a configuration network in use is removed: %+v", r)
		}
		if r := c.try(t, "run", "--rm", "--network", conf, "busybox", "true"); r.code != 125 || !strings.Contains(r.err, "configuration-only") {
			t.Errorf("a container joins a configuration network: %+v", r)
		}
		peer, box := c.unique(t, "peer"), c.unique(t, "box")
		c.must(t, "run", "-d", "--name", peer, "--network", front, "busybox", "sleep", "1000")
		c.remove(t, peer)
		c.must(t, "run", "-d", "--name", box, "--hostname", "h", "--domainname", "d.test", "--dns-search", "s.test", "--add-host", "gate:host-gateway",
			"--network", "name="+front+",alias=al,ip="+at("1", "77")+",ip6=fd00:"+octet+"::77,mac-address=02:00:00:00:"+octet+":77,link-local-ip=169.254.7.7,"+
				"driver-opt=com.docker.network.endpoint.ifname=front0,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
			"--network", "name="+back+",gw-priority=5", "busybox", "sleep", "1000")
		c.remove(t, box)
		for command, want := range map[string]string{
			"hostname -f":                                                       "h.d.test",
			"cat /sys/class/net/front0/address":                                 "02:00:00:00:" + octet + ":77",
			"cat /sys/class/net/front0/mtu":                                     "1400",
			"cat /proc/sys/net/ipv4/conf/front0/log_martians":                   "1",
			"ip -4 -o addr show dev front0 | grep -c 169.254.7.7/16":            "1",
			"ip -4 -o addr show dev front0 | grep -c " + at("1", "77") + "/24":  "1",
			"ip -6 -o addr show dev front0 | grep -c fd00:" + octet + "::77/64": "1",
			"ip route | grep -c 'default via " + at("2", "254") + "'":           "1",
			"ip -4 -o addr | grep -c " + at("2", "128") + "/24":                 "1",
			"grep -c '^search s.test' /etc/resolv.conf; ":                       "1",
			"grep -c '^10.*gate$' /etc/hosts":                                   "1",
			"ping -c 1 -W 2 " + peer + " >/dev/null; echo $?":                   "0",
			"ping -6 -c 1 -W 2 al | grep -c 'PING al (fd00:" + octet + "::77)'": "1",
			"ping -4 -c 1 -W 2 al | grep -c 'PING al (" + at("1", "77") + ")'":  "1",
		} {
			if r := c.try(t, "exec", box, "sh", "-c", command); strings.TrimSpace(r.out) != want {
				t.Errorf("%s: %+v, want %s", command, r, want)
			}
		}
		// Links on a network with names, given when it is connected.
		c.must(t, "network", "disconnect", front, box)
		c.must(t, "network", "connect", "--link", peer+":friend", "--alias", "again", "--ip", at("1", "78"), front, box)
		c.must(t, "exec", box, "ping", "-c", "1", "-W", "2", "friend")
		c.must(t, "exec", peer, "ping", "-c", "1", "-W", "2", "again")
		if r := c.try(t, "exec", peer, "nslookup", "-type=a", "friend"); r.code == 0 {
			t.Errorf("a link is somebody else's name too: %+v", r)
		}
		if r := c.try(t, "network", "disconnect", "-f", front, "nosuch"); r.code != 1 || !strings.Contains(r.err, "nosuch not found") {
			t.Errorf("disconnecting what is not there: %+v", r)
		}
	})
}

// TestIPv6OfNetworks: nobody set a sysctl, and a container has IPv6 with the world.
func TestIPv6OfNetworks(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		six := c.unique(t, "six")
		c.must(t, "network", "create", "--ipv4=false", "--ipv6", six)
		t.Cleanup(func() { c.must(t, "network", "rm", six) })
		box := c.unique(t, "box")
		c.must(t, "run", "-d", "--name", box, "--network", six, "busybox", "sleep", "1000")
		c.remove(t, box)
		if got := c.must(t, "exec", box, "sh", "-c", "ip -4 -o addr show dev eth0; ip -6 -o addr show dev eth0 scope global | grep -c fd"); got != "1" {
			t.Errorf("addresses: %s", got)
		}
	})
}
