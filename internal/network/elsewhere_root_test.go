//go:build root

package network_test

import (
	"context"
	"strings"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"
)

// TestPortThatAnotherTranslates: a port that another engine sends on by its rules alone,
// without a socket, is taken, and the message says where it goes; a range goes on to the
// next one. What matches some of the packets only is in nobody's way.
func TestPortThatAnotherTranslates(t *testing.T) {
	const docker = "*nat\n:PREROUTING ACCEPT\n:DOCKER -\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A DOCKER -i docker0 -j RETURN\n" +
		"-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.30.0.2:80\n" +
		"-A DOCKER -d 192.0.2.77/32 ! -i docker0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.30.0.2:80\nCOMMIT\n"
	for _, tc := range []struct{ name, in, by, to string }{
		{"iptables-nft-restore", docker, "iptables-nft-restore", "Docker's container at 172.30.0.2:80"},
		{"iptables-legacy-restore", docker, "iptables-legacy-restore", "Docker's container at 172.30.0.2:80"},
		{"nft", "table ip mine { chain pre { type nat hook prerouting priority -100\n tcp dport 8080 dnat to 10.1.2.3:80\n ip daddr 192.0.2.77 tcp dport 8081 dnat to 10.1.2.3\n }\n}\n", "nft -f -",
			"rule 1 of ip mine pre (handle "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.feed(tc.in, strings.Fields(tc.by)...)
			t.Cleanup(func() {
				run(t, "nft", "flush ruleset")
				if strings.Contains(tc.by, "legacy") {
					w.feed("*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n", tc.by)
				}
			})
			for _, how := range []string{"8080->80/tcp", "127.0.0.1:8080->80/tcp"} {
				_, err := w.Prepare(context.Background(), published(spec("web", "bridge"), how))
				if err == nil || !strings.Contains(err.Error(), ":80/tcp: address already in use (by "+tc.to) {
					t.Errorf("%s: %v", how, err)
				}
			}
			for how, want := range map[string]string{"8080-8085->80/tcp": "8081", "8080->80/udp": "8080"} {
				sb := w.start(published(spec("other", "bridge"), how))
				if got := sb.Ports[mobynet.MustParsePort("80/"+how[len(how)-3:])]; len(got) == 0 || got[0].HostPort != want {
					t.Errorf("%s is at %v", how, got)
				}
				w.stop(sb.ID)
			}
		})
	}
}
