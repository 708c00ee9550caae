//go:build root

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"muelle/internal/linux/netns"
	"muelle/internal/network/frametest"
)

// crossing is an attacker on one network and a victim on another, both with IPv6, with a
// friend each. The victim has a port that everybody may reach and one on 127.0.0.1.
type crossing struct {
	c                           client
	front, back                 string
	bad, friend, victim, second party
	// Ports of the victim.
	open, local uint16
}

// party is a container on one network.
type party struct {
	name, ip, ip6, gateway, gateway6 string
	mac                              net.HardwareAddr
	ns                               *os.File
}

// portOfCrossing is the first of two for each crossing of this run.
var portOfCrossing = uint16(18700)

func newCrossing(t *testing.T, privileges ...string) *crossing {
	t.Helper()
	x := &crossing{c: ours(world.daemon), open: portOfCrossing, local: portOfCrossing + 1}
	portOfCrossing += 2
	x.front, x.back = x.c.unique(t, "front"), x.c.unique(t, "back")
	for _, n := range []string{x.front, x.back} {
		x.c.must(t, "network", "create", "--ipv6", n)
		t.Cleanup(func() { x.c.must(t, "network", "rm", n) })
	}
	x.bad = x.join(t, "bad", x.front, privileges...)
	x.friend = x.join(t, "friend", x.front)
	x.victim = x.join(t, "victim", x.back, "-p", fmt.Sprintf("%d:7000/udp", x.open), "-p", fmt.Sprintf("127.0.0.1:%d:7000/udp", x.local))
	x.second = x.join(t, "second", x.back)
	// The host knows both: what would arrive arrives in the order in which it was sent.
	for _, a := range []string{x.victim.ip, x.victim.ip6} {
		if err := eventually(20*time.Second, func() error { return echoes("udp", "", net.JoinHostPort(a, "7000"), time.Second) }); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func (x *crossing) join(t *testing.T, who, network string, options ...string) party {
	t.Helper()
	p := party{name: x.c.unique(t, who)}
	args := append([]string{"run", "-d", "--name", p.name, "--network", network, "-v", world.echo + ":/echo:ro"}, options...)
	x.c.must(t, append(args, "busybox", "/echo", "7000")...)
	x.c.remove(t, p.name)
	var c struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress, GlobalIPv6Address, Gateway, IPv6Gateway, MacAddress string }
		}
	}
	if err := json.Unmarshal([]byte(x.c.must(t, "inspect", "-f", "{{json .}}", p.name)), &c); err != nil {
		t.Fatal(err)
	}
	e := c.NetworkSettings.Networks[network]
	p.ip, p.ip6, p.gateway, p.gateway6 = e.IPAddress, e.GlobalIPv6Address, e.Gateway, e.IPv6Gateway
	var err error
	if p.mac, err = net.ParseMAC(e.MacAddress); err != nil {
		t.Fatal(err)
	}
	if p.ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", c.State.Pid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.ns.Close() })
	return p
}

