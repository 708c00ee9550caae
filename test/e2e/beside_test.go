//go:build root

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// An image is a stranger's: its labels make its container nobody's replica.
func TestImageJoinsNoProject(t *testing.T) {
	compose := project(t, `
name: joined
services:
  web: {image: busybox, command: httpd -f -p 80, ports: ["18480:80"], stop_signal: KILL}
`)
	if r := compose("up", "-d"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	c := ours(world.daemon)
	image := c.unique(t, "stranger")
	c.must(t, "run", "--name", image, "busybox", "true")
	c.must(t, "commit", "-c", "LABEL com.docker.compose.project=joined com.docker.compose.service=web com.docker.compose.container-number=2 mine=1", image, image)
	c.remove(t, image)
	t.Cleanup(func() { c.must(t, "rmi", "-f", image) })
	if r := c.try(t, "run", "--rm", "--network", "joined_default", "-p", "18480:80", image, "true"); r.code == 0 || !strings.Contains(r.err, "port is already allocated") {
		t.Errorf("the image shares the service's port: %+v", r)
	}
	name := c.unique(t, "joins")
	c.must(t, "run", "-d", "--name", name, "--network", "joined_default", image, "sleep", "1000")
	c.remove(t, name)
	if got := c.must(t, "inspect", "-f", "{{json .Config.Labels}}", name); strings.Contains(got, "compose") || !strings.Contains(got, `"mine":"1"`) {
		t.Errorf("labels: %s", got)
	}
	if got := c.must(t, "run", "--rm", "--network", "joined_default", "busybox", "nslookup", "web"); strings.Count(got, "Address") != 2 {
		t.Errorf("web is more than the service:\n%s", got)
	}
}

// half is one of two daemons in one network namespace.
type half struct {
	client
	name string
	port int
}

// TestTwoDaemons: what one does or suffers is nothing to the other.
func TestTwoDaemons(t *testing.T) {
	halves := []half{}
	for i, name := range []string{"left", "right"} {
		d := newDaemon("two-" + name)
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.shutdown(); err != nil && !t.Failed() {
				t.Error(err)
			}
		})
		h := half{ours(d), name, 18490 + 2*i}
		for _, args := range [][]string{
			{"network", "create", "--zone", "publish=lan", "--zone", "egress=none", name},
			{"run", "-d", "--name", name, "--network", name, "-v", world.echo + ":/echo", "-p", fmt.Sprintf("%d:7000", h.port), "busybox", "/echo", "7000"},
			{"run", "-d", "--name", name + "-open", "-v", world.echo + ":/echo", "-p", fmt.Sprintf("%d:7000", h.port+1), "busybox", "/echo", "7000"},
		} {
			h.must(t, args...)
		}
		t.Cleanup(func() { h.try(t, "rm", "-f", name, name+"-open"); h.try(t, "network", "rm", name) })
		halves = append(halves, h)
	}
	left, right := halves[0], halves[1]
	left.works(t, "at first", right)
	right.works(t, "at first", left)

	tables := func() string {
		out, err := exec.Command("nft", "list", "tables").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	both := tables()
	left.daemon.kill(t)
	right.works(t, "while the other is dead", left)
	if err := left.daemon.start(); err != nil {
		t.Fatal(err)
	}
	left.works(t, "after kill -9", right)
	right.works(t, "after the other's kill -9", left)

	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := eventually(30*time.Second, func() error {
		if sorted(tables()) != sorted(both) {
			return errors.New("the tables are not back:\n" + tables() + "before:\n" + both)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	left.works(t, "after a flush", right)
	right.works(t, "after a flush", left)

	left.must(t, "rm", "-f", "left", "left-open")
	left.must(t, "network", "rm", "left")
	if err := left.daemon.shutdown(); err != nil {
		t.Fatal(err)
	}
	right.works(t, "after the other's end", half{})
	if forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || string(forward) != "1\n" {
		t.Errorf("forwarding after the other's end: %s, %v", forward, err)
	}
	if err := left.daemon.start(); err != nil {
		t.Fatal(err)
	}
	right.works(t, "after the other's return", half{})
}

// works asks for both published ports from here, from the LAN, and from the other's
// open container; and tries what must not be: the other's container by its own address,
// from a container and from the LAN.
func (h half) works(t *testing.T, when string, other half) {
	t.Helper()
	at := func(port int) string { return fmt.Sprintf("%s:%d", hostAddr, port) }
	for _, port := range []int{h.port, h.port + 1} {
		for from, try := range map[string]func() error{
			"this host": func() error { return echoes("tcp", "", at(port), 5*time.Second) },
			"LAN": func() error {
				return outside(func() error { return echoes("tcp", outsideAddr, at(port), 5*time.Second) })
			},
		} {
			if err := try(); err != nil {
				t.Errorf("%s: %s's port %d from %s: %v", when, h.name, port, from, err)
			}
		}
	}
	if other.name == "" || h.daemon.cmd.ProcessState != nil || other.daemon.cmd.ProcessState != nil {
		return
	}
	var all sync.WaitGroup
	defer all.Wait()
	own := "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
	for _, target := range []string{h.name, h.name + "-open"} {
		addr := h.must(t, "inspect", "-f", own, target)
		all.Go(func() {
			if r := other.try(t, "exec", other.name+"-open", "sh", "-c", "echo x | timeout 1 nc "+addr+" 7000"); strings.Contains(r.out, "x") {
				t.Errorf("%s: %s's container reaches %s by its own address %s", when, other.name, target, addr)
			}
		})
		all.Go(func() {
			if err := outside(func() error {
				return throughHost(addr, func() error { return echoes("tcp", outsideAddr, addr+":7000", 300*time.Millisecond) })
			}); err == nil {
				t.Errorf("%s: the LAN reaches %s by its own address", when, target)
			}
		})
	}
	word := func(who string, port, patience int) bool {
		r := other.try(t, "exec", who, "sh", "-c", fmt.Sprintf("echo x | timeout %d nc %s %d", patience, hostAddr, port))
		return strings.Contains(r.out, "x")
	}
	if !word(other.name+"-open", h.port+1, 5) {
		t.Errorf("%s: %s's open container does not reach %s's open port", when, other.name, h.name)
	}
	if word(other.name, h.port+1, 1) {
		t.Errorf("%s: %s's closed container leaves its zone to %s", when, other.name, h.name)
	}
}

// throughHost gives the calling namespace a route by this host while f runs.
func throughHost(addr string, f func() error) error {
	route := &netlink.Route{Dst: &net.IPNet{IP: net.ParseIP(addr).To4(), Mask: net.CIDRMask(32, 32)}, Gw: net.ParseIP(hostAddr)}
	if err := netlink.RouteReplace(route); err != nil {
		return nil // which fails the test
	}
	defer netlink.RouteDel(route)
	return f()
}

// A service that is called as this host or the world is not taken for it by explain.
func TestServiceCalledHost(t *testing.T) {
	compose := project(t, `
name: words
x-base: &base {image: busybox, command: httpd -f -p 80, expose: [80], stop_signal: KILL}
services:
  host:    {<<: *base}
  outside: {<<: *base}
  lone:    {<<: *base}
`)
	if r := compose("up", "-d"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	c := ours(world.daemon)
	if r, code := zoneMatrix(t, c, "words"); code != 0 || len(r.Members) != 3 {
		t.Errorf("exit status %d: %+v", code, r)
	}
	for _, to := range []string{"host", "outside"} {
		if r := c.try(t, "explain", "words/lone", to); r.code == 0 || !strings.Contains(r.err, "write words/"+to+" for the service of that name") {
			t.Errorf("explain %s: %+v", to, r)
		}
	}
	if r := c.try(t, "explain", "words/host", "words/lone:80"); r.code != 0 {
		t.Errorf("explain: %+v", r)
	}
	if r := c.try(t, "explain", "words/lone", "host.docker.internal"); strings.Contains(r.err, "may be") {
		t.Errorf("explain: %+v", r)
	}
}
