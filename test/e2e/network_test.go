//go:build root

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// get fetches a page with a short patience.
func get(url string) (string, error) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(body)), err
}

// httpd is a web server that answers "hello".
var httpd = []string{"busybox", "sh", "-c", "mkdir -p /www && echo hello >/www/index.html && exec httpd -f -p 80 -h /www"}

//muelle:ring
func TestPublishedPorts(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, append([]string{"run", "-d", "--name", name, "-p", "18080:80", "-p", "127.0.0.1:18081:80"}, httpd...)...)
		c.remove(t, name)
		fetch := func(from, url string, ok bool) {
			t.Helper()
			try := func() error {
				body, err := get(url)
				if err == nil && body != "hello" {
					return fmt.Errorf("answer %q", body)
				}
				return err
			}
			var err error
			switch {
			case from == "host" && ok:
				err = eventually(20*time.Second, try)
			case from == "host":
				err = try()
			case ok:
				err = eventually(20*time.Second, func() error { return outside(try) })
			default:
				err = outside(try)
			}
			if (err == nil) != ok {
				t.Errorf("%s from %s: %v", url, from, err)
			}
		}
		fetch("host", "http://127.0.0.1:18080", true)
		fetch("host", "http://[::1]:18080", true)
		fetch("host", "http://"+hostAddr+":18080", true)
		fetch("outside", "http://"+hostAddr+":18080", true)
		fetch("host", "http://127.0.0.1:18081", true)
		fetch("outside", "http://"+hostAddr+":18081", false)
		address := c.must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
		fetch("host", "http://"+address, true)
		// A published port is published; nothing else of the container is.
		if err := outside(func() error {
			_, err := net.DialTimeout("tcp", address+":80", time.Second)
			return err
		}); err == nil {
			t.Error("the container's own address answers to the outside")
		}
		r := c.try(t, append([]string{"run", "--rm", "-p", "18080:80"}, httpd...)...)
		if r.code != 125 || !strings.Contains(r.err, "18080") || !strings.Contains(r.err, "already") {
			t.Errorf("a taken port: %+v", r)
		}
		if left := c.must(t, "ps", "-aq", "--filter", "publish=18080", "--filter", "status=created"); left != "" {
			t.Errorf("a container is left: %s", left)
		}
		// Another container reaches the published port by the host's address.
		got := c.must(t, "run", "--rm", "busybox", "timeout", "3", "wget", "-qO-", "http://"+hostAddr+":18080")
		if got != "hello" {
			t.Errorf("from a container: %q", got)
		}
	})
}

//muelle:ring
func TestPublishedUDP(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "-v", world.echo+":/echo:ro", "-p", "18053:7777/udp", "busybox", "/echo", "7777")
		c.remove(t, name)
		for _, addr := range []string{"127.0.0.1:18053", "[::1]:18053", hostAddr + ":18053"} {
			if err := eventually(30*time.Second, func() error { return echoes("udp", "", addr, time.Second) }); err != nil {
				t.Errorf("%s: %v", addr, err)
			}
		}
		if err := outside(func() error { return echoes("udp", "", hostAddr+":18053", 5*time.Second) }); err != nil {
			t.Errorf("from outside: %v", err)
		}
	})
}

//muelle:ring
func TestZonesOfUserNetworks(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		front, back := c.unique(t, "front"), c.unique(t, "back")
		for _, n := range []string{front, back} {
			args := []string{"network", "create", n}
			if n == back {
				args = []string{"network", "create", "--internal", n}
			}
			c.must(t, args...)
			t.Cleanup(func() { c.must(t, "network", "rm", n) })
		}
		api, db, user := c.unique(t, "api"), c.unique(t, "db"), c.unique(t, "user")
		c.must(t, append([]string{"create", "--name", api, "--network", front}, httpd...)...)
		c.remove(t, api)
		c.must(t, "network", "connect", "--alias", "api-behind", back, api)
		c.must(t, "start", api)
		c.must(t, append([]string{"run", "-d", "--name", db, "--network", back, "--network-alias", "database"}, httpd...)...)
		c.remove(t, db)
		c.must(t, "run", "-d", "--name", user, "--network", front, "busybox", "sleep", "1000")
		c.remove(t, user)
		dbAddress := c.must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", db)

		reach := func(from, url string, ok bool) {
			t.Helper()
			try := func() error {
				if r := c.try(t, "exec", from, "timeout", "3", "wget", "-qO-", url); (r.code == 0 && r.out == "hello\n") != ok {
					return fmt.Errorf("%s → %s: %+v, want success: %v", from, url, r, ok)
				}
				return nil
			}
			if err := eventually(20*time.Second, try); err != nil {
				t.Error(err)
			}
		}
		reach(user, "http://"+api, true)
		reach(user, "http://"+db, false)
		reach(user, "http://database", false)
		reach(user, "http://"+dbAddress, false)
		reach(api, "http://database", true)
		reach(api, "http://"+dbAddress, true)
		reach(db, "http://api-behind", true)
		reach(user, "http://api-behind", false)
		// Outside names are forwarded, from an internal network nothing leaves.
		if got := c.must(t, "exec", user, "nslookup", "-type=a", "www.example.test"); !strings.Contains(got, outsideAddr) {
			t.Errorf("outside name: %q", got)
		}
		if r := c.try(t, "exec", user, "ping", "-c1", "-W2", outsideAddr); r.code != 0 {
			t.Errorf("the outside from a network with egress: %+v", r)
		}
		if r := c.try(t, "exec", db, "ping", "-c1", "-W1", outsideAddr); r.code == 0 {
			t.Error("the outside answers to an internal network")
		}
		if r := c.try(t, "network", "rm", front); r.code == 0 || !strings.Contains(r.err, "has active endpoints") {
			t.Errorf("removal of a network in use: %+v", r)
		}
	})
}

