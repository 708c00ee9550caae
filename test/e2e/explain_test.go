//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"muelle/api"
)

// explainProject has a server on two networks, one that nobody but it is on, and
// clients that are on the wrong network or on none.
const explainProject = `
name: hops
services:
  app:
    image: busybox
    command: httpd -f -p 5000 -h /
    ports: ["15080:5000", "127.0.0.1:15081:5000"]
    networks: [public_net, backend_net]
  local:
    image: busybox
    command: httpd -f -p 127.0.0.1:80 -h /
    networks: [public_net]
  six:
    image: busybox
    command: "httpd -f -p [::1]:7000 -h /"
    networks: [public_net]
  mongo:
    image: busybox
    command: httpd -f -p 27017 -h /
    networks: [backend_net]
  crash:
    image: busybox
    command: sh -c 'exit 3'
    networks: [public_net]
  sick:
    image: busybox
    command: httpd -f -p 80 -h /
    healthcheck: {test: ["CMD", "false"], interval: 100ms, retries: 1}
    networks: [public_net]
  forgotten:
    image: busybox
    command: sleep 1000
  cliente:
    image: busybox
    command: sleep 1000
    networks: [public_net]
  alone:
    image: busybox
    command: sleep 1000
    network_mode: none
  guest:
    image: busybox
    command: sleep 1000
    network_mode: "service:cliente"
  many:
    image: busybox
    command: sh -c "httpd -p 80 -h /; sleep 1000"
    ports: ["15082:80"]
    scale: 2
    networks: [public_net]
networks:
  public_net:
  backend_net:
    internal: true
`

// hops asks muelle explain; source and target are services of the project unless they
// have a slash in front.
func hops(t *testing.T, source, target string) (api.Explanation, result) {
	t.Helper()
	name := func(s string) string {
		if s[0] == '/' {
			return s[1:]
		}
		return "hops/" + s
	}
	c := ours(world.daemon)
	r := c.try(t, "explain", "--json", name(source), name(target))
	var e api.Explanation
	if err := json.Unmarshal([]byte(r.out), &e); err != nil {
		t.Fatalf("%s -> %s: %v: %+v", source, target, err, r)
	}
	return e, r
}

