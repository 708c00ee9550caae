//go:build root

package network_test

import (
	"net/netip"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"
)

// A container on two networks publishes by one; who is on the other asks for that port
// at its own gateway. The answer takes the way of the question, though there is a
// shorter one, where nobody would know it.
func TestPublishedPortOfNeighbour(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"alpha", "beta", "gamma"} {
		w.network(name, func(r *mobynet.CreateRequest) { yes := true; r.EnableIPv6 = &yes })
	}
	s := published(spec("web", "alpha", "beta"), "8080->80/tcp")
	web := w.start(s)
	w.serve(web.NetNS, "tcp", ":80", "web")
	w.serve(web.NetNS, "tcp6", ":80", "web")
	for _, name := range []string{"alpha", "beta", "gamma"} {
		client := w.start(spec("client-"+name, name))
		for _, n := range []string{"alpha", "beta"} {
			if name == n {
				w.reaches(client.NetNS, "tcp4", w.address(web, n)+":80", "web")
			}
		}
		w.reaches(client.NetNS, "tcp4", hostOnLAN+":8080", "web")
		w.reaches(client.NetNS, "tcp4", gateway(w, name)+":8080", "web")
	}
	w.reaches(web.NetNS, "tcp4", gateway(w, "beta")+":8080", "web")
	// So does this host, whose address is then the bridge's.
	for _, name := range []string{"alpha", "beta", "gamma"} {
		n, err := w.Get(name)
		must(t, err)
		for _, c := range n.IPAM.Config {
			w.reaches(nil, "tcp", netip.AddrPortFrom(c.Gateway, 8080).String(), "web")
		}
	}
}
