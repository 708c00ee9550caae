//go:build root

package network_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
)

// crossing is one frame that a container with all privileges over its network sends.
type crossing struct {
	name string
	// legal frames arrive, whatever the guard.
	legal bool
	// filtered: something else of this host drops it where the guard does not.
	filtered bool
	// misleads: without guard the bridge sends the victim's frames to the attacker from then on.
	misleads bool
	frame    func(a *attack, text string) []byte
}

// attack is a container that sends frames to another on its network.
type attack struct {
	wire                                                     *wire
	victim                                                   []byte
	own4, own6, local6, victim4, victim6, gateway4, gateway6 string
}

var broadcast = []byte{255, 255, 255, 255, 255, 255}

func option(kind string) []byte { return []byte(kind) }

func target(text, a string) []byte { return append(addr(a), "\x01\x02xxxxxx"+text...) }

var crossings = []crossing{
	{name: "own address", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4(a.own4, a.victim4, 17, nil, udp(1, 2, s)))
	}},
	{name: "own IPv6 address", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.own6, a.victim6, 17, udp(1, 2, s)))
	}},
	{name: "own link-local address", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.local6, a.victim6, 17, udp(1, 2, s)))
	}},
	{name: "question for an address", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(broadcast, a.wire.mac, 0x806, arpPacket(1, a.wire.mac, a.own4, make([]byte, 6), a.victim4), []byte(s))
	}},
	{name: "is my address free", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(broadcast, a.wire.mac, 0x806, arpPacket(1, a.wire.mac, "0.0.0.0", make([]byte, 6), a.own4), []byte(s))
	}},
	{name: "DHCP", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(broadcast, a.wire.mac, 0x800, ipv4("0.0.0.0", "255.255.255.255", 17, nil, udp(68, 67, s)))
	}},
	{name: "group report", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet([]byte{1, 0, 0x5e, 0, 0, 0x16}, a.wire.mac, 0x800, ipv4(a.own4, "224.0.0.22", 2, option("\x94\x04\x00\x00"), append(make([]byte, 16), s...)))
	}},
	{name: "duplicate address detection", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6("::", "ff02::1:ff00:1", 58, icmpv6("::", "ff02::1:ff00:1", 135, append(addr(a.own6), s...))))
	}},
	{name: "neighbour advertisement of its own", legal: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.own6, a.victim6, 58, icmpv6(a.own6, a.victim6, 136, target(s, a.own6))))
	}},

	{name: "foreign source address", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4("198.51.100.7", a.victim4, 17, nil, udp(1, 2, s)))
	}},
	{name: "gateway's source address", filtered: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4(a.gateway4, a.victim4, 17, nil, udp(1, 2, s)))
	}},
	{name: "foreign IPv6 source address", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6("2001:db8::7", a.victim6, 17, udp(1, 2, s)))
	}},
	{name: "gateway's IPv6 source address", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.gateway6, a.victim6, 6, append(make([]byte, 20), s...)))
	}},
	{name: "invented hardware address", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, []byte{2, 1, 2, 3, 4, 5}, 0x88b5, []byte(s))
	}},
	{name: "ARP answer for the gateway", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x806, arpPacket(2, a.wire.mac, a.gateway4, a.victim, a.victim4), []byte(s))
	}},
	{name: "ARP announcement of the victim's address", frame: func(a *attack, s string) []byte {
		return ethernet(broadcast, a.wire.mac, 0x806, arpPacket(1, a.wire.mac, a.victim4, make([]byte, 6), a.victim4), []byte(s))
	}},
	{name: "ARP with the victim's hardware address inside", frame: func(a *attack, s string) []byte {
		return ethernet(broadcast, a.wire.mac, 0x806, arpPacket(1, a.victim, a.own4, make([]byte, 6), a.gateway4), []byte(s))
	}},
	{name: "ARP behind a priority tag", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x8100, vlan(0, 0x806), arpPacket(2, a.wire.mac, a.gateway4, a.victim, a.victim4), []byte(s))
	}},
	{name: "ARP behind two tags", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x88a8, vlan(0, 0x8100), vlan(0, 0x806), arpPacket(2, a.wire.mac, a.gateway4, a.victim, a.victim4), []byte(s))
	}},
	{name: "neighbour advertisement of the gateway", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.own6, a.victim6, 58, icmpv6(a.own6, a.victim6, 136, target(s, a.gateway6))))
	}},
	{name: "neighbour advertisement behind an extension header", frame: func(a *attack, s string) []byte {
		body := append([]byte{58, 0, 1, 4, 0, 0, 0, 0}, icmpv6(a.own6, a.victim6, 136, target(s, a.gateway6))...)
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.own6, a.victim6, 60, body))
	}},
	{name: "duplicate address detection of the victim's address", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6("::", "ff02::1:ff00:1", 58, icmpv6("::", "ff02::1:ff00:1", 135, append(addr(a.victim6), s...))))
	}},
	{name: "router advertisement", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.local6, "ff02::1", 58, icmpv6(a.local6, "ff02::1", 134, append(make([]byte, 8), s...))))
	}},
	{name: "redirect", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.local6, a.victim6, 58, icmpv6(a.local6, a.victim6, 137, append(make([]byte, 32), s...))))
	}},
	{name: "loose source route", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4(a.own4, a.victim4, 17, option("\x83\x07\x04\xc0\x00\x02\x01\x00"), udp(1, 2, s)))
	}},
	{name: "strict source route behind another option", frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4(a.own4, a.victim4, 17, option("\x01\x89\x07\x04\xc0\x00\x02\x01"), udp(1, 2, s)))
	}},
	{name: "IPv6 routing header", frame: func(a *attack, s string) []byte {
		body := append(append([]byte{17, 2, 0, 1, 0, 0, 0, 0}, addr(a.victim6)...), udp(1, 2, s)...)
		return ethernet(a.victim, a.wire.mac, 0x86dd, ipv6(a.own6, a.victim6, 43, body))
	}},
	{name: "martian: from 127.0.0.1", filtered: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4("127.0.0.1", a.victim4, 17, nil, udp(1, 2, s)))
	}},
	{name: "martian: from a group", filtered: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4("224.0.0.1", a.victim4, 17, nil, udp(1, 2, s)))
	}},
	{name: "martian: from nowhere", filtered: true, frame: func(a *attack, s string) []byte {
		return ethernet(a.victim, a.wire.mac, 0x800, ipv4("0.0.0.0", a.victim4, 17, nil, udp(1, 2, s)))
	}},
	{name: "victim's hardware address", misleads: true, frame: func(a *attack, s string) []byte {
		return ethernet(broadcast, a.victim, 0x800, ipv4(a.own4, a.victim4, 17, nil, udp(1, 2, s)))
	}},
}

