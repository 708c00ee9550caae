//go:build root

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// answers counts who answers n questions.
func answers(url string, n int) map[string]int {
	got := map[string]int{}
	for range n {
		text, err := get(url)
		if err != nil {
			text = err.Error()
		}
		got[text]++
	}
	return got
}

// evenly waits until 3n questions are answered by n replicas, three each.
func evenly(t *testing.T, url string, n int) {
	t.Helper()
	var got map[string]int
	if err := eventually(20*time.Second, func() error {
		got = answers(url, 3*n)
		for _, count := range got {
			if len(got) != n || count != 3 {
				return fmt.Errorf("answers: %v", got)
			}
		}
		return nil
	}); err != nil {
		t.Errorf("%s, %d replicas: %v", url, n, err)
	}
}

const shop = `
services:
  web:
    image: busybox
    command: sh -c "mkdir -p /www && hostname >/www/index.html && httpd -p 80 -h /www && touch /ready && exec sleep 1000"
    ports: ["18400:80"]
    stop_signal: KILL
    deploy: {replicas: 2}
    healthcheck: {test: ["CMD", "test", "-e", "/ready", "-a", "!", "-e", "/sick"], interval: 100ms, retries: 1, start_period: 1m, start_interval: 100ms}
`

// TestReplicasShareAPort: one port of the host for all replicas of a service, by both
// families; the sick and the leaving get nothing new; it needs no daemon to go on.
//
//muelle:ring
func TestReplicasShareAPort(t *testing.T) {
	d := own(t)
	c := ours(d)
	file := filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(file, []byte(shop), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) string {
		t.Helper()
		return c.must(t, append([]string{"compose", "-p", "shop", "-f", file}, args...)...)
	}
	const here = "http://127.0.0.1:18400"
	compose("up", "-d", "--wait")
	t.Cleanup(func() { compose("down", "-t", "1") })
	evenly(t, here, 2)
	compose("up", "-d", "--wait", "--scale", "web=3")
	evenly(t, here, 3)
	evenly(t, "http://[::1]:18400", 3)
	if err := outside(func() error {
		if got := answers("http://"+hostAddr+":18400", 9); len(got) != 3 {
			return fmt.Errorf("answers to the outside: %v", got)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if got := c.must(t, "ps", "--format", "{{.Ports}}"); strings.Count(got, "0.0.0.0:18400->80/tcp, [::]:18400->80/tcp") != 3 {
		t.Errorf("ps: %q", got)
	}
	if r := c.try(t, "run", "--rm", "-p", "18400:80", "busybox", "true"); r.code != 125 || !strings.Contains(r.err, "port is already allocated (by container shop-web-") {
		t.Errorf("somebody else's: %+v", r)
	}

	c.must(t, "exec", "shop-web-2", "touch", "/sick")
	evenly(t, here, 2)
	c.must(t, "exec", "shop-web-2", "rm", "/sick")
	evenly(t, here, 3)
	c.must(t, "pause", "shop-web-2")
	evenly(t, here, 2)
	c.must(t, "unpause", "shop-web-2")
	evenly(t, here, 3)

	d.kill(t)
	evenly(t, here, 3)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	evenly(t, here, 3)

	// Ends of replicas cost at most what was on its way to them.
	var failed, asked atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := get(here); err != nil {
				failed.Add(1)
			}
			asked.Add(1)
		}
	}()
	compose("scale", "web=1")
	compose("scale", "web=2")
	evenly(t, here, 2)
	cancel()
	<-done
	if failed.Load() > 2 {
		t.Errorf("%d of %d questions failed while two replicas ended", failed.Load(), asked.Load())
	}
	// The first replica's shim, which bound the port, is gone by now or goes here.
	c.must(t, "rm", "-f", "shop-web-1")
	evenly(t, here, 1)
	evenly(t, "http://[::1]:18400", 1)

	// One that ends while no daemon is there leaves no hole.
	compose("up", "-d", "--wait", "--scale", "web=3")
	evenly(t, here, 3)
	pid, err := strconv.Atoi(c.must(t, "inspect", "-f", "{{.State.Pid}}", "shop-web-3"))
	if err != nil {
		t.Fatal(err)
	}
	d.kill(t)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := eventually(30*time.Second, func() error {
		got := answers(here, 6)
		for text := range got {
			if len(got) != 2 || len(text) != 12 { // else an error's
				return fmt.Errorf("answers: %v", got)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	evenly(t, here, 2)
}

// TestReplicasOfDockerCompose: what shares a port is told by Docker Compose's labels.
func TestReplicasOfDockerCompose(t *testing.T) {
	path, err := exec.LookPath("docker-compose")
	if err != nil {
		t.Fatal("docker-compose must be on the PATH: make deps installs it")
	}
	file := filepath.Join(t.TempDir(), "compose.yaml")
	text := "version: '2.4'\nservices:\n  web:\n    image: busybox\n    command: sh -c \"mkdir -p /www && hostname >/www/index.html && exec httpd -f -p 80 -h /www\"\n    ports: ['18401:80']\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := client{"docker-compose", path, world.daemon}
	run := func(args ...string) {
		t.Helper()
		if r := compose.try(t, append([]string{"-p", "shop1", "-f", file}, args...)...); r.code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	t.Cleanup(func() { run("down", "-t", "1") })
	run("up", "-d", "--scale", "web=2")
	evenly(t, "http://127.0.0.1:18401", 2)
}

// TestPublishedIPv6: other machines and the host reach a container without IPv6 by it;
// the relay answers from the address that was asked.
func TestPublishedIPv6(t *testing.T) {
	const here, second, there = "2001:db8:18::1", "2001:db8:18::3", "2001:db8:18::2"
	for _, address := range []string{here, second} {
		addAddress(t, "uplink", address+"/64")
	}
	addAddressOutside(t, "lan", there+"/64")
	c := ours(world.daemon)
	web, udp := c.unique(t, "web"), c.unique(t, "udp")
	c.must(t, append([]string{"run", "-d", "--name", web, "-p", "18402:80", "-p", "[" + here + "]:18403:80"}, httpd...)...)
	c.remove(t, web)
	c.must(t, "run", "-d", "--name", udp, "-v", world.echo+":/echo:ro", "-p", "18054:7777/udp", "busybox", "/echo", "7777")
	c.remove(t, udp)
	want := fmt.Sprintf("80/tcp -> 0.0.0.0:18402\n80/tcp -> [%s]:18403\n80/tcp -> [::]:18402", here)
	if got := c.must(t, "port", web); got != want {
		t.Errorf("port: %q", got)
	}
	if err := eventually(20*time.Second, func() error { _, err := get("http://127.0.0.1:18402"); return err }); err != nil {
		t.Fatal(err)
	}
	check := func() error {
		for _, address := range []string{here, second} {
			if body, err := get("http://" + net.JoinHostPort(address, "18402")); err != nil || body != "hello" {
				return fmt.Errorf("%s: %q, %w", address, body, err)
			}
			if err := eventually(20*time.Second, func() error { return echoes("udp6", "", net.JoinHostPort(address, "18054"), time.Second) }); err != nil {
				return fmt.Errorf("UDP of %s: %w", address, err)
			}
		}
		if body, err := get("http://" + net.JoinHostPort(here, "18403")); err != nil || body != "hello" {
			return fmt.Errorf("the port of one address: %q, %w", body, err)
		}
		if _, err := get("http://" + net.JoinHostPort(second, "18403")); err == nil {
			return fmt.Errorf("a port of %s answers at %s", here, second)
		}
		return nil
	}
	if err := check(); err != nil {
		t.Errorf("from the host: %v", err)
	}
	if err := outside(check); err != nil {
		t.Errorf("from outside: %v", err)
	}
}

// TestPublishedSCTP: where the kernel speaks no SCTP, which TestSCTP needs, the error says
// so and nothing is left.
func TestPublishedSCTP(t *testing.T) {
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP); err == nil {
		unix.Close(fd)
		return
	}
	c := ours(world.daemon)
	name := c.unique(t, "c")
	r := c.try(t, "run", "-d", "--name", name, "-p", "18498:80/sctp", "busybox", "sleep", "1000")
	c.remove(t, name)
	if r.code != 125 || !strings.Contains(r.err, "host port 0.0.0.0:18498/sctp cannot be reserved: this kernel does not speak SCTP") {
		t.Errorf("got %+v", r)
	}
}
