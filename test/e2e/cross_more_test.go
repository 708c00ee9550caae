//go:build root

package e2e

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"muelle/internal/linux/netns"
	"muelle/internal/network/frametest"
)

// TestCrossingByHelpers: what a container says inside a connection opens no port of it.
// Helpers of connection tracking read that; no rule of ours assigns one.
func TestCrossingByHelpers(t *testing.T) {
	x := newCrossing(t)
	if out, err := exec.Command("nft", "list", "ruleset").CombinedOutput(); err != nil || strings.Contains(string(out), "ct helper") {
		t.Errorf("%v: a helper is assigned:\n%s", err, out)
	}
	var lan *frametest.Wire
	var ftp net.Listener
	if err := outside(func() (err error) {
		if lan, err = frametest.Open("lan"); err == nil {
			ftp, err = net.Listen("tcp", outsideAddr+":21")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer lan.Close()
	defer ftp.Close()
	// It offers its port 7000 by FTP and waits for blocks of TFTP at 7001.
	var talk net.Conn
	if err := netns.Do(x.victim.ns, func() (err error) {
		if talk, err = net.Dial("tcp", outsideAddr+":21"); err != nil {
			return err
		}
		tftp, err := net.DialUDP("udp", &net.UDPAddr{Port: 7001}, &net.UDPAddr{IP: net.ParseIP(outsideAddr), Port: 69})
		if err != nil {
			return err
		}
		defer tftp.Close()
		_, err = tftp.Write([]byte("\x00\x01file\x00octet\x00"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer talk.Close()
	server, err := ftp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	command := "PORT " + strings.ReplaceAll(x.victim.ip, ".", ",") + ",27,88\r\n"
	if _, err := talk.Write([]byte(command)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	host := wire(t, nil, "uplink")
	syn := func(to string) func(string) [][]byte {
		return func(s string) [][]byte {
			b := append([]byte{0, 20, 0x1b, 0x58}, make([]byte, 16)...)
			b[12], b[13] = 0x50, 2
			return [][]byte{frametest.Ethernet(host.MAC, lan.MAC, 0x800, frametest.IPv4(outsideAddr, to, 6, nil, append(b, s...)))}
		}
	}
	block := func(to string) func(string) [][]byte {
		return func(s string) [][]byte {
			return [][]byte{frametest.Ethernet(host.MAC, lan.MAC, 0x800, frametest.IPv4(outsideAddr, to, 17, nil, frametest.UDP(1069, 7001, s)))}
		}
	}
	x.hold(t, []way{
		{"FTP to the container", syn(x.victim.ip)}, {"FTP to the host", syn(hostAddr)},
		{"TFTP to the container", block(x.victim.ip)}, {"TFTP to the host", block(hostAddr)},
	}, func(frames [][]byte) {
		for _, f := range frames {
			if err := lan.Send(f); err != nil {
				t.Fatal(err)
			}
		}
	}, func(port uint16, text string) []byte {
		return frametest.Ethernet(host.MAC, lan.MAC, 0x800, frametest.IPv4(outsideAddr, hostAddr, 17, nil, frametest.UDP(port, x.open, text)))
	})
}

// tracked reads a number of the kernel's connection tracking.
func tracked(t *testing.T, name string) int {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_" + name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestConnectionFlood: a container that fills the table of connections with questions
// that nobody answers does not shut out others: those are the first that the kernel
// forgets.
func TestConnectionFlood(t *testing.T) {
	x := newCrossing(t, privileges["NET_ADMIN and NET_RAW"]...)
	t.Cleanup(func() {
		if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			t.Error(err)
		}
	})
	lasting, err := net.Dial("udp", net.JoinHostPort(hostAddr, strconv.Itoa(int(x.open))))
	if err != nil {
		t.Fatal(err)
	}
	defer lasting.Close()
	if err := repeated(lasting, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	limit := tracked(t, "max")
	frame := frametest.Ethernet(x.bridge(t, x.bad), x.bad.mac, 0x800, frametest.IPv4(x.bad.ip, outsideAddr, 17, nil, frametest.UDP(1, 2, "flood")))
	x.c.must(t, "exec", x.bad.name, "/echo", "flood", "eth0", base64.StdEncoding.EncodeToString(frame), strconv.Itoa(limit+limit/16))
	if got := tracked(t, "count"); got < limit/10*9 {
		t.Fatalf("%d of %d connections: this is no flood", got, limit)
	}
	for n := range 20 {
		if err := repeated(lasting, 5*time.Second); err != nil {
			t.Fatalf("a connection that was there before: %v", err)
		}
		if err := outside(func() error {
			return echoes("udp", "", net.JoinHostPort(hostAddr, strconv.Itoa(int(x.open))), 5*time.Second)
		}); err != nil {
			t.Errorf("connection %d from outside: %v", n, err)
		}
		if err := netns.Do(x.second.ns, func() error {
			c, err := net.DialTimeout("tcp", outsideAddr+":53", 5*time.Second)
			if err == nil {
				err = c.Close()
			}
			return err
		}); err != nil {
			t.Errorf("connection %d of another container: %v", n, err)
		}
	}
}

// TestInterfacesTurned: a container does with its interface what it likes, and stays the
// only one who has anything of it; the engine can take it off the network, put it back,
// and remove it.
func TestInterfacesTurned(t *testing.T) {
	subnet := 0
	for name, script := range map[string]string{
		"other hardware address": "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77; ip link set eth0 up; ip addr add 10.66.0.9/24 dev eth0; ip route add default via 10.66.0.1",
		"bridge of its own":      "brctl addbr br0; brctl addif br0 eth0; ip addr flush dev eth0; ip link set br0 address 02:00:00:00:00:77; ip link set br0 up; ip addr add 10.66.0.9/24 dev br0",
		"interface upon it":      "ip addr flush dev eth0; ip link add link eth0 name mv0 address 02:00:00:00:00:77 type macvlan; ip addr add 10.66.0.9/24 dev mv0; ip link set mv0 up",
		"renamed":                "ip link set eth0 down; ip link set eth0 name wlan0; ip addr flush dev wlan0; ip addr add 10.66.0.10/24 dev wlan0; ip link set wlan0 up",
		"removed":                "ip link del eth0",
		"moved":                  "unshare -n sleep 600 & while [ $(readlink /proc/$!/ns/net) = $(readlink /proc/self/ns/net) ]; do usleep 10000; done; ip link set eth0 netns $!",
	} {
		subnet++
		at := fmt.Sprintf("10.66.%d.", subnet)
		script := strings.ReplaceAll(script, "10.66.0.", at)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, net := ours(world.daemon), strings.ReplaceAll(name, " ", "-")
			c.must(t, "network", "create", "--subnet", at+"0/24", net)
			t.Cleanup(func() { c.must(t, "network", "rm", net) })
			bad, friend := c.unique(t, "bad"), c.unique(t, "friend")
			options := []string{"--cap-add", "NET_ADMIN"}
			if name == "moved" {
				options = []string{"--privileged"}
			}
			c.must(t, append(append([]string{"run", "-d", "--name", bad, "--network", net, "--ip", at + "9"}, options...), "busybox", "sleep", "600")...)
			c.remove(t, bad)
			c.must(t, "run", "-d", "--name", friend, "--network", net, "--ip", at+"20", "busybox", "sleep", "600")
			c.remove(t, friend)
			ping := func(from, to string) int { return c.try(t, "exec", from, "ping", "-c", "1", "-W", "1", to).code }
			reach := func(from, to, when string) {
				t.Helper()
				if err := eventually(30*time.Second, func() error {
					if r := c.try(t, "exec", from, "ping", "-c", "1", "-W", "1", to); r.code != 0 {
						return fmt.Errorf("%+v", r)
					}
					return nil
				}); err != nil {
					t.Errorf("%s: %v\n%s", when, err, c.try(t, "exec", bad, "ip", "addr").out)
				}
			}
			reach(bad, at+"20", "at first")
			c.must(t, "exec", bad, "sh", "-c", script)
			if ping(bad, at+"20") == 0 || ping(bad, at+"1") == 0 {
				t.Error("it is heard with what it was not given")
			}
			c.must(t, "network", "disconnect", net, bad)
			c.must(t, "network", "connect", "--ip", at+"9", net, bad)
			if name == "bridge of its own" || name == "interface upon it" {
				c.must(t, "exec", bad, "sh", "-c", "ip link del br0 2>/dev/null; ip link del mv0 2>/dev/null; true")
			}
			reach(friend, at+"9", "connected again")
			c.must(t, "restart", "-t", "0", bad)
			reach(friend, at+"9", "after a restart")
		})
	}
}
