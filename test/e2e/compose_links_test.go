//go:build root

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestComposeLinks: an alias of a link is known to the service that has it only, on the
// networks that it shares with the other, and means all replicas of that one; the same by
// the attribute for containers outside of the project. docker-compose asks for an alias of
// one container instead.
func TestComposeLinks(t *testing.T) {
	standalone, err := exec.LookPath("docker-compose")
	if err != nil {
		t.Fatal("docker-compose must be on the PATH: make deps installs it")
	}
	c := ours(world.daemon)
	old := c.unique(t, "old")
	c.must(t, "run", "-d", "--name", old, "busybox", "sleep", "1000")
	c.remove(t, old)
	for _, compose := range []client{{"muelle", c.path, world.daemon}, {"docker-compose", standalone, world.daemon}} {
		t.Run(compose.name, func(t *testing.T) {
			project := "links" + strings.ReplaceAll(compose.name, "-", "")
			file := filepath.Join(t.TempDir(), "compose.yaml")
			text := `version: "2.4"
services:
  web: {image: busybox, command: sleep 1000, links: ["db:database"], external_links: ["` + old + `:cache"], networks: [front]}
  other: {image: busybox, command: sleep 1000, networks: [front]}
  db: {image: busybox, command: sleep 1000, networks: [front], scale: 2}
networks: {front: {}}
`
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) {
				t.Helper()
				head := []string{"-p", project, "-f", file}
				if compose.name == "muelle" {
					head = append([]string{"compose"}, head...)
				}
				if r := compose.try(t, append(head, args...)...); r.code != 0 {
					t.Fatalf("%v: %+v", args, r)
				}
			}
			t.Cleanup(func() {
				c.try(t, "network", "disconnect", "-f", project+"_front", old)
				run("down", "-t", "0")
			})
			separator := "-"
			if compose.name != "muelle" {
				separator = "_"
			}
			run("up", "-d")
			c.must(t, "network", "connect", project+"_front", old)
			web, other := strings.Join([]string{project, "web", "1"}, separator), strings.Join([]string{project, "other", "1"}, separator)
			known := func(in, name string, addresses int) {
				t.Helper()
				r := c.try(t, "exec", in, "nslookup", "-type=a", name, "127.0.0.11")
				if got := strings.Count(r.out, "Address: 1"); got != addresses {
					t.Errorf("%s in %s has %d addresses, not %d: %+v", name, in, got, addresses, r)
				}
			}
			known(web, "database", map[string]int{"muelle": 2, "docker-compose": 1}[compose.name])
			known(web, "cache", 1)
			known(other, "database", 0)
			known(other, "db", 2)
			if compose.name == "muelle" {
				run("up", "-d", "--scale", "db=3")
				known(web, "database", 3)
			}
		})
	}
}

// On the default bridge, links are lines in /etc/hosts: those of a container of run too.
func TestComposeRunWithOldLinks(t *testing.T) {
	c := ours(world.daemon)
	old := c.unique(t, "old")
	c.must(t, "run", "-d", "--name", old, "--network", "bridge", "busybox", "sleep", "1000")
	c.remove(t, old)
	file := filepath.Join(t.TempDir(), "compose.yaml")
	text := `name: oldlinks
services:
  web: {image: busybox, network_mode: bridge, links: ["db:database"], external_links: ["` + old + `:cache"]}
  db: {image: busybox, network_mode: bridge, init: true, command: sleep 1000}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) string {
		t.Helper()
		return c.must(t, append([]string{"compose", "-f", file}, args...)...)
	}
	t.Cleanup(func() { compose("down", "-t", "0") })
	hosts := compose("run", "--rm", "-T", "web", "cat", "/etc/hosts")
	for name, container := range map[string]string{"database": "oldlinks-db-1", "cache": old} {
		address := c.must(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", container)
		if !strings.Contains(hosts, address+"\t"+name+" ") {
			t.Errorf("%s is not %s:\n%s", name, address, hosts)
		}
	}
	compose("down", "-t", "0")
	if hosts := compose("run", "--rm", "-T", "--no-deps", "web", "cat", "/etc/hosts"); strings.Contains(hosts, "database") || !strings.Contains(hosts, "cache") {
		t.Errorf("without its dependencies:\n%s", hosts)
	}
}
