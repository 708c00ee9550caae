//go:build root

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The daemon is killed as soon as a changed zone is on disk, most often before the ports
// of the running container have followed it: with the next daemon the kernel has what the
// document says, from inside, from this host and from the LAN.
func TestZoneChangeCutOff(t *testing.T) {
	d := own(t)
	c := ours(d)
	near.settle(t)
	file := filepath.Join(t.TempDir(), "compose.yaml")
	const text = `
services:
  web: {image: busybox, volumes: ['ECHO:/echo'], stop_grace_period: 0s, command: [/echo, '7200'], networks: [alpha, beta], ports: ['17200:7200']}
networks:
  alpha: {x-zone: {publish: ALPHA}}
  beta: {x-zone: {publish: BETA}}
`
	write := func(alpha, beta string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.NewReplacer("ECHO", world.echo, "ALPHA", alpha, "BETA", beta).Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("any", "any")
	c.must(t, "compose", "-p", "shop", "-f", file, "up", "-d")
	t.Cleanup(func() { c.must(t, "compose", "-p", "shop", "-f", file, "down") })
	listening(t, c, 1)
	id := c.must(t, "ps", "-q", "--no-trunc")
	record := filepath.Join(d.dir, "data", "networks", c.must(t, "network", "inspect", "-f", "{{.ID}}", "shop_alpha")+".json")
	for _, alpha := range []string{"none", "lan", "host"} {
		write(alpha, "any")
		up := c.command(t.Context(), "compose", "-p", "shop", "-f", file, "up", "-d")
		if err := up.Start(); err != nil {
			t.Fatal(err)
		}
		want := []byte(fmt.Sprintf("zone.publish\":%q", alpha))
		for end := time.Now().Add(10 * time.Second); ; {
			data, err := os.ReadFile(record)
			if err == nil && bytes.Contains(bytes.ReplaceAll(data, []byte(" "), nil), want) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %v: %s", record, err, data)
			}
		}
		d.kill(t)
		_ = up.Wait() // it may have been quicker
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
		if now := c.must(t, "ps", "-q", "--no-trunc"); now != id {
			t.Fatalf("%s: the container was made anew", alpha)
		}
		near.hold(t, c, 0)
		for _, at := range []string{near[0].host + ":17200", "[" + near[1].host + "]:17200"} {
			source, open := near[0].lan, alpha != "host"
			if at[0] == '[' {
				source = near[1].lan
			}
			if err := outside(func() error { return echoesFrom("tcp", source, at, open) }); (err == nil) != open {
				t.Errorf("%s: the LAN asks %s: %v", alpha, at, err)
			}
		}
		for _, at := range []string{"127.0.0.1:17200", "[::1]:17200"} {
			if err := echoesFrom("tcp", "", at, true); err != nil {
				t.Errorf("%s: this host asks %s: %v", alpha, at, err)
			}
		}
		c.must(t, "compose", "-p", "shop", "-f", file, "up", "-d") // and the rest of it
	}
}