// wire opens a raw socket in a container's network namespace, nil: the host's.
func wire(t *testing.T, ns *os.File, name string) *frametest.Wire {
	t.Helper()
	var w *frametest.Wire
	open := func() (err error) { w, err = frametest.Open(name); return err }
	err := error(nil)
	if ns == nil {
		err = open()
	} else {
		err = netns.Do(ns, open)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// send lets the attacker's own program send frames.
func (x *crossing) send(t *testing.T, frames ...[]byte) {
	t.Helper()
	lines := ""
	for _, f := range frames {
		lines += base64.StdEncoding.EncodeToString(f) + "\n"
	}
	if r := x.c.pipe(t, []byte(lines), "exec", "-i", x.bad.name, "/echo", "raw", "eth0"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
}

// bridge gives the hardware address of a network's bridge.
func (x *crossing) bridge(t *testing.T, of party) net.HardwareAddr {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && n.IP.String() == of.gateway {
				return i.HardwareAddr
			}
		}
	}
	t.Fatalf("nobody has %s", of.gateway)
	return nil
}

func localAddress(m net.HardwareAddr) string {
	return fmt.Sprintf("fe80::%x:%xff:fe%02x:%02x%02x", int(m[0]^2)<<8|int(m[1]), m[2], m[3], m[4], m[5])
}

// privileges are what an attacker may have. What is more makes it the host's root.
var privileges = map[string][]string{
	"NET_ADMIN and NET_RAW": {"--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"},
	"privileged":            {"--privileged"},
}

// TestCrossingOnOneNetwork: what a container may not send to its neighbours.
func TestCrossingOnOneNetwork(t *testing.T) {
	for name, options := range privileges {
		t.Run(name, func(t *testing.T) {
			x := newCrossing(t, options...)
			a := &frametest.Attack{
				MAC: x.bad.mac, Victim: x.friend.mac, Own4: x.bad.ip, Own6: x.bad.ip6, Local6: localAddress(x.bad.mac),
				Victim4: x.friend.ip, Victim6: x.friend.ip6, Gateway4: x.bad.gateway, Gateway6: x.bad.gateway6,
			}
			friend := wire(t, x.friend.ns, "eth0")
			var frames [][]byte
			mark := func(i int) (string, string) {
				return fmt.Sprintf("crossing-%02d-", i), fmt.Sprintf("landmark-%02d-", i)
			}
			for i, c := range frametest.Crossings {
				text, last := mark(i)
				frames = append(frames, c.Frame(a, text), frametest.Ethernet(a.Victim, a.MAC, 0x800, frametest.IPv4(a.Own4, a.Victim4, 17, nil, frametest.UDP(1, 2, last))))
			}
			x.send(t, frames...)
			for i, c := range frametest.Crossings {
				text, last := mark(i)
				if seen, err := friend.Sees(text, last); err != nil || seen != c.Legal {
					t.Errorf("%s: arrives %t, want %t (%v)", c.Name, seen, c.Legal, err)
				}
			}
			x.fragmentedAdvertisement(t, a, friend)
		})
	}
}

// fragmentedAdvertisement hides a router's advertisement in the second fragment, where
// no filter of frames can see it: nobody heeds it (RFC 6980).
func (x *crossing) fragmentedAdvertisement(t *testing.T, a *frametest.Attack, friend *frametest.Wire) {
	t.Helper()
	routes := func() string { return x.c.must(t, "exec", x.friend.name, "ip", "-6", "route") }
	before := routes()
	ra := frametest.ICMPv6(a.Local6, "ff02::1", 134, []byte{0, 0, 0, 0, 0, 0, 0, 0})
	ra[4], ra[6], ra[7] = 64, 0x70, 8 // hop limit and lifetime
	ra[2], ra[3] = 0, 0
	pseudo := append(append(append([]byte{}, frametest.Addr(a.Local6)...), frametest.Addr("ff02::1")...), 0, 0, 0, byte(len(ra)), 0, 0, 0, 58)
	sum := frametest.Checksum(append(pseudo, ra...))
	ra[2], ra[3] = byte(sum>>8), byte(sum)
	all := []byte{0x33, 0x33, 0, 0, 0, 1}
	x.send(t,
		frametest.Ethernet(all, a.MAC, 0x86dd, frametest.IPv6(a.Local6, "ff02::1", 44, []byte{60, 0, 0, 1, 0, 0, 0, 7, 58, 0, 1, 4, 0, 0, 0, 0})),
		frametest.Ethernet(all, a.MAC, 0x86dd, frametest.IPv6(a.Local6, "ff02::1", 44, append([]byte{60, 0, 0, 8, 0, 0, 0, 7}, ra...))),
		frametest.Ethernet(a.Victim, a.MAC, 0x800, frametest.IPv4(a.Own4, a.Victim4, 17, nil, frametest.UDP(1, 2, "landmark-ra"))),
	)
	if _, err := friend.Sees("-", "landmark-ra"); err != nil {
		t.Fatal(err)
	}
	if after := routes(); after != before {
		t.Errorf("an advertisement in fragments makes routes:\n%s\nbefore:\n%s", after, before)
	}
}

// way is what somebody sends who wants to reach the victim.
type way struct {
	name   string
	frames func(text string) [][]byte
}

// fragments are a datagram in two pieces, the second one at the given eighth.
func fragments(src, dst string, datagram []byte, cut, eighth int) [][]byte {
	first := frametest.IPv4(src, dst, 17, nil, datagram[:cut])
	rest := frametest.IPv4(src, dst, 17, nil, datagram[eighth*8:])
	for _, p := range [][]byte{first, rest} {
		p[4], p[5], p[10], p[11] = 0x77, byte(eighth), 0, 0
	}
	first[6], rest[7] = 0x20, byte(eighth)
	for _, p := range [][]byte{first, rest} {
		sum := frametest.Checksum(p[:20])
		p[10], p[11] = byte(sum>>8), byte(sum)
	}
	return [][]byte{first, rest}
}

// ways4 are those of IPv4 from an address, each first by the machine with the hardware
// address via.
func (x *crossing) ways4(mac, via []byte, own string) []way {
	v := x.victim.ip
	one := func(kind uint16, packets ...[]byte) (frames [][]byte) {
		for _, p := range packets {
			frames = append(frames, frametest.Ethernet(via, mac, kind, p))
		}
		return frames
	}
	udp := func(text string) []byte { return frametest.UDP(5555, 7000, text) }
	plain := func(dst string) func(string) [][]byte {
		return func(s string) [][]byte { return one(0x800, frametest.IPv4(own, dst, 17, nil, udp(s))) }
	}
	from := func(src string) func(string) [][]byte {
		return func(s string) [][]byte { return one(0x800, frametest.IPv4(src, v, 17, nil, udp(s))) }
	}
	port := func(src, dst string, port uint16) func(string) [][]byte {
		return func(s string) [][]byte {
			return one(0x800, frametest.IPv4(src, dst, 17, nil, frametest.UDP(5555, port, s)))
		}
	}
	routed := func(option, by string) func(string) [][]byte {
		return func(s string) [][]byte {
			o := append(append([]byte(option), frametest.Addr(v)...), 0)
			return one(0x800, frametest.IPv4(own, by, 17, o, udp(s)))
		}
	}
	subnet := frametest.Addr(v)
	return []way{
		{"by a route", plain(v)},
		{"as its neighbour", from(x.second.ip)},
		{"as its gateway", from(x.victim.gateway)},
		{"as 127.0.0.1", from("127.0.0.1")},
		{"as nobody", from("0.0.0.0")},
		{"as a group", from("224.0.0.9")},
		{"loose source route", routed("\x83\x07\x04", x.bad.gateway)},
		{"strict source route", routed("\x89\x07\x04", x.bad.gateway)},
		{"loose source route by the host", routed("\x83\x07\x04", hostAddr)},
		{"tiny first fragment", func(s string) [][]byte { return one(0x800, fragments(own, v, udp(s+"tiny"), 8, 1)...) }},
		{"overlapping fragments", func(s string) [][]byte { return one(0x800, fragments(own, v, udp(s+"overlapping"), 24, 2)...) }},
		{"fragments to 127.0.0.1", func(s string) [][]byte {
			return one(0x800, fragments(own, "127.0.0.1", frametest.UDP(5555, x.local, s+"pieces"), 8, 1)...)
		}},
		{"IP in IP to the gateway", func(s string) [][]byte {
			return one(0x800, frametest.IPv4(own, x.bad.gateway, 4, nil, frametest.IPv4(own, v, 17, nil, udp(s))))
		}},
		{"GRE to the host", func(s string) [][]byte {
			return one(0x800, frametest.IPv4(own, hostAddr, 47, nil, append([]byte{0, 0, 8, 0}, frametest.IPv4(own, v, 17, nil, udp(s))...)))
		}},
		{"behind a tag", func(s string) [][]byte {
			return one(0x8100, append(frametest.VLAN(7, 0x800), frametest.IPv4(own, v, 17, nil, udp(s))...))
		}},
		{"behind two tags", func(s string) [][]byte {
			p := append(frametest.VLAN(0, 0x800), frametest.IPv4(own, v, 17, nil, udp(s))...)
			return one(0x88a8, append(frametest.VLAN(0, 0x8100), p...))
		}},
		{"to its hardware address", func(s string) [][]byte {
			return [][]byte{frametest.Ethernet(x.victim.mac, mac, 0x800, frametest.IPv4(own, v, 17, nil, udp(s)))}
		}},
		{"broadcast of its network", plain(fmt.Sprintf("%d.%d.255.255", subnet[0], subnet[1]))},
		{"broadcast of everybody", plain("255.255.255.255")},
		{"mDNS", func(s string) [][]byte {
			return one(0x800, frametest.IPv4(own, "224.0.0.251", 17, nil, frametest.UDP(5353, 5353, s)))
		}},
		{"group of many networks", plain("239.1.2.3")},
		{"answer to nothing", func(s string) [][]byte {
			b := append([]byte{0x15, 0xb3, 0x1b, 0x58}, make([]byte, 16)...)
			b[12], b[13] = 0x50, 0x12
			return one(0x800, frametest.IPv4(own, v, 6, nil, append(b, s...)))
		}},
		{"port of 127.0.0.1 at 127.0.0.1", port(own, "127.0.0.1", x.local)},
		{"port of 127.0.0.1 as 127.0.0.1", port("127.0.0.1", "127.0.0.1", x.local)},
		{"port of 127.0.0.1 at the host", port(own, hostAddr, x.local)},
		{"port of 127.0.0.1 at the victim's gateway", port(own, x.victim.gateway, x.local)},
		{"published port as its neighbour", port(x.second.ip, hostAddr, x.open)},
	}
}

// ways6 are those of IPv6 from the attacker's network.
func (x *crossing) ways6(via []byte) []way {
	own, v := x.bad.ip6, x.victim.ip6
	one := func(packets ...[]byte) (frames [][]byte) {
		for _, p := range packets {
			frames = append(frames, frametest.Ethernet(via, x.bad.mac, 0x86dd, p))
		}
		return frames
	}
	udp := func(src, dst, text string) []byte {
		d := frametest.UDP(5555, 7000, text)
		if len(d)%2 == 1 {
			d = append(d, '.')
			d[5]++
		}
		pseudo := append(append(append([]byte{}, frametest.Addr(src)...), frametest.Addr(dst)...), 0, 0, 0, byte(len(d)), 0, 0, 0, 17)
		sum := frametest.Checksum(append(pseudo, d...))
		d[6], d[7] = byte(sum>>8), byte(sum)
		return d
	}
	plain := func(src, dst string) func(string) [][]byte {
		return func(s string) [][]byte { return one(frametest.IPv6(src, dst, 17, udp(src, dst, s))) }
	}
	return []way{
		{"IPv6 by a route", plain(own, v)},
		{"IPv6 as its neighbour", plain(x.second.ip6, v)},
		{"IPv6 as ::1", plain("::1", v)},
		{"IPv6 link-local to the victim", plain(localAddress(x.bad.mac), v)},
		{"IPv6 to its link-local address", plain(localAddress(x.bad.mac), localAddress(x.victim.mac))},
		{"IPv6 routing header", func(s string) [][]byte {
			h := append([]byte{17, 2, 0, 1, 0, 0, 0, 0}, frametest.Addr(v)...)
			return one(frametest.IPv6(own, x.bad.gateway6, 43, append(h, udp(own, v, s)...)))
		}},
		{"IPv6 atomic fragment", func(s string) [][]byte {
			return one(frametest.IPv6(own, v, 44, append([]byte{17, 0, 0, 0, 0, 0, 0, 9}, udp(own, v, s)...)))
		}},
		{"IPv6 fragments", func(s string) [][]byte {
			d := udp(own, v, s)
			return one(frametest.IPv6(own, v, 44, append([]byte{17, 0, 0, 1, 0, 0, 0, 10}, d[:8]...)), frametest.IPv6(own, v, 44, append([]byte{17, 0, 0, 8, 0, 0, 0, 10}, d[8:]...)))
		}},
		{"IPv6 mDNS", plain(own, "ff02::fb")},
		{"IPv6 group of the site", plain(own, "ff05::1:3")},
		{"IPv6 in IPv4", func(s string) [][]byte {
			p := frametest.IPv4(x.bad.ip, x.bad.gateway, 41, nil, frametest.IPv6(own, v, 17, udp(own, v, s)))
			return [][]byte{frametest.Ethernet(via, x.bad.mac, 0x800, p)}
		}},
	}
}

// TestCrossingToAnotherNetwork: nothing reaches a container of another network but by
// the ports that it has published.
func TestCrossingToAnotherNetwork(t *testing.T) {
	for name, options := range privileges {
		t.Run(name, func(t *testing.T) {
			x := newCrossing(t, options...)
			via := x.bridge(t, x.bad)
			ways := append(x.ways4(x.bad.mac, via, x.bad.ip), x.ways6(via)...)
			ways = append(ways, way{"to the other bridge's hardware address", func(s string) [][]byte {
				return [][]byte{frametest.Ethernet(x.bridge(t, x.victim), x.bad.mac, 0x800, frametest.IPv4(x.bad.ip, x.victim.ip, 17, nil, frametest.UDP(5555, 7000, s)))}
			}})
			x.hold(t, ways, func(frames [][]byte) { x.send(t, frames...) }, func(port uint16, text string) []byte {
				return frametest.Ethernet(via, x.bad.mac, 0x800, frametest.IPv4(x.bad.ip, hostAddr, 17, nil, frametest.UDP(port, x.open, text)))
			})
		})
	}
}

// TestCrossingFromTheLAN: the same from a machine beside the host, which nothing hinders
// in what it sends.
func TestCrossingFromTheLAN(t *testing.T) {
	x := newCrossing(t)
	var lan *frametest.Wire
	if err := outside(func() (err error) { lan, err = frametest.Open("lan"); return err }); err != nil {
		t.Fatal(err)
	}
	defer lan.Close()
	host := wire(t, nil, "uplink")
	gateway := func(port uint16) func(string) [][]byte {
		return func(s string) [][]byte {
			return [][]byte{frametest.Ethernet(host.MAC, lan.MAC, 0x800, frametest.IPv4(outsideAddr, x.victim.gateway, 17, nil, frametest.UDP(5555, port, s)))}
		}
	}
	ways := append(x.ways4(lan.MAC, host.MAC, outsideAddr), way{"open port at the bridge's address", gateway(x.open)}, way{"port of 127.0.0.1 at the bridge's address", gateway(x.local)})
	x.hold(t, ways, func(frames [][]byte) {
		for _, f := range frames {
			if err := lan.Send(f); err != nil {
				t.Fatal(err)
			}
		}
	}, func(port uint16, text string) []byte {
		return frametest.Ethernet(host.MAC, lan.MAC, 0x800, frametest.IPv4(outsideAddr, hostAddr, 17, nil, frametest.UDP(port, x.open, text)))
	})
}

// hold sends what every way has, and after each a landmark: a datagram from another port
// to the victim's open one, which arrives.
func (x *crossing) hold(t *testing.T, ways []way, send func([][]byte), landmark func(port uint16, text string) []byte) {
	t.Helper()
	victim := wire(t, x.victim.ns, "eth0")
	var frames [][]byte
	mark := func(i int) (string, string) {
		return fmt.Sprintf("crossing-%02d-", i), fmt.Sprintf("landmark-%02d-", i)
	}
	for i, w := range ways {
		text, last := mark(i)
		frames = append(append(frames, w.frames(text)...), landmark(uint16(2000+i), last))
	}
	send(frames)
	for i, w := range ways {
		text, last := mark(i)
		if seen, err := victim.Sees(text, last); err != nil || seen {
			t.Errorf("%s: arrives %t, %v", w.name, seen, err)
		}
	}
}

// TestCrossingByInterfaces: what a container with NET_ADMIN makes of its interfaces is
// seen by nobody else; only the host's interfaces are as they were.
func TestCrossingByInterfaces(t *testing.T) {
	x := newCrossing(t, privileges["NET_ADMIN and NET_RAW"]...)
	other, err := net.InterfaceByName("uplink")
	if err != nil {
		t.Fatal(err)
	}
	for _, attack := range []string{"upon", "within"} {
		for _, who := range []string{x.bad.name, x.friend.name} {
			r := x.c.try(t, "exec", who, "/echo", attack, fmt.Sprint(other.Index))
			if r.code == 0 || !strings.Contains(r.err, "operation not permitted") {
				t.Errorf("%s of %s: an interface of the host's: %+v", attack, who, r)
			}
		}
	}
	// Its own network is its own.
	for _, own := range []string{"ip link set lo mtu 9000", "ip addr add 10.9.9.9/32 dev lo", "ip route add 10.9.8.0/24 dev eth0", "brctl addbr mine", "ping -c 1 -W 5 " + x.friend.ip} {
		x.c.must(t, append([]string{"exec", x.bad.name}, strings.Fields(own)...)...)
	}
	// Who asks for it by name has them: otherwise this test proves nothing.
	name := x.c.unique(t, "host")
	x.c.must(t, "run", "-d", "--name", name, "--network", x.front, "--userns", "host", "--cap-add", "NET_ADMIN", "-v", world.echo+":/echo:ro", "busybox", "/echo", "7000")
	x.c.remove(t, name)
	x.c.must(t, "exec", name, "/echo", "upon", fmt.Sprint(other.Index))
}
