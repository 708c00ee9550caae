//go:build root

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestConnectRunning: networks come and go while containers run, over the daemon's
// death too.
func TestConnectRunning(t *testing.T) {
	d := own(t)
	for _, c := range clients(t, d) {
		t.Run(c.name, func(t *testing.T) { connectRunning(t, d, c) })
	}
}

func connectRunning(t *testing.T, d *daemon, c client) {
	a, b := c.unique(t, "a"), c.unique(t, "b")
	app, peer := c.unique(t, "app"), c.unique(t, "peer")
	for _, n := range []string{a, b} {
		c.must(t, "network", "create", n)
		t.Cleanup(func() { c.try(t, "network", "rm", n) })
	}
	c.must(t, "run", "-d", "--name", app, "--network", a, "busybox", "sleep", "1000")
	c.remove(t, app)
	c.must(t, "run", "-d", "--name", peer, "--network", b, "busybox", "sleep", "1000")
	c.remove(t, peer)
	reaches := func(from, to string, want bool) {
		t.Helper()
		r := c.try(t, "exec", from, "ping", "-c", "1", "-W", "2", to)
		if (r.code == 0) != want {
			t.Errorf("%s to %s: %+v", from, to, r)
		}
	}
	pid := c.must(t, "inspect", "-f", "{{.State.Pid}}", app)
	reaches(peer, app, false)
	c.must(t, "network", "connect", "--alias", "behind", b, app)
	reaches(peer, app, true)
	reaches(peer, "behind", true)
	reaches(app, peer, true)
	if r := c.try(t, "network", "connect", b, app); r.code == 0 || !strings.Contains(r.err, "already exists in network "+b) {
		t.Errorf("connected twice: %+v", r)
	}
	address := c.must(t, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+b+"\").IPAddress}}", app)
	if hosts := c.must(t, "exec", app, "cat", "/etc/hosts"); !strings.Contains(hosts, address+"\t") {
		t.Errorf("/etc/hosts without %s:\n%s", address, hosts)
	}
	if r := c.try(t, "network", "rm", b); r.code == 0 {
		t.Error("a network in use was removed")
	}
	d.kill(t)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	reaches(peer, "behind", true)
	c.must(t, "network", "disconnect", b, app)
	reaches(peer, app, false)
	reaches(peer, address, false)
	if hosts := c.must(t, "exec", app, "cat", "/etc/hosts"); strings.Contains(hosts, address+"\t") {
		t.Errorf("/etc/hosts still with %s:\n%s", address, hosts)
	}
	if interfaces := c.must(t, "exec", app, "ls", "/sys/class/net"); strings.Count(interfaces, "eth") != 1 {
		t.Errorf("interfaces: %s", interfaces)
	}
	c.must(t, "network", "connect", b, app)
	c.must(t, "restart", "-t", "0", app)
	reaches(peer, app, true)
	c.must(t, "network", "disconnect", a, app)
	c.must(t, "restart", "-t", "0", app)
	if got := c.must(t, "inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", app); got != b {
		t.Errorf("networks after a restart: %q", got)
	}
	if now := c.must(t, "inspect", "-f", "{{.State.Pid}}", app); now == pid {
		t.Error("the container did not restart")
	}
	reaches(peer, app, true)
}

// TestConnectGivesNames: a container of the default bridge, and one without any
// network, find others by name once they are on a network of a user's.
func TestConnectGivesNames(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		net, peer := c.unique(t, "net"), c.unique(t, "peer")
		c.must(t, "network", "create", net)
		t.Cleanup(func() { c.try(t, "network", "rm", net) })
		c.must(t, "run", "-d", "--name", peer, "--network", net, "busybox", "sleep", "1000")
		c.remove(t, peer)
		for _, first := range []string{"bridge", "none"} {
			name := c.unique(t, first)
			c.must(t, "run", "-d", "--name", name, "--network", first, "busybox", "sleep", "1000")
			c.remove(t, name)
			c.must(t, "network", "connect", net, name)
			c.must(t, "exec", name, "ping", "-c", "1", "-W", "2", peer)
			c.must(t, "exec", peer, "ping", "-c", "1", "-W", "2", name)
		}
	})
}

// TestConnectMovesPorts: what is published is so through the network that leads to
// the world, whichever that is at the moment.
func TestConnectMovesPorts(t *testing.T) {
	c := clients(t, world.daemon)[1]
	inside, first, last := c.unique(t, "inside"), c.unique(t, "first"), c.unique(t, "last")
	c.must(t, "network", "create", "--internal", inside)
	c.must(t, "network", "create", first)
	c.must(t, "network", "create", last)
	for _, n := range []string{inside, first, last} {
		t.Cleanup(func() { c.try(t, "network", "rm", n) })
	}
	name := c.unique(t, "web")
	c.must(t, append([]string{"run", "-d", "--name", name, "--network", inside, "-p", "18320:80"}, httpd...)...)
	c.remove(t, name)
	served := func(want bool) {
		t.Helper()
		for _, url := range []string{"http://127.0.0.1:18320", "http://[::1]:18320", "http://" + hostAddr + ":18320"} {
			try := func() error {
				body, err := get(url)
				if err == nil && body != "hello" {
					err = fmt.Errorf("answer %q", body)
				}
				return err
			}
			err := try()
			if want && err != nil {
				err = eventually(20*time.Second, try)
			}
			if (err == nil) != want {
				t.Errorf("%s: %v", url, err)
			}
		}
	}
	served(false)
	c.must(t, "network", "connect", last, name)
	served(true)
	c.must(t, "network", "connect", first, name) // before last by name: it is the way now
	served(true)
	c.must(t, "network", "disconnect", last, name)
	served(true)
	c.must(t, "network", "connect", last, name)
	c.must(t, "network", "disconnect", first, name)
	served(true)
	c.must(t, "network", "disconnect", last, name)
	served(false)
	if got := c.must(t, "port", name); got != "" {
		t.Errorf("ports of a container without a way to the world: %q", got)
	}
	c.must(t, "network", "connect", first, name)
	served(true)
}