func guardOff(r *mobynet.CreateRequest) { r.Options = map[string]string{"io.muelle.guard": "off"} }

func withIPv6(r *mobynet.CreateRequest) { yes := true; r.EnableIPv6 = &yes }

func newAttack(w *world, network string, from, to *network.Sandbox) *attack {
	e, v := from.Endpoints[network], to.Endpoints[network]
	mac := e.MacAddress
	return &attack{
		wire: tap(w, from.NetNS, "eth0"), victim: v.MacAddress, own4: e.IPAddress.String(), own6: e.GlobalIPv6Address.String(),
		local6:  fmt.Sprintf("fe80::%x:%xff:fe%02x:%02x%02x", int(mac[0]^2)<<8|int(mac[1]), mac[2], mac[3], mac[4], mac[5]),
		victim4: v.IPAddress.String(), victim6: v.GlobalIPv6Address.String(), gateway4: e.Gateway.String(), gateway6: e.IPv6Gateway.String(),
	}
}

// try sends every frame and looks whether it reaches the victim, by one that is
// known to arrive after it.
func (a *attack) try(t *testing.T, victim *wire, guarded bool) {
	t.Helper()
	for i, c := range crossings {
		text, last := fmt.Sprintf("crossing-%02d-", i), fmt.Sprintf("landmark-%02d-", i)
		must(t, a.wire.send(c.frame(a, text)))
		must(t, a.wire.send(ethernet(a.victim, a.wire.mac, 0x800, ipv4(a.own4, a.victim4, 17, nil, udp(1, 2, last)))))
		seen, err := victim.sees(text, last)
		if err != nil && c.misleads && !guarded {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if want := c.legal || !guarded; seen != want && !(c.filtered && !guarded) {
			t.Errorf("%s: arrives %t, want %t", c.name, seen, want)
		}
	}
}

func TestIngressGuard(t *testing.T) {
	for _, tt := range []struct {
		name    string
		guarded bool
		options []func(*mobynet.CreateRequest)
	}{
		{"on", true, []func(*mobynet.CreateRequest){withIPv6}},
		{"off", false, []func(*mobynet.CreateRequest){withIPv6, guardOff}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.network("front", tt.options...)
			bad, victim := w.start(spec("bad", "front")), w.start(spec("victim", "front"))
			a, wire := newAttack(w, "front", bad, victim), tap(t, victim.NetNS, "eth0")
			a.try(t, wire, tt.guarded)
		})
	}
}