func TestExplain(t *testing.T) {
	compose := project(t, explainProject)
	if r := compose("up", "-d"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	c := ours(world.daemon)
	waitFor := func(what, format string, want string) {
		t.Helper()
		if err := eventually(30*time.Second, func() error {
			if got := c.try(t, "inspect", "-f", format, what).out; strings.TrimSpace(got) != want {
				return fmt.Errorf("%s: %s", what, got)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor("hops-sick-1", "{{.State.Health.Status}}", "unhealthy")
	waitFor("hops-crash-1", "{{.State.Status}}", "exited")
	// The servers listen as soon as they are reached.
	for _, port := range []string{"local:80", "app:5000", "sick:80", "six:7000", "mongo:27017", "many:80"} {
		if err := eventually(30*time.Second, func() error {
			e, _ := hops(t, strings.Split(port, ":")[0], "/localhost:"+strings.Split(port, ":")[1])
			if !e.Reachable {
				return fmt.Errorf("%+v", e)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		source, target, hop string
		want                []string
	}{
		{"cliente", "app:5000", "", []string{"Both are on hops_public_net", "answers after"}},
		{"cliente", "app", "", []string{"httpd (pid "}},
		{"cliente", "sick:80", "", []string{"sick is unhealthy"}},
		{"/lan", "/" + hostAddr + ":15080", "", []string{"Port 15080 of this host leads to hops-app-1, port 5000", "what the rules say"}},
		{"/outside", "/" + hostAddr + ":15999", "listener", []string{"Nothing listens on port 15999 of this host"}},
		{"cliente", "/host:15080", "", []string{"Port 15080 of this host leads to hops-app-1, port 5000"}},
		{"cliente", "/host.docker.internal:15080", "", []string{"host.docker.internal is "}},
		{"cliente", "/www.example.test:53", "", []string{"www.example.test is " + outsideAddr}},
		{"app", "mongo:27017", "", []string{"Both are on hops_backend_net"}},
		{"/host", "app:5000", "", []string{"answers after"}},
		{"/host", "/host:15080", "", nil},
		{"/outside", "app:5000", "", []string{"Port 15080 of this host"}},

		{"forgotten", "app:5000", "name", []string{"forgotten cannot resolve app: they share no network", "  forgotten:\n    networks: [public_net]\n", "muelle network connect hops_public_net hops-forgotten-1"}},
		{"alone", "app:5000", "name", []string{"it is on no network", "take network_mode of alone away"}},
		{"cliente", "mongo:27017", "name", []string{"they share no network", "networks: [public_net, backend_net]"}},
		{"cliente", "app:15080", "listener", []string{"15080 is the port of this host that it is published at", "Ask for app:5000"}},
		{"cliente", "app:81", "listener", []string{"Nothing listens on port 81", "Ask for app:5000"}},
		{"cliente", "local:80", "listener", []string{"127.0.0.1:80 only"}},
		{"cliente", "six:7000", "listener", []string{"[::1]:7000 only"}},
		{"cliente", "/host:15081", "port", []string{"for this host only", "ask for app:5000", "services:\n  app:\n    ports: [\"15081:5000\"]"}},
		{"/host", "/host:15081", "", nil},
		{"/outside", "/host:15081", "port", []string{"for this host only"}},
		{"/lan", "app:5000", "", []string{"From outside nothing can be tried", hostAddr + ":15080 answers this host itself"}},
		{"cliente", "many:80", "", []string{"hops-many-2", "answers after"}},
		{"cliente", "/host:15082", "", []string{"(and 1 more that share it)", "hops-many-2"}},
		{"cliente", "/ap:5000", "name", []string{"Did you mean app:5000?"}},
		{"cliente", "/mongoo", "name", []string{"Did you mean mongo, which is on no network of cliente?"}},
		{"app", "guest:80", "name", []string{"in the network namespace of cliente", "Ask for cliente:80"}},
		{"cliente", "guest:80", "name", []string{"localhost:80"}},
		{"cliente", "/localhost:5000", "listener", []string{"localhost inside cliente is cliente itself", "app:5000"}},
		{"cliente", "crash:80", "target", []string{"exit code 3", "muelle why hops-crash-1"}},
		{"mongo", "/www.example.test:53", "name", []string{"networks: [backend_net, outward]"}},
		{"mongo", "/" + outsideAddr + ":53", "network", []string{"no network that leads out"}},
		{"cliente", "/nobody.example.test:80", "name", []string{"knows no such name"}},
		{"/outside", "mongo:27017", "port", []string{"mongo does not publish port 27017"}},
	} {
		e, r := hops(t, tc.source, tc.target)
		got, text := "", r.out
		if b := e.Broken(); b != nil {
			got = b.Hop
			text += b.YAML
		}
		if got != tc.hop || e.Reachable != (tc.hop == "") || r.code != map[bool]int{true: 0, false: 1}[e.Reachable] {
			t.Errorf("%s -> %s: broken at %q, reachable %v, exit status %d; want %q\n%s", tc.source, tc.target, got, e.Reachable, r.code, tc.hop, r.out)
		}
		for _, w := range tc.want {
			if !strings.Contains(text, w) {
				t.Errorf("%s -> %s: %q is missing in\n%s", tc.source, tc.target, w, r.out)
			}
		}
	}
	// One of two replicas does not serve any more.
	c.must(t, "exec", "hops-many-2", "killall", "httpd")
	if e, r := hops(t, "cliente", "many:80"); e.Reachable || e.Hops[0].Hop != "replicas" || !strings.Contains(r.out, "Of 2 containers of many, 1 cannot be reached; what follows is about hops-many-2.") {
		t.Errorf("one replica is deaf: %s", r.out)
	}
	if e, r := hops(t, "cliente", "/host:15082"); e.Reachable || e.Broken().Hop != "listener" || !strings.Contains(r.out, "hops-many-2") {
		t.Errorf("one replica behind the port is deaf: %s", r.out)
	}
	// What is advised helps.
	for _, name := range []string{"forgotten", "alone"} {
		c.must(t, "network", "connect", "hops_public_net", "hops-"+name+"-1")
		if e, r := hops(t, name, "app:5000"); !e.Reachable {
			t.Errorf("%s is connected: %s", name, r.out)
		}
	}
	// A container may change its own files: what its programs read is what counts.
	c.must(t, "exec", "hops-cliente-1", "sh", "-c", "echo 10.99.0.1 app >>/etc/hosts")
	if e, r := hops(t, "cliente", "app:5000"); e.Broken() == nil || e.Broken().Hop != "address" || !strings.Contains(r.out, "extra_hosts") {
		t.Errorf("with a line in /etc/hosts: %s", r.out)
	}
	c.must(t, "exec", "hops-forgotten-1", "sh", "-c", "echo nameserver "+outsideAddr+" >/etc/resolv.conf")
	if e, r := hops(t, "forgotten", "app:5000"); e.Broken() == nil || e.Broken().Hop != "name" || !strings.Contains(r.out, "not Muelle's at 127.0.0.11") {
		t.Errorf("with another resolv.conf: %s", r.out)
	}
	c.must(t, "exec", "hops-alone-1", "sh", "-c", "rm -f /etc/hosts; umount /etc/hosts 2>/dev/null; mkfifo /tmp/p; true")
	if r := c.try(t, "explain", "no-such-one", "hops/app"); r.code != 1 || !strings.Contains(r.err, "No such container: no-such-one") {
		t.Errorf("got %+v", r)
	}
	if r := c.try(t, "explain", "hops/cliente", "hops/app:99999"); r.code != 1 || !strings.Contains(r.err, "99999 is not a port") {
		t.Errorf("got %+v", r)
	}
}

// Plain containers, on the default bridge, where there are no names.
func TestExplainDefaultBridge(t *testing.T) {
	c := ours(world.daemon)
	server, client := c.unique(t, "server"), c.unique(t, "client")
	for _, name := range []string{server, client} {
		c.must(t, "run", "-d", "--name", name, "busybox", "httpd", "-f", "-p", "80", "-h", "/")
		c.remove(t, name)
	}
	r := c.try(t, "explain", client, server+":80")
	for _, w := range []string{"✗ name", "on the default bridge containers have no names", "muelle network connect NET " + client, client + " does not reach " + server + ":80."} {
		if !strings.Contains(r.out, w) {
			t.Errorf("%q is missing in\n%s", w, r.out)
		}
	}
	if r.code != 1 || strings.Contains(r.out, "\x1b") {
		t.Errorf("exit status %d, %q", r.code, r.out)
	}
	address := c.must(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", server)
	if r := c.try(t, "explain", client, address+":80"); r.code != 0 || !strings.Contains(r.out, "✓ answer") {
		t.Errorf("by address: %+v", r)
	}
}
