//go:build root

package network_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
)

// A VPN that comes up with a route to a network's addresses is told of once, while it
// is there; one that stands in nobody's way is not.
func TestRouteClash(t *testing.T) {
	w := newWorld(t)
	w.network("front", func(r *mobynet.CreateRequest) {
		r.IPAM = &mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: netip.MustParsePrefix("10.77.0.0/16")}}}
	})
	w.start(spec("one", "front"))
	if list := w.Warnings(); len(list) > 0 {
		t.Fatalf("before: %v", list)
	}
	vpn := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vpn0"}, PeerName: "vpn1"}
	must(t, netlink.LinkAdd(vpn))
	t.Cleanup(func() { must(t, netlink.LinkDel(vpn)) })
	run(t, "ip", "link", "set", "vpn0", "up")
	run(t, "ip", "route", "add", "10.78.0.0/16", "dev", "vpn0")
	run(t, "ip", "route", "add", "10.77.1.2/32", "dev", "vpn0")
	run(t, "ip", "route", "add", "10.77.5.0/24", "dev", "vpn0")
	w.eventually(func() error {
		if !strings.Contains(w.log.String(), "route=10.77.5.0/24") {
			return errors.New("the log says nothing")
		}
		return nil
	})
	list := w.Warnings()
	if len(list) != 1 || !strings.Contains(list[0], "network front: its subnet 10.77.0.0/16 overlaps with the host's route to 10.77.5.0/24 on vpn0") || !strings.Contains(list[0], "--subnet 10.") && !strings.Contains(list[0], "--subnet 172.") {
		t.Errorf("warnings: %q", list)
	}
	leaks, err := w.Leaks(t.Context())
	must(t, err)
	found := 0
	for _, l := range leaks {
		if l.Kind == "network" && l.Name == "front" && l.Remedy != "" && l.There() && !l.Passing {
			found++
		}
	}
	if found != 1 {
		t.Errorf("system check finds it %d times", found)
	}
	// Another route: nothing is said twice, and the end of one ends the warning.
	run(t, "ip", "route", "del", "10.77.5.0/24", "dev", "vpn0")
	run(t, "ip", "route", "add", "10.77.6.0/24", "dev", "vpn0")
	w.eventually(func() error {
		if !strings.Contains(w.log.String(), "route=10.77.6.0/24") {
			return fmt.Errorf("the log says nothing of the second")
		}
		return nil
	})
	if n := strings.Count(w.log.String(), "route=10.77.5.0/24"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if strings.Contains(w.log.String(), "10.78.0.0") || strings.Contains(w.log.String(), "10.77.1.2") {
		t.Errorf("it warns of what is no clash:\n%s", w.log.String())
	}
	run(t, "ip", "route", "del", "10.77.6.0/24", "dev", "vpn0")
	if list := w.Warnings(); len(list) > 0 {
		t.Errorf("after: %v", list)
	}
}

// TestClashMoves: a network whose subnet we chose moves out of the way with the next
// containers, when nobody is on it; several may start at once.
func TestClashMoves(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	one := w.start(spec("one", "front"))
	subnet := one.Endpoints["front"].IPAddress
	vpn := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vpn0"}, PeerName: "vpn1"}
	must(t, netlink.LinkAdd(vpn))
	t.Cleanup(func() { must(t, netlink.LinkDel(vpn)) })
	run(t, "ip", "link", "set", "vpn0", "up")
	run(t, "ip", "route", "add", netip.PrefixFrom(subnet, 24).Masked().String(), "dev", "vpn0")
	w.eventually(func() error {
		list := w.Warnings()
		if len(list) != 1 || !strings.HasSuffix(list[0], "it moves to another subnet when nobody is on it: muelle stop one && muelle start one") {
			return fmt.Errorf("warnings: %q", list)
		}
		if !strings.Contains(w.log.String(), "overlaps with a network") {
			return errors.New("the log says nothing")
		}
		return nil
	})
	if list := w.Firewalls(); len(list) > 0 {
		t.Errorf("said of firewalls: %q", list)
	}
	passing := func() []bool { // of what system check finds
		t.Helper()
		leaks, err := w.Leaks(t.Context())
		must(t, err)
		var list []bool
		for _, l := range leaks {
			if l.Kind == "network" { // the others are looked at once more before they are told
				list = append(list, l.Passing)
			}
		}
		return list
	}
	if got := passing(); !slices.Equal(got, []bool{false}) {
		t.Errorf("with a container: %v", got)
	}
	w.stop(one.ID)
	if got := passing(); !slices.Equal(got, []bool{true}) {
		t.Errorf("without: %v", got)
	}
	var wg sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		wg.Go(func() {
			sb := w.start(spec(name, "front"))
			if a := sb.Endpoints["front"].IPAddress; netip.PrefixFrom(subnet, 24).Masked().Contains(a) {
				t.Errorf("%s has %s", name, a)
			}
			w.serve(sb.NetNS, "tcp", ":80", name)
			w.reaches(nil, "tcp4", w.address(sb, "front")+":80", name)
		})
	}
	wg.Wait()
	if list := w.Warnings(); len(list) > 0 {
		t.Errorf("after: %q", list)
	}
}

// TestClashAcrossRestart: the next daemon takes over what runs on a network that a route
// stands in the way of, as it is.
func TestClashAcrossRestart(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	one, two := spec("one", "front"), spec("two", "front")
	a, b := w.start(one), w.start(two)
	subnet := netip.PrefixFrom(a.Endpoints["front"].IPAddress, 24).Masked()
	vpn := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vpn0"}, PeerName: "vpn1"}
	must(t, netlink.LinkAdd(vpn))
	t.Cleanup(func() { must(t, netlink.LinkDel(vpn)) })
	run(t, "ip", "link", "set", "vpn0", "up")
	run(t, "ip", "route", "add", subnet.String(), "dev", "vpn0")
	w.serve(a.NetNS, "tcp", ":80", "one")
	w.reaches(b.NetNS, "tcp4", w.address(a, "front")+":80", "one")
	w.kill()
	w.open()
	w.adopt(one, a)
	w.adopt(two, b)
	must(t, w.Adopted(t.Context()))
	w.reaches(b.NetNS, "tcp4", w.address(a, "front")+":80", "one")
	in, err := w.Inspect(t.Context(), "front", false)
	must(t, err)
	if got := in.IPAM.Config[0].Subnet; !got.Overlaps(subnet) {
		t.Errorf("the network has %s now", got)
	}
	if list := w.Warnings(); len(list) != 1 {
		t.Errorf("warnings: %q", list)
	}
	run(t, "ip", "route", "del", subnet.String(), "dev", "vpn0")
	w.reaches(nil, "tcp4", w.address(a, "front")+":80", "one")
}