func TestDefaultBridgeResolvesNoContainers(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, append([]string{"run", "-d", "--name", name}, httpd...)...)
		c.remove(t, name)
		if r := c.try(t, "run", "--rm", "busybox", "nslookup", name); r.code == 0 {
			t.Errorf("%+v", r)
		}
		address := c.must(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
		if err := eventually(20*time.Second, func() error {
			if r := c.try(t, "run", "--rm", "busybox", "timeout", "3", "wget", "-qO-", "http://"+address); r.out != "hello\n" {
				return fmt.Errorf("by address: %+v", r)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestContainerMayServeDNSItself(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		network := c.unique(t, "net")
		c.must(t, "network", "create", network)
		t.Cleanup(func() { c.must(t, "network", "rm", network) })
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "--network", network, "busybox", "sh", "-c", "while :; do nc -l -p 53 -e echo own answer; done")
		c.remove(t, name)
		if err := eventually(20*time.Second, func() error {
			if r := c.try(t, "run", "--rm", "--network", network, "busybox", "nc", "-w", "2", name, "53"); r.out != "own answer\n" {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		if got := c.must(t, "exec", name, "nslookup", "-type=a", name); !strings.Contains(got, "127.0.0.11") {
			t.Errorf("its own lookups: %q", got)
		}
	})
}

func TestNetworkCommands(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "net")
		id := c.must(t, "network", "create", "--subnet", "10.201.0.0/24", "--label", "a=b", name)
		if len(id) != 64 {
			t.Errorf("create printed %q", id)
		}
		if got := c.must(t, "network", "inspect", "-f", "{{.Name}} {{.Driver}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.a}}", name); got != name+" bridge 10.201.0.0/24 10.201.0.1 b" {
			t.Errorf("inspect %q", got)
		}
		if r := c.try(t, "network", "create", "--subnet", "10.201.0.128/25", name+"2"); r.code == 0 || !strings.Contains(r.err, "overlap") {
			t.Errorf("overlapping subnet: %+v", r)
		}
		if r := c.try(t, "network", "create", name); r.code == 0 || !strings.Contains(r.err, "network with name "+name+" already exists") {
			t.Errorf("taken name: %+v", r)
		}
		ls := c.must(t, "network", "ls", "--format", "{{.Name}} {{.Driver}}")
		for _, want := range []string{"bridge bridge", "host host", "none null", name + " bridge"} {
			if !strings.Contains(ls, want) {
				t.Errorf("%q is missing in %q", want, ls)
			}
		}
		if got := c.must(t, "run", "--rm", "--network", name, "--ip", "10.201.0.77", "busybox", "hostname", "-i"); got != "10.201.0.77" {
			t.Errorf("static address %q", got)
		}
		if got := c.must(t, "network", "rm", name); got != name {
			t.Errorf("rm printed %q", got)
		}
		if r := c.try(t, "network", "rm", "bridge"); r.code == 0 || !strings.Contains(r.err, "pre-defined network") {
			t.Errorf("rm bridge: %+v", r)
		}
		if got := c.must(t, "run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"); got != "lo" {
			t.Errorf("network none has %q", got)
		}
		if got := c.must(t, "run", "--rm", "--network", "host", "busybox", "cat", "/sys/class/net/uplink/operstate"); got != "up" {
			t.Errorf("network host: %q", got)
		}
	})
}
