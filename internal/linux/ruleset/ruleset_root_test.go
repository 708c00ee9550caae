//go:build root

package ruleset_test

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"muelle/internal/linux/netns/netnstest"
	"muelle/internal/linux/ruleset"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// load gives rules to a program, and takes away all of them at the test's end.
func load(t *testing.T, rules string, program ...string) {
	t.Helper()
	run := func(in string, args ...string) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(in)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	run(rules, program...)
	t.Cleanup(func() {
		run("flush ruleset\n", "nft", "-f", "-")
		for _, p := range []string{"iptables-legacy-restore", "ip6tables-legacy-restore"} {
			if strings.Contains(program[0], "legacy") {
				run("*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n", p)
			}
		}
	})
}

func file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func read(t *testing.T) *ruleset.Ruleset {
	t.Helper()
	r, err := ruleset.Read(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func outward() ruleset.Packet {
	return ruleset.Packet{
		In: "mueb0", InBridge: true, Out: "eth0", Source: netip.MustParsePrefix("172.18.0.0/16"), Protocol: 6, DestinationPort: 443,
	}
}

func published() ruleset.Packet {
	return ruleset.Packet{
		In: "eth0", Out: "mueb0", OutBridge: true, Source: netip.MustParsePrefix("192.0.2.0/24"), Destination: netip.MustParsePrefix("172.18.0.2/32"),
		Protocol: 6, DestinationPort: 80, Translated: true, Original: netip.MustParsePrefix("192.0.2.2/32"), OriginalPort: 8080,
	}
}

func change(p ruleset.Packet, f func(*ruleset.Packet)) ruleset.Packet { f(&p); return p }

func fate(f ruleset.Fate) string {
	switch {
	case f.Certain():
		return "dropped"
	case f.Dropped:
		return "depends"
	}
	return "passes"
}

const (
	nft    = "nft -f -"
	old    = "iptables-legacy-restore"
	new4   = "iptables-nft-restore"
	filter = "*filter\n:INPUT ACCEPT\n:FORWARD DROP\n:OUTPUT ACCEPT\n"
)

// TestFate: what becomes of three packets under the rules of others.
func TestFate(t *testing.T) {
	forward := func(rules string) string {
		return "table inet mine {\nchain through { type filter hook forward priority 5\n" + rules + "\n}\n}"
	}
	for _, tt := range []struct{ name, program, rules, out, in, later string }{
		{"none", nft, "", "passes", "passes", "passes"},
		{"policy", nft, forward("policy drop"), "dropped", "dropped", "dropped"},
		{"stateful", nft, forward("policy drop\nct state established,related accept"), "dropped", "dropped", "passes"},
		{"ours by wildcard", nft, forward("policy drop\niifname \"mue*\" accept\noifname \"mue*\" accept"), "passes", "passes", "passes"},
		{"published", nft, forward("ct state established accept\nct status dnat accept\nreject"), "dropped", "passes", "passes"},
		{"set of names", nft, "table inet mine { set good { type ifname; elements = { \"mueb0\", \"docker0\" } }\nchain through { type filter hook forward priority 5\npolicy drop\niifname @good accept\noifname @good accept\n}\n}", "passes", "passes", "passes"},
		{"anonymous set", nft, forward("policy drop\niifname { \"x\", \"mue*\" } accept\nip daddr 172.16.0.0/12 accept"), "passes", "passes", "passes"},
		{"interval", nft, forward("ip daddr { 10.0.0.0/8, 172.16.0.0-172.31.255.255 } drop"), "depends", "dropped", "dropped"},
		{"concatenation", nft, forward("iifname . oifname { \"mueb0\" . \"eth0\" } drop"), "dropped", "passes", "passes"},
		{"concatenated service", nft, forward("meta l4proto . th dport { tcp . 80, udp . 443 } drop"), "passes", "dropped", "dropped"},
		{"verdict map", nft, "table inet mine { chain no { drop\n}\nchain through { type filter hook forward priority 5\niifname vmap { \"mueb0\" : jump no, \"eth0\" : accept }\n}\n}", "dropped", "passes", "passes"},
		{"goto", nft, "table inet mine { chain other { iifname \"eth0\" accept\n}\nchain through { type filter hook forward priority 5\npolicy drop\ngoto other\nct state new accept\n}\n}", "dropped", "passes", "passes"},
		{"return", nft, "table inet mine { chain other { iifname \"mueb0\" return\naccept\n}\nchain through { type filter hook forward priority 5\npolicy drop\njump other\n}\n}", "dropped", "passes", "passes"},
		{"some sources", nft, forward("ip saddr 192.0.2.7 accept\niifname \"eth0\" drop"), "passes", "depends", "depends"},
		{"all sources", nft, forward("ip saddr 192.0.2.0/24 accept\nip saddr 172.18.0.0/16 accept\ndrop"), "passes", "passes", "passes"},
		{"a port", nft, forward("tcp dport 80 drop"), "passes", "dropped", "dropped"},
		{"ports", nft, forward("tcp dport { 1-79, 400-500 } drop"), "dropped", "passes", "passes"},
		{"a limit", nft, forward("policy drop\nlimit rate 5/second accept"), "passes", "passes", "passes"},
		{"over a limit", nft, forward("limit rate over 5/second drop"), "passes", "passes", "passes"},
		{"over a quota", nft, forward("quota over 5 mbytes drop"), "passes", "passes", "passes"},
		{"over a limit for each address", nft, "table inet x { set s { type ipv4_addr; size 99; flags dynamic; }\nchain c { type filter hook forward priority 0\nct state new add @s { ip saddr ct count over 5 } drop\n}\n}", "passes", "passes", "passes"},
		{"mark", nft, forward("meta mark 7 drop\nmeta mark set 7\nmeta mark 7 drop"), "depends", "depends", "depends"},
		{"another family", nft, "table ip6 mine {\nchain through { type filter hook forward priority 5\npolicy drop\n}\n}", "passes", "passes", "passes"},
		{"syn", nft, forward("tcp flags & (syn|ack) == syn drop"), "dropped", "dropped", "depends"},
		{"prerouting", nft, "table ip mine {\nchain pre { type filter hook prerouting priority -150\nfib saddr . iif oif missing drop\niifname \"eth0\" drop\n}\n}", "passes", "dropped", "dropped"},
		{"unknown", nft, forward("rt classid 7 drop"), "depends", "depends", "depends"},
		{"docker", nft, "table ip filter {\nchain DOCKER-USER { iifname \"mue*\" counter accept\noifname \"mue*\" counter accept\n}\nchain FORWARD { type filter hook forward priority 0\npolicy drop\njump DOCKER-USER\n}\n}", "passes", "passes", "passes"},
		{"firewalld", nft, file(t, "firewalld.nft"), "dropped", "passes", "passes"},
		{"ufw", new4, file(t, "ufw.rules"), "dropped", "dropped", "passes"},
		{"ufw allows", new4, strings.Replace(file(t, "ufw.rules"), "COMMIT", "-A ufw-user-forward -i mue+ -j ACCEPT\n-A ufw-user-forward -o mue+ -j ACCEPT\nCOMMIT", 1), "passes", "passes", "passes"},
		{"old ufw", old, file(t, "ufw.rules"), "dropped", "dropped", "passes"},
		{"old ufw allows", old, strings.Replace(file(t, "ufw.rules"), "COMMIT", "-A ufw-user-forward -i mue+ -j ACCEPT\n-A ufw-user-forward -o mue+ -j ACCEPT\nCOMMIT", 1), "passes", "passes", "passes"},
		{"tcp port", new4, filter + "-A FORWARD -p tcp -m tcp --dport 79:81 -j ACCEPT\nCOMMIT\n", "dropped", "passes", "passes"},
		{"old tcp port", old, filter + "-A FORWARD -p tcp -m tcp --dport 79:81 -j ACCEPT\nCOMMIT\n", "dropped", "passes", "passes"},
		{"multiport", new4, filter + "-A FORWARD -p tcp -m multiport --dports 22,80:90 -j ACCEPT\nCOMMIT\n", "dropped", "passes", "passes"},
		{"old multiport", old, filter + "-A FORWARD -p tcp -m multiport ! --dports 22,80:90 -j ACCEPT\nCOMMIT\n", "passes", "dropped", "dropped"},
		{"original port", new4, filter + "-A FORWARD -m conntrack --ctorigdstport 8080 -j ACCEPT\nCOMMIT\n", "dropped", "passes", "passes"},
		{"old original port", old, filter + "-A FORWARD -m conntrack --ctorigdstport 8080 --ctorigdst 192.0.2.2 -j ACCEPT\nCOMMIT\n", "dropped", "passes", "passes"},
		{"translated", new4, filter + "-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT\nCOMMIT\n", "dropped", "passes", "passes"},
		{"addresses", old, filter + "-A FORWARD -s 172.18.0.0/16 ! -d 10.0.0.0/8 -j ACCEPT\nCOMMIT\n", "depends", "dropped", "dropped"},
		{"not by interface", old, filter + "-A FORWARD ! -i eth+ -j ACCEPT\nCOMMIT\n", "passes", "dropped", "dropped"},
		{"chains", old, filter + ":A -\n:B -\n-A FORWARD -j A\n-A FORWARD -i eth0 -g B\n-A FORWARD -j ACCEPT\n-A A -i lo -j DROP\n-A A -j RETURN\n-A B -p udp -j ACCEPT\nCOMMIT\n", "passes", "dropped", "dropped"},
		{"range", new4, filter + "-A FORWARD -m iprange --src-range 172.18.0.0-172.19.0.0 -j ACCEPT\nCOMMIT\n", "passes", "dropped", "dropped"},
		{"rejecting", new4, "*filter\n-A FORWARD -i eth0 -m comment --comment \"keep out\" -j REJECT\nCOMMIT\n", "passes", "dropped", "dropped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			load(t, tt.rules, strings.Fields(tt.program)...)
			r := read(t)
			for _, p := range []struct {
				name, want string
				packet     ruleset.Packet
			}{
				{"out", tt.out, outward()},
				{"in", tt.in, published()},
				{"what follows", tt.later, change(published(), func(p *ruleset.Packet) { p.Established = true })},
			} {
				got := r.Ask(p.packet, nil, ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting)
				if fate(got) != p.want {
					t.Errorf("%s: %s (%s), want %s", p.name, fate(got), got.Rule, p.want)
				}
			}
		})
	}
}

// TestHangsOn: what an answer hangs on is told, and what only counts packets is no reason.
func TestHangsOn(t *testing.T) {
	forward := func(rules string) string {
		return "table inet mine {\nset s { type ifname . ipv4_addr; flags interval; elements = { \"eth0\" . 192.0.2.0/25 }\n}\nchain through { type filter hook forward priority 5\n" + rules + "\n}\n}"
	}
	for _, tt := range []struct {
		name, program, rules string
		addressed            bool
		reasons, rate        string
	}{
		{"an address", nft, forward("ip saddr 192.0.2.7 drop"), true, "", ""},
		{"an address, of another port", nft, forward("ip saddr 192.0.2.7 tcp dport 81 drop"), false, "", ""},
		{"an address, only counted", nft, forward("ip saddr 192.0.2.7 counter"), false, "", ""},
		{"an address beside the interface", nft, forward("iifname . ip saddr @s drop"), true, "", ""},
		{"of the flow", nft, forward("ct original ip saddr 192.0.2.7 drop"), true, "", ""},
		{"in a map", nft, forward("ip saddr vmap { 192.0.2.7 : drop, 192.0.2.8 : accept }"), true, "", ""},
		{"the source port", nft, forward("tcp sport 1-1023 drop"), false, "the source port", ""},
		{"the time", nft, forward("meta hour \"08:00\"-\"18:00\" drop"), false, "the time", ""},
		{"a mark, of which the order is turned", nft, forward("meta mark 1-5 drop"), false, "", ""},
		{"chance", new4, filter + "-P FORWARD ACCEPT\n-A FORWARD -m statistic --mode random --probability 0.5 -j DROP\nCOMMIT\n", false, "chance", ""},
		{"an expression", nft, forward("rt classid 7 drop"), false, "the expression rt", ""},
		{"a limit", nft, forward("policy drop\nlimit rate 5/second accept"), false, "", "rule 1 of inet mine through"},
		{"over a limit", nft, forward("limit rate over 5/second drop"), false, "", "rule 1 of inet mine through"},
		{"over a limit, only logged", nft, forward("limit rate over 5/second log"), false, "", ""},
		{"of iptables", new4, filter + "-P FORWARD ACCEPT\n-A FORWARD -m hashlimit --hashlimit-above 5/sec --hashlimit-mode srcip --hashlimit-name x -j DROP\nCOMMIT\n", false, "", "rule 1 of ip filter FORWARD"},
		{"too often", new4, filter + "-P FORWARD ACCEPT\n-A FORWARD -m recent --set\n-A FORWARD -m recent --update --seconds 30 --hitcount 6 -j DROP\nCOMMIT\n", false, "", "rule 2 of ip filter FORWARD"},
		{"been here", new4, filter + "-P FORWARD ACCEPT\n-A FORWARD -m recent --rcheck -j DROP\nCOMMIT\n", false, "who has been here before", ""},
		{"too many connections", old, filter + "-P FORWARD ACCEPT\n-A FORWARD -p tcp -m connlimit --connlimit-above 5 -j DROP\nCOMMIT\n", false, "", "rule 1 of iptables-legacy"},
		{"the old iptables, an address", old, filter + "-P FORWARD ACCEPT\n-A FORWARD ! -s 192.0.2.0/25 -j DROP\nCOMMIT\n", true, "", ""},
		{"the old iptables, a range", old, filter + "-P FORWARD ACCEPT\n-A FORWARD -m iprange --src-range 192.0.2.7-192.0.2.9 -j DROP\nCOMMIT\n", true, "", ""},
		{"the old iptables, of the flow", old, filter + "-P FORWARD ACCEPT\n-A FORWARD -m conntrack --ctorigsrc 192.0.2.7 -j DROP\nCOMMIT\n", true, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			load(t, tt.rules, strings.Fields(tt.program)...)
			got := read(t).Ask(published(), nil, ruleset.Prerouting, ruleset.Forward, ruleset.Postrouting)
			if got.Addressed != tt.addressed || strings.Join(got.Reasons, ", ") != tt.reasons || !strings.HasPrefix(got.Rate, tt.rate) || (got.Rate == "") != (tt.rate == "") {
				t.Errorf("got %+v", got)
			}
			if open := got.Passes && got.Dropped; open != (tt.addressed || tt.reasons != "") {
				t.Errorf("open: %v: %+v", open, got)
			}
		})
	}
}

