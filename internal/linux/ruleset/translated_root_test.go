//go:build root

package ruleset_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"muelle/internal/linux/ruleset"
)

// TestTranslated: who sends on what comes to a port of the host, and where to.
func TestTranslated(t *testing.T) {
	const nat = "*nat\n:PREROUTING ACCEPT\n:DOCKER -\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n-A DOCKER -i docker0 -j RETURN\n"
	native := func(rules string) string {
		return "table ip mine {\nchain pre { type nat hook prerouting priority -100\n" + rules + "\n}\n}"
	}
	docker := nat + "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\nCOMMIT\n"
	for _, tt := range []struct{ name, program, rules, want string }{
		{"none", nft, "", "nobody"},
		{"native", nft, native("tcp dport 8080 dnat to 10.0.0.2:80"), "10.0.0.2:80 by rule 1 of ip mine pre"},
		{"native, address only", nft, native("tcp dport 8080 dnat to 10.0.0.2"), "10.0.0.2:8080 by rule 1 of ip mine pre"},
		{"native, another port", nft, native("tcp dport 8081 dnat to 10.0.0.2:80"), "nobody"},
		{"native, some sources", nft, native("ip saddr 192.0.2.7 tcp dport 8080 dnat to 10.0.0.2:80"), "nobody"},
		{"native, by a map", nft, native("dnat to tcp dport map { 8080 : 10.0.0.3, 8081 : 10.0.0.4 }"), "10.0.0.3:8080 by rule 1 of ip mine pre"},
		{"native, at this address", nft, native("ip daddr 192.0.2.2 tcp dport 8080 dnat to 10.0.0.2:80"), "10.0.0.2:80 by rule 1 of ip mine pre"},
		{"native, at another address", nft, native("ip daddr 192.0.2.3 tcp dport 8080 dnat to 10.0.0.2:80"), "nobody"},
		{"source only", nft, "table ip mine {\nchain post { type nat hook postrouting priority 100\nmasquerade\n}\n}", "nobody"},
		{"Docker's", new4, docker, "172.17.0.2:80 by rule 2 of ip nat DOCKER"},
		{"Docker's by the old iptables", old, docker, "172.17.0.2:80 by rule 2 of iptables-legacy -t nat DOCKER"},
		{"Docker's UDP", new4, strings.ReplaceAll(docker, "tcp", "udp"), "nobody"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			load(t, tt.rules, strings.Fields(tt.program)...)
			if tt.program == old {
				t.Cleanup(func() {
					cmd := exec.Command(old)
					cmd.Stdin = strings.NewReader("*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n")
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("%v: %s", err, out)
					}
				})
			}
			p := ruleset.Packet{In: "eth0", Destination: netip.MustParsePrefix("192.0.2.2/32"), Protocol: 6, DestinationPort: 8080, ToLocal: true}
			r, got := read(t), "nobody"
			if by := r.Translated(p, nil); by != nil {
				got = by.To.String() + " by " + by.Rule
			}
			if i := strings.Index(got, " (handle"); i >= 0 {
				got = got[:i]
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if any := tt.name != "none" && tt.name != "source only"; r.Translates() != any {
				t.Errorf("translates: %v", !any)
			}
		})
	}
}
