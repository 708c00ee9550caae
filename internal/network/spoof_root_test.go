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
	"muelle/internal/network/frametest"
)

func guardOff(r *mobynet.CreateRequest) { r.Options = map[string]string{"io.muelle.guard": "off"} }

func withIPv6(r *mobynet.CreateRequest) { yes := true; r.EnableIPv6 = &yes }

// attack is a container that sends frames to another on its network.
type attack struct {
	frametest.Attack
	wire       *wire
	own4, own6 string
}

func newAttack(w *world, network string, from, to *network.Sandbox) *attack {
	e, v := from.Endpoints[network], to.Endpoints[network]
	mac := e.MacAddress
	a := &attack{wire: tap(w, from.NetNS, "eth0"), own4: e.IPAddress.String(), own6: e.GlobalIPv6Address.String()}
	a.Attack = frametest.Attack{
		MAC: a.wire.mac, Victim: v.MacAddress, Own4: a.own4, Own6: a.own6,
		Local6:  fmt.Sprintf("fe80::%x:%xff:fe%02x:%02x%02x", int(mac[0]^2)<<8|int(mac[1]), mac[2], mac[3], mac[4], mac[5]),
		Victim4: v.IPAddress.String(), Victim6: v.GlobalIPv6Address.String(), Gateway4: e.Gateway.String(), Gateway6: e.IPv6Gateway.String(),
	}
	return a
}

// try sends every frame and looks whether it reaches the victim, by one that is
// known to arrive after it.
func (a *attack) try(t *testing.T, victim *wire, guarded bool) {
	t.Helper()
	for i, c := range frametest.Crossings {
		text, last := fmt.Sprintf("crossing-%02d-", i), fmt.Sprintf("landmark-%02d-", i)
		must(t, a.wire.send(c.Frame(&a.Attack, text)))
		must(t, a.wire.send(ethernet(a.Victim, a.wire.mac, 0x800, ipv4(a.own4, a.Victim4, 17, nil, udp(1, 2, last)))))
		seen, err := victim.sees(text, last)
		if err != nil && c.Misleads && !guarded {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if want := c.Legal || !guarded; seen != want && !(c.Filtered && !guarded) {
			t.Errorf("%s: arrives %t, want %t", c.Name, seen, want)
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