// TestMarkGivenBefore: what a hook has marked is not unmarked where only later hooks are asked.
func TestMarkGivenBefore(t *testing.T) {
	load(t, "table inet mine {\nchain pre { type filter hook prerouting priority -150\nip saddr 192.0.2.0/24 meta mark set 7\n}\nchain through { type filter hook forward priority 5\nmeta mark 7 drop\n}\n}", strings.Fields(nft)...)
	if got := read(t).Ask(published(), nil, ruleset.Forward, ruleset.Postrouting); fate(got) != "depends" || strings.Join(got.Reasons, "") != "the packet's mark" {
		t.Errorf("got %+v", got)
	}
}

func TestOtherHooks(t *testing.T) {
	load(t, file(t, "ufw.rules"), new4)
	load(t, file(t, "ufw6.rules"), "ip6tables-nft-restore")
	r := read(t)
	in := ruleset.Packet{In: "eth0", Protocol: 6, DestinationPort: 22, Source: netip.MustParsePrefix("192.0.2.0/24"), ToLocal: true}
	for name, tt := range map[string]struct {
		want string
		p    ruleset.Packet
	}{
		"from outside":      {"dropped", in},
		"over loopback":     {"passes", change(in, func(p *ruleset.Packet) { p.In = "lo" })},
		"answer":            {"passes", change(in, func(p *ruleset.Packet) { p.Established = true })},
		"six, from outside": {"dropped", change(in, func(p *ruleset.Packet) { p.V6, p.Source = true, netip.Prefix{} })},
	} {
		got := r.Ask(tt.p, nil, ruleset.Prerouting, ruleset.Input)
		if fate(got) != tt.want {
			t.Errorf("%s: %s (%s)", name, fate(got), got.Rule)
		}
	}
	if f := r.Ask(in, nil, ruleset.Input); f.By == nil || f.By.String() != "ip filter INPUT" || !strings.Contains(f.Rule, "ip filter") {
		t.Errorf("got %v, %q", f.By, f.Rule)
	}
}

