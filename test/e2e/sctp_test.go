//go:build root && vm

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// whoBy asks the echo program by SCTP for its name and who it takes the caller for.
func whoBy(from, to string) (string, error) {
	conn, err := associate(from, to, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("who")); err != nil {
		return "", err
	}
	buf := make([]byte, 200)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// TestSCTP: a published port of SCTP is reached by both families, from this host and from
// others, translated or relayed, and held against other programs.
//
//muelle:ring
func TestSCTP(t *testing.T) {
	const here, there = "2001:db8:18::1", "2001:db8:18::2"
	addAddress(t, "uplink", here+"/64")
	addAddressOutside(t, "lan", there+"/64")
	d := own(t)
	c := ours(d)
	const plain, both = "plain", "both"
	serve := func(c client, name string, args ...string) {
		t.Helper()
		c.must(t, slices.Concat([]string{"run", "-d", "--name", name, "-h", name, "-v", world.echo + ":/echo:ro"}, args, []string{"busybox", "/echo", "sctp", "80", "40"})...)
	}
	serve(c, plain, "-p", "18300:80/sctp", "-p", "[::1]:18311:80/sctp", "-p", "["+here+"]:18312:80/sctp")
	c.must(t, "network", "create", "--ipv6", "six")
	docker := clients(t, d)[0]
	serve(docker, both, "--network", "six", "-p", "18301:80/sctp", "-p", "127.0.0.1:18314:80/sctp", "-p", "[::1]:18321-18323:80/sctp", "-p", "[::1]:18324-18325:80-81/sctp")
	t.Cleanup(func() {
		c.must(t, "rm", "-f", both)
		c.must(t, "network", "rm", "six")
	})
	gateway := c.must(t, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", plain)
	for _, tc := range []struct {
		outside  bool
		to, want string
	}{
		{false, "127.0.0.1:18300", "plain " + gateway},
		{false, hostAddr + ":18300", ""},
		{true, hostAddr + ":18300", "plain " + outsideAddr},
		{false, "127.0.0.1:18301", ""},
		{false, "[" + here + "]:18301", ""},
		{true, "[" + here + "]:18301", "both " + there},
		{true, hostAddr + ":18301", ""},
	} {
		place := func(f func() error) error { return f() }
		if tc.outside {
			place = outside
		}
		var got string
		err := eventually(20*time.Second, func() error {
			return place(func() (err error) { got, err = whoBy("", tc.to); return err })
		})
		if err != nil || tc.want != "" && got != tc.want {
			t.Errorf("%+v: %q, %v", tc, got, err)
		}
	}
	for name, want := range map[string]string{
		plain: "80/sctp -> 0.0.0.0:18300\n80/sctp -> [" + here + "]:18312\n80/sctp -> [::1]:18311\n80/sctp -> [::]:18300",
		both:  "80/sctp -> 0.0.0.0:18301\n80/sctp -> 127.0.0.1:18314\n80/sctp -> [::1]:18321\n80/sctp -> [::1]:18324\n80/sctp -> [::]:18301\n81/sctp -> [::1]:18325",
	} {
		if got := docker.must(t, "port", name); got != want {
			t.Errorf("port %s: %q, want %q", name, got, want)
		}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: 18302})
	}
	if err == nil {
		err = unix.Listen(fd, 5)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ publish, want string }{
		{"18300:80/sctp", "Bind for 0.0.0.0:18300 failed: port is already allocated (by container " + plain + ")"},
		{"18302:80/sctp", "address already in use (by process exe (pid "},
	} {
		if r := c.try(t, "run", "--rm", "-p", tc.publish, "busybox", "true"); r.code != 125 || !strings.Contains(r.err, tc.want) {
			t.Errorf("-p %s: %+v, want %q", tc.publish, r, tc.want)
		}
	}
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"explain", "host", "host:18300/sctp"}, 0, "host reaches host:18300/sctp"},
		{[]string{"explain", "host", "host:18304/sctp"}, 1, "18304/sctp"},
		{[]string{"explain", plain, "localhost:80/sctp"}, 0, "echo (pid "},
		{[]string{"exposure"}, 0, "0.0.0.0:18300/sctp"},
		{[]string{"exposure"}, 0, "[::]:18300/sctp"},
		{[]string{"inspect", "--kernel", plain}, 0, "sctp . 18300"},
	} {
		if r := c.try(t, tc.args...); r.code != tc.code || !strings.Contains(r.out+r.err, tc.want) {
			t.Errorf("%v: %+v, want %q", tc.args, r, tc.want)
		}
	}
	relaysSCTP(t, c, d, here) // and removes plain
	if err := eventually(20*time.Second, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Bind(fd, &unix.SockaddrInet4{Port: 18300})
	}); err != nil {
		t.Errorf("the port of a removed container: %v", err)
	}
}

// TestReplicasOfSCTP shares a port of SCTP among replicas in a zone; by hand, by
// MUELLE_VM_RUN.
func TestReplicasOfSCTP(t *testing.T) {
	c := ours(world.daemon)
	file := filepath.Join(t.TempDir(), "compose.yaml")
	text := fmt.Sprintf("services:\n  web:\n    image: busybox\n    command: [/echo, sctp, '80']\n    volumes: ['%s:/echo:ro']\n    ports: ['18303:80/sctp']\n    stop_signal: KILL\n    deploy: {replicas: 2}\n"+
		"networks: {default: {x-zone: {publish: lan}}}\nx-expect: ['host -> web:80/sctp', 'lan -> web:80/sctp', 'internet !-> web:80/sctp']\n", world.echo)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c.must(t, "compose", "-p", "sctpshop", "-f", file, "up", "-d")
	t.Cleanup(func() { c.must(t, "compose", "-p", "sctpshop", "-f", file, "down", "-t", "1") })
	if err := eventually(30*time.Second, func() error {
		got := map[string]int{}
		for range 6 {
			text, err := whoBy("", "127.0.0.1:18303")
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(text, " ")
			got[name]++
		}
		for _, n := range got {
			if n != 3 {
				return fmt.Errorf("answers: %v", got)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if r := c.try(t, "zones", "--verify", "sctpshop"); r.code != 0 || !strings.Contains(r.out, "80/sctp") {
		t.Errorf("zones: %+v", r)
	}
}
