//go:build root

package network_test

import (
	"net/netip"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"
)

// TestSubnetsOfOneFamily: a network may have several. A container has an address in one of
// them, and that one's gateway; all of them reach each other and the world.
func TestSubnetsOfOneFamily(t *testing.T) {
	w := newWorld(t)
	w.network("two", func(r *mobynet.CreateRequest) {
		r.IPAM = &mobynet.IPAM{Config: []mobynet.IPAMConfig{
			{Subnet: netip.MustParsePrefix("10.1.0.0/24"), IPRange: netip.MustParsePrefix("10.1.0.8/32"), Gateway: netip.MustParseAddr("10.1.0.1")},
			{Subnet: netip.MustParsePrefix("10.2.0.0/24"), Gateway: netip.MustParseAddr("10.2.0.7")},
		}}
	})
	first, second := w.start(spec("first", "two")), w.start(published(spec("second", "two"), "8080->80/tcp"))
	third := spec("third", "two")
	third.Endpoints[0].Settings = &mobynet.EndpointSettings{IPAMConfig: &mobynet.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.2.0.99")}}
	asked := w.start(third)
	if a, b, c := w.address(first, "two"), w.address(second, "two"), w.address(asked, "two"); a != "10.1.0.8" || b != "10.2.0.1" || c != "10.2.0.99" {
		t.Errorf("addresses %s, %s, %s", a, b, c)
	}
	w.serve(first.NetNS, "tcp4", ":80", "first")
	w.serve(second.NetNS, "tcp4", ":80", "second")
	w.serve(w.lan, "tcp4", ":80", "lan")
	w.reaches(second.NetNS, "tcp4", "10.1.0.8:80", "first")
	w.reaches(first.NetNS, "tcp4", "10.2.0.1:80", "second")
	w.reaches(asked.NetNS, "tcp4", neighbourOnLAN+":80", "lan")
	w.reaches(first.NetNS, "tcp4", neighbourOnLAN+":80", "lan")
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "second")
	w.reaches(first.NetNS, "tcp4", hostOnLAN+":8080", "second")
}