func TestOwnPacketsComeByLoopback(t *testing.T) {
	load(t, "table inet mine { chain in { type filter hook input priority 0\nfib saddr type != local tcp dport 8081 drop\n}\n}", "nft", "-f", "-")
	r := read(t)
	for in, want := range map[string]string{"lo": "passes", "eth0": "dropped"} {
		if got := r.Ask(ruleset.Packet{In: in, V6: true, Protocol: 6, DestinationPort: 8081, ToLocal: true}, nil, ruleset.Prerouting, ruleset.Input); fate(got) != want {
			t.Errorf("by %s: %s (%s), want %s", in, fate(got), got.Rule, want)
		}
	}
}

func TestFramesOfABridge(t *testing.T) {
	load(t, "table bridge mine { chain through { type filter hook forward priority 0\niifname \"muev1\" ip daddr 172.18.0.9 drop\n}\n}", "nft", "-f", "-")
	r := read(t)
	p := ruleset.Packet{Within: "mueb0", In: "muev1", Out: "muev2", Protocol: 6, Destination: netip.MustParsePrefix("172.18.0.9/32")}
	if got := r.Ask(p, nil, ruleset.Forward); !got.Certain() {
		t.Errorf("got %+v", got)
	}
	p.In = "muev3"
	if got := r.Ask(p, nil, ruleset.Forward); got.Dropped {
		t.Errorf("got %+v", got)
	}
}

