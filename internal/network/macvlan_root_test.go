//go:build root

package network_test

import (
	"strings"
	"testing"

	"net/netip"

	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/rtnl"
)

// Containers on the host's link are neighbours of the machines there; names work
// among them, after connect and for a container on a bridge as well.
func TestMacvlan(t *testing.T) {
	w := newWorld(t)
	w.network("lan", func(r *mobynet.CreateRequest) {
		r.Driver, r.Options = "macvlan", map[string]string{"parent": "uplink"}
		r.IPAM = &mobynet.IPAM{Config: []mobynet.IPAMConfig{{
			Subnet: netip.MustParsePrefix("192.0.2.0/24"), IPRange: netip.MustParsePrefix("192.0.2.64/27"), Gateway: netip.MustParseAddr(neighbourOnLAN),
		}}}
	})
	w.network("front")
	specs := spec("one", "lan")
	one, two := w.start(specs), w.start(published(spec("two", "lan"), "8080->80/tcp"))
	w.serve(one.NetNS, "tcp", ":80", "one")
	w.serve(two.NetNS, "tcp", ":80", "two")
	w.serve(w.lan, "tcp", ":80", "lan")
	w.reaches(one.NetNS, "tcp4", w.address(two, "lan")+":80", "two")
	w.reaches(w.lan, "tcp4", w.address(one, "lan")+":80", "one")
	w.reaches(one.NetNS, "tcp4", neighbourOnLAN+":80", "lan")
	if len(two.Ports[mobynet.MustParsePort("80/tcp")]) != 0 {
		t.Errorf("published through macvlan: %v", two.Ports)
	}
	three := w.start(spec("three", "front", "lan"))
	w.reaches(three.NetNS, "tcp4", w.address(one, "lan")+":80", "one")

	_, err := w.Create(t.Context(), mobynet.CreateRequest{Name: "again", Driver: "macvlan", Options: map[string]string{"parent": "uplink"}})
	if err == nil || !strings.Contains(err.Error(), "already using parent interface uplink") {
		t.Errorf("a second network on one parent: %v", err)
	}
	if rtnl.SupportsSub("ipvlan") != nil {
		_, err = w.Create(t.Context(), mobynet.CreateRequest{Name: "ip", Driver: "ipvlan", Options: map[string]string{"parent": "uplink"}})
		if err == nil || !strings.Contains(err.Error(), "this kernel has no ipvlan interfaces") {
			t.Errorf("ipvlan: %v", err)
		}
	}
	_, err = w.Create(t.Context(), mobynet.CreateRequest{Name: "over", Driver: "overlay"})
	if err == nil || !strings.Contains(err.Error(), "use bridge on this machine") {
		t.Errorf("overlay: %v", err)
	}
	// A restart of the daemon changes nothing, and the addresses stay taken.
	w.stop(two.ID)
	w.stop(three.ID)
	w.kill()
	w.open()
	w.adopt(specs, one)
	must(t, w.Adopted(t.Context()))
	w.reaches(w.lan, "tcp4", w.address(one, "lan")+":80", "one")
	if four := w.start(spec("four", "lan")); w.address(four, "lan") == w.address(one, "lan") {
		t.Error("an address was given twice")
	}
}