// The guard outlives a flush and a daemon, and holds for containers that were there before.
func TestIngressGuardComesBack(t *testing.T) {
	w := newWorld(t)
	w.network("front", withIPv6)
	specs := []network.SandboxSpec{spec("bad", "front"), spec("victim", "front")}
	bad, victim := w.start(specs[0]), w.start(specs[1])
	a, wire := newAttack(w, "front", bad, victim), tap(t, victim.NetNS, "eth0")
	run(t, "nft", "flush", "ruleset")
	w.eventually(func() error {
		if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "table bridge muelle-1a2b3c4d") {
			return fmt.Errorf("no guard:\n%s", out)
		}
		return nil
	})
	a.try(t, wire, true)
	w.kill()
	run(t, "nft", "flush", "ruleset")
	// Who flushes while no daemon looks takes away the sign that forwarding is ours to switch off.
	t.Cleanup(func() {
		must(t, rtnl.Sysctl("ipv4/ip_forward", "0"))
		must(t, rtnl.Sysctl("ipv6/conf/all/forwarding", "0"))
	})
	w.open()
	w.adopt(specs[0], bad)
	w.adopt(specs[1], victim)
	must(t, w.Adopted(t.Context()))
	a.try(t, wire, true)
	// And what comes later is let in too.
	third := w.start(spec("third", "front"))
	b := newAttack(w, "front", third, victim)
	b.try(t, wire, true)
}

// A bridge's address is its own containers' and this host's.
func TestGatewaysOfOthers(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	w.network("back")
	front, back := w.start(spec("f", "front")), w.start(published(spec("b", "back"), "8080->80/tcp", "127.0.0.1:8081->80/tcp"))
	gateway := func(sb *network.Sandbox, name string) string { return sb.Endpoints[name].Gateway.String() }
	w.serve(nil, "tcp", ":90", "host")
	w.serve(back.NetNS, "tcp", ":80", "back")

	w.reaches(front.NetNS, "tcp4", gateway(front, "front")+":90", "host")
	w.reaches(front.NetNS, "tcp4", hostOnLAN+":90", "host")
	w.reaches(front.NetNS, "tcp4", gateway(back, "back")+":8080", "back")
	w.reaches(nil, "tcp4", gateway(back, "back")+":90", "host")
	w.cannotReach(front.NetNS, "tcp4", gateway(back, "back")+":90")
	// The LAN sends everything to the host, whatever its address.
	w.reaches(w.lan, "tcp4", hostOnLAN+":90", "host")
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "back")
	for _, addr := range []string{
		gateway(back, "back") + ":90", gateway(back, "back") + ":8080", gateway(back, "back") + ":8081",
		back.Endpoints["back"].IPAddress.String() + ":80", "127.0.0.1:8081",
	} {
		w.cannotReach(w.lan, "tcp4", addr)
	}
	// Nobody outside speaks as a container.
	heard := make(chan string, 8)
	listener, err := net.ListenPacket("udp4", hostOnLAN+":91")
	must(t, err)
	defer listener.Close()
	go func() {
		for buf := make([]byte, 1500); ; {
			n, _, err := listener.ReadFrom(buf)
			if err != nil {
				return
			}
			heard <- string(buf[:n])
		}
	}()
	lan, host := tap(t, w.lan, "lan0"), tap(t, nil, "uplink")
	for _, from := range []string{w.address(back, "back"), neighbourOnLAN} {
		must(t, lan.send(ethernet(host.mac, lan.mac, 0x800, ipv4(from, hostOnLAN, 17, nil, udp(1, 91, from)))))
	}
	if got := <-heard; got != neighbourOnLAN {
		t.Errorf("the host hears %s from the LAN", got)
	}
}

// A network that takes the subnet of one just removed is guarded like any other, when
// the old one's bridge has gone for good, too.
func TestGatewaysOfSuccessors(t *testing.T) {
	w := newWorld(t)
	w.network("first")
	w.network("front")
	front, first := w.start(spec("f", "front")), w.start(spec("b", "first"))
	gateway, old := first.Endpoints["first"].Gateway.String(), bridges(t)
	w.stop(first.ID)
	must(t, w.Remove(t.Context(), "first"))
	w.network("second")
	second := w.start(spec("c", "second"))
	if got := second.Endpoints["second"].Gateway.String(); got != gateway {
		t.Fatalf("the second network has another subnet: %s, %s", got, gateway)
	}
	w.serve(nil, "tcp", ":90", "host")
	w.eventually(func() error {
		// Those of the first two, and the second's: one of them must go.
		if now := bridges(t); len(now) > len(old) {
			return fmt.Errorf("bridges: %q", now)
		}
		return nil
	})
	w.eventually(func() error {
		if out := run(t, "nft", "list", "set", "inet", "muelle-1a2b3c4d", "own4"); strings.Count(out, gateway) != 1 {
			return fmt.Errorf("the first network's elements are still there: %s", out)
		}
		return nil
	})
	w.reaches(second.NetNS, "tcp4", gateway+":90", "host")
	w.cannotReach(front.NetNS, "tcp4", gateway+":90")
	w.cannotReach(w.lan, "tcp4", gateway+":90")
}

// bridges are the names of the bridges that there are.
func bridges(t *testing.T) (list []string) {
	t.Helper()
	all, err := net.Interfaces()
	must(t, err)
	for _, i := range all {
		if strings.HasPrefix(i.Name, "mueb") {
			list = append(list, i.Name)
		}
	}
	return list
}