func TestTellsTheRule(t *testing.T) {
	load(t, "*filter\n-A FORWARD -i lo -j ACCEPT\n-A FORWARD -i eth0 -m comment --comment \"keep out\" -j REJECT\nCOMMIT\n", new4)
	got := read(t).Ask(published(), nil, ruleset.Forward)
	if !strings.HasPrefix(got.Rule, "rule 2 of ip filter FORWARD (handle ") || !strings.HasSuffix(got.Rule, `"keep out"`) {
		t.Errorf("got %s", got.Rule)
	}
	// A rule that drops some of it is not why nothing gets through.
	load(t, "*filter\n:FORWARD DROP\n-A FORWARD -s 10.9.8.7 -j DROP\nCOMMIT\n", new4)
	if got := read(t).Ask(published(), nil, ruleset.Forward); !got.Certain() || got.Rule != "policy of ip filter FORWARD" {
		t.Errorf("got %+v", got)
	}
}

// TestBeginningOfAName: one question for all bridges whose names begin alike, unless a
// rule tells them apart.
func TestBeginningOfAName(t *testing.T) {
	forward := func(rules string) string {
		return "table inet mine {\nset names { type ifname; elements = { \"mueb7\" } }\nchain through { type filter hook forward priority 5\n" + rules + "\n}\n}"
	}
	for _, tt := range []struct {
		name, program, rules, out string
		named                     bool
	}{
		{"all of them", nft, forward("policy drop\niifname \"mue*\" accept"), "passes", false},
		{"others", nft, forward("policy drop\niifname \"docker0\" accept\niifname \"br-*\" accept"), "dropped", false},
		{"an interface by its number", nft, forward("policy drop\niif \"lo\" accept"), "dropped", false},
		{"not an interface by its number", nft, forward("iif != \"lo\" drop"), "dropped", false},
		{"one of them", nft, forward("policy drop\niifname \"mueb7\" accept"), "depends", true},
		{"in a set", nft, forward("iifname @names drop"), "depends", true},
		{"some of them", nft, forward("iifname \"mueb*\" drop"), "depends", true},
		{"after another", nft, forward("iifname \"docker0\" oifname \"mueb7\" drop"), "passes", false},
		{"an address", nft, forward("ip daddr 192.0.2.77 drop"), "depends", false},
		{"old, all of them", old, filter + "-A FORWARD -i mue+ -j ACCEPT\nCOMMIT\n", "passes", false},
		{"old, others", old, filter + "-A FORWARD -i docker0 -j ACCEPT\n-A FORWARD ! -i eth+ -o lo -j ACCEPT\nCOMMIT\n", "dropped", false},
		{"old, one of them", old, filter + "-A FORWARD -i mueb7 -j ACCEPT\nCOMMIT\n", "depends", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			load(t, tt.rules, strings.Fields(tt.program)...)
			got := read(t).Ask(change(outward(), func(p *ruleset.Packet) { p.In, p.Source = "mue*", netip.Prefix{} }), nil, ruleset.Forward)
			if fate(got) != tt.out || got.Named != tt.named {
				t.Errorf("%s, named %v (%s), want %s, %v", fate(got), got.Named, got.Rule, tt.out, tt.named)
			}
		})
	}
}

// TestLegacyDigest: it changes with rules and policies, and not with what is counted.
func TestLegacyDigest(t *testing.T) {
	digest := func() uint64 {
		t.Helper()
		d, err := ruleset.LegacyDigest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	load(t, filter+"COMMIT\n", old)
	seen := map[uint64]string{digest(): "at first"}
	for _, args := range []string{"-A FORWARD -i docker0 -j ACCEPT", "-P FORWARD ACCEPT", "-N MINE", "-I INPUT -p tcp --dport 80 -j MINE", "-D FORWARD 1"} {
		run(t, "iptables-legacy", strings.Fields(args)...)
		d := digest()
		if before, ok := seen[d]; ok || d == 0 {
			t.Errorf("after %s it is as %s", args, before)
		}
		seen[d] = "after " + args
	}
	before := digest()
	run(t, "iptables-legacy", "-L", "-n")
	run(t, "ip", "link", "set", "lo", "up")
	run(t, "ping", "-c", "1", "127.0.0.1")
	if !strings.Contains(run(t, "iptables-legacy-save", "-c"), ":OUTPUT ACCEPT [") || digest() != before {
		t.Error("it changes by itself")
	}
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}
