//go:build root

package ruleset_test

import (
	"net/netip"
	"strings"
	"testing"

	"muelle/internal/linux/ruleset"
)

// TestTracking: what a rule takes out of the tracking is not translated, and has no state
// but "untracked"; where that hangs on something it depends on the same.
func TestTracking(t *testing.T) {
	raw := func(hook, priority, rules string) string {
		return "table inet raw {\nchain c { type filter hook " + hook + " priority " + priority + "\n" + rules + "\n}\n}\n"
	}
	filter := func(hook, rules string) string {
		return "table inet filter {\nchain c { type filter hook " + hook + " priority 0\n" + rules + "\n}\n}\n"
	}
	own := ruleset.Packet{In: "eth0", Source: netip.MustParsePrefix("192.0.2.0/24"), Destination: netip.MustParsePrefix("192.0.2.2/32"), Protocol: 6, DestinationPort: 22, ToLocal: true}
	in := change(published(), func(p *ruleset.Packet) { p.Translates = true })
	back := change(in, func(p *ruleset.Packet) {
		p.In, p.InBridge, p.Out, p.OutBridge, p.Source, p.Destination = "mueb0", true, "eth0", false, p.Destination, p.Source
		p.SourcePort, p.DestinationPort, p.Reply, p.Established = 80, 0, true, true
	})
	answers := change(own, func(p *ruleset.Packet) {
		p.In, p.Out, p.Source, p.Destination = "", "eth0", p.Destination, p.Source
		p.SourcePort, p.DestinationPort, p.Reply, p.Established, p.ToLocal = 22, 0, true, true, false
	})
	unopened := change(answers, func(p *ruleset.Packet) { p.Opening = ruleset.Untracked })
	passing := []ruleset.Hook{ruleset.Ingress, ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting}
	arriving := []ruleset.Hook{ruleset.Ingress, ruleset.Prerouting, ruleset.Input}
	leaving := []ruleset.Hook{ruleset.Output, ruleset.Postrouting}
	const legacy = "*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n"
	for _, tt := range []struct {
		name, program, rules string
		packet               ruleset.Packet
		hooks                []ruleset.Hook
		want, says           string
	}{
		{"a published port, by what it was sent to", nft, raw("prerouting", "-300", "tcp dport 8080 notrack"), in, passing, "dropped", "rule 1 of inet raw c"},
		{"not by what it becomes", nft, raw("prerouting", "-300", "tcp dport 80 notrack"), in, passing, "passes", ""},
		{"too late", nft, raw("prerouting", "-150", "tcp dport 8080 notrack"), in, passing, "passes", ""},
		{"at a hook that is too late", nft, raw("forward", "-300", "notrack"), in, passing, "passes", ""},
		{"the answer", nft, raw("prerouting", "-300", "iifname mueb0 tcp sport 80 notrack"), back, passing, "dropped", ""},
		{"some", nft, raw("prerouting", "-300", "ip saddr 192.0.2.7 tcp dport 8080 notrack"), in, passing, "depends", ""},
		{"all but some", nft, raw("prerouting", "-300", "ip saddr 192.0.2.7 accept\nnotrack"), in, passing, "depends", ""},
		{"in another chain", nft, "table inet raw {\nchain other { notrack\n}\nchain c { type filter hook prerouting priority -300\ntcp dport 8080 jump other\n}\n}", in, passing, "dropped", "rule 1 of inet raw other"},
		{"what is not translated", nft, raw("prerouting", "-300", "notrack"), own, arriving, "passes", ""},
		{"iptables", new4, legacy + "-A PREROUTING -p tcp -m tcp --dport 8080 -j CT --notrack\nCOMMIT\n", in, passing, "dropped", ""},
		{"old iptables", old, legacy + "-A PREROUTING -p tcp -m tcp --dport 8080 -j CT --notrack\nCOMMIT\n", in, passing, "dropped", "iptables-legacy -t raw PREROUTING"},
		{"old iptables, a zone", old, legacy + "-A PREROUTING -p tcp -m tcp --dport 8080 -j CT --zone 7\nCOMMIT\n", in, passing, "passes", ""},
		{"stateful", nft, raw("prerouting", "-300", "notrack") + filter("input", "policy drop\nct state new tcp dport 22 accept"), own, arriving, "dropped", "policy of inet filter c"},
		{"untracked accepted", nft, raw("prerouting", "-300", "notrack") + filter("input", "policy drop\nct state untracked accept"), own, arriving, "passes", ""},
		{"a state that none has", nft, raw("prerouting", "-300", "notrack") + filter("input", "ct status dnat drop\nct direction original drop"), own, arriving, "passes", ""},
		{"not new for some", nft, raw("prerouting", "-300", "ip saddr 192.0.2.7 notrack") + filter("input", "ct state new drop"), own, arriving, "depends", ""},
		{"iptables, stateful", new4, legacy + "-A PREROUTING -j CT --notrack\nCOMMIT\n*filter\n:INPUT DROP\n-A INPUT -m conntrack --ctstate NEW,RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n", own, arriving, "dropped", ""},
		{"iptables, untracked", new4, legacy + "-A PREROUTING -j CT --notrack\nCOMMIT\n*filter\n:INPUT DROP\n-A INPUT -m conntrack --ctstate UNTRACKED -j ACCEPT\nCOMMIT\n", own, arriving, "passes", ""},
		{"old iptables, untracked", old, legacy + "-A PREROUTING -j CT --notrack\nCOMMIT\n*filter\n:INPUT DROP\n-A INPUT -m state --state UNTRACKED -j ACCEPT\nCOMMIT\n", own, arriving, "passes", ""},
		{"old iptables, not untracked", old, legacy + "-A PREROUTING -j CT --notrack\nCOMMIT\n*filter\n:INPUT ACCEPT\n-A INPUT -m conntrack ! --ctstate UNTRACKED -j DROP\nCOMMIT\n", own, arriving, "passes", ""},
		{"the answer to what was tracked", nft, filter("output", "ct state invalid drop"), answers, leaving, "passes", ""},
		{"the answer to what was not", nft, filter("output", "ct state invalid drop"), unopened, leaving, "dropped", ""},
		{"by UDP it is new", nft, filter("output", "ct state new drop"), change(unopened, func(p *ruleset.Packet) { p.Protocol = 17 }), leaving, "dropped", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			load(t, tt.rules, strings.Fields(tt.program)...)
			if strings.Contains(tt.rules, "*raw") && tt.program == old {
				t.Cleanup(func() { load(t, "*raw\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n", old) })
			}
			got := read(t).Ask(tt.packet, nil, tt.hooks...)
			if fate(got) != tt.want || !strings.Contains(got.Rule, tt.says) {
				t.Errorf("%s (%s), want %s by %q", fate(got), got.Rule, tt.want, tt.says)
			}
			if (fate(got) == "depends") != got.Addressed {
				t.Errorf("it hangs on the address: %v, %v", got.Addressed, got.Reasons)
			}
		})
	}
}
