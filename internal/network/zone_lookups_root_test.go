//go:build root

package network_test

import (
	"net"
	"strings"
	"testing"

	"muelle/api"
)

// Who may send to certain places only asks no other name server there, by whatever
// family and protocol; the rest of what he asked for is open.
func TestZoneClosesOtherNameServers(t *testing.T) {
	w := sixWorld(t, "1")
	w.network("some", withIPv6, zone(api.Zone{Egress: []string{"192.0.2.0/24", "2001:db8::/64"}}))
	w.network("open", withIPv6)
	some, open := w.start(spec("some", "some")), w.start(spec("open", "open"))
	for family, at := range map[string]string{"4": neighbourOnLAN, "6": neighbour6OnLAN} {
		for _, proto := range []string{"tcp" + family, "udp" + family} {
			for port, reached := range map[string]bool{"53": false, "853": false, "5353": true} {
				to := net.JoinHostPort(at, port)
				w.serve(w.lan, strings.TrimSuffix(proto, "4"), to, "lan")
				w.reaches(open.NetNS, proto, to, "lan")
				if reached {
					w.reaches(some.NetNS, proto, to, "lan")
				} else {
					w.cannotReach(some.NetNS, proto, to)
				}
			}
		}
	}
}
