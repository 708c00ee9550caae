//go:build root

package exposure

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/network"
)

func run(t testing.TB, in string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%.2000s\n%.3000s", args, err, out, in)
	}
}

// uplinked gives the namespace a link to others.
func uplinked(t testing.TB) {
	run(t, `link set lo up
link add uplink type veth peer name far
link set far up
link set uplink up
addr add 192.0.2.1/24 dev uplink
addr add 8.8.4.2/24 dev uplink
addr add fd00:7::1/64 dev uplink nodad
addr add 2a02:c207::2/64 dev uplink nodad
route add default via 192.0.2.9
`, "ip", "-batch", "-")
	t.Cleanup(func() { run(t, "link del uplink\n", "ip", "-batch", "-") })
}

// dice make rules up.
type dice struct{ *rand.Rand }

func (d dice) of(list ...string) string { return list[d.IntN(len(list))] }

// Few values, so that rules and targets meet.
func (d dice) port() int       { return []int{80, 81, 88, 255, 256, 443, 8080, 8081, 8090}[d.IntN(9)] }
func (d dice) four() string    { return "172.17.0." + d.of("2", "3", "4", "130") }
func (d dice) six() string     { return "fd00:9::" + d.of("2", "3", "4", "8002") }
func (d dice) ports() string   { p := d.port(); return fmt.Sprintf("%d-%d", p, p+d.IntN(9)+1) }
func (d dice) anyPort() string { return d.of(fmt.Sprint(d.port()), d.ports()) }
func (d dice) many(n int, f func() string) string {
	var list []string
	for range 1 + d.IntN(n) {
		if one := f(); !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return strings.Join(list, ", ")
}

// match is what a rule of nft asks.
func (d dice) match() string {
	port := func() string { return fmt.Sprint(d.port()) }
	field := d.of("th dport", "th dport", "th sport", "ct original proto-dst")
	if strings.HasPrefix(field, "th") {
		field = "meta l4proto { tcp, udp, sctp } " + field
	} else {
		field = "meta l4proto tcp " + field
	}
	not := d.of("", "", "!= ")
	switch d.IntN(19) {
	case 0, 1:
		return fmt.Sprintf("%s %s%d", field, d.of("", "!= ", "< ", "> ", "<= ", ">= "), d.port())
	case 2:
		return fmt.Sprintf("%s %s%s", field, not, d.ports())
	case 3:
		return fmt.Sprintf("%s %s{ %s }", field, not, d.many(12, port))
	case 4:
		from := 0
		return fmt.Sprintf("%s %s{ %s }", field, not, d.many(4, func() string { from += 40 + d.IntN(300); return fmt.Sprintf("%d-%d", from, from+d.IntN(30)+1) }))
	case 5:
		return fmt.Sprintf("meta l4proto tcp th dport & %s == %d", d.of("0xff", "0xff00", "0x0f0f"), d.port()&0xff00)
	case 6:
		return fmt.Sprintf("ip %s %s%s", d.of("daddr", "saddr"), not, d.of(d.four(), d.four()+"/31", "172.17.0.0/25", "172.17.0.0/24", "172.16.0.0/12", "172.17.0.2-172.17.0.3", "203.0.113.0/24", "192.0.2.7"))
	case 7:
		return fmt.Sprintf("ip6 %s %s%s", d.of("daddr", "saddr"), not, d.of(d.six(), d.six()+"/127", "fd00:9::/113", "fd00::/8", "2a02:c207::/40"))
	case 8:
		return fmt.Sprintf("ip %s %s{ %s }", d.of("daddr", "saddr"), not, d.many(5, d.four))
	case 9:
		return fmt.Sprintf("ip daddr . th dport %s{ %s }", not, d.many(12, func() string { return d.four() + " . " + port() }))
	case 10:
		return fmt.Sprintf("ip saddr . ip daddr %s{ %s }", not, d.many(3, func() string { a := d.four(); return a + " . " + a }))
	case 11:
		return fmt.Sprintf("meta l4proto . th dport %s{ %s }", not, d.many(12, func() string { return d.of("tcp", "udp") + " . " + port() }))
	case 12:
		return fmt.Sprintf("ct original ip daddr %s%s", not, d.of("192.0.2.1", "192.0.0.0/16", d.four()))
	case 13:
		return fmt.Sprintf("ct original ip saddr %s%s", not, d.of("192.0.2.7", "192.0.2.128/25", d.four()+"/31"))
	case 14:
		return fmt.Sprintf("ip daddr & 0.0.0.%d == 0.0.0.%d", 3, d.IntN(4))
	case 15:
		return "meta l4proto tcp " + d.of("@th,16,8 0x1f", "@th,24,8 0x50", "@th,24,8 0x00", "@th,0,32 0x50")
	case 16:
		return "meta protocol ip " + d.of("@nh,152,8 3", "@nh,152,8 != 2", "@nh,120,8 3", "@nh,128,24 0xac1100", "@nh,96,64 0xac110002c0000207")
	case 17:
		return fmt.Sprintf("meta l4proto tcp meta mark set th dport map { %s }", d.many(3, func() string { return fmt.Sprintf("%d : %d", d.port(), 7) })) + " meta mark " + d.of("7", "8")
	}
	return fmt.Sprintf("iifname . oifname %s{ \"uplink\" . \"br%d\", \"br1\" . \"uplink\" }", not, 1+d.IntN(2))
}

func (d dice) rule() string {
	line := d.of("", "", "iifname \"uplink\" ", "ct state new ") + d.match()
	if d.IntN(4) == 0 && !strings.Contains(line, "ip6") {
		if more := d.match(); !strings.Contains(more, "ip6") {
			line += " " + more
		}
	}
	if d.IntN(6) == 0 {
		from := map[string]bool{}
		return "meta l4proto tcp th dport vmap { " + d.many(12, func() string {
			p := fmt.Sprint(d.port())
			if from[p] {
				p = fmt.Sprint(9000 + len(from))
			}
			from[p] = true
			return p + " : " + d.of("accept", "drop", "jump other", "continue")
		}) + " }"
	}
	return line + " " + d.of("accept", "drop", "drop", "jump other", "return", "notrack", "limit rate over 5/second drop")
}

func (d dice) rules(n int, f func() string) string {
	var b strings.Builder
	for range n {
		b.WriteString(f() + "\n")
	}
	return b.String()
}

func (d dice) table() string {
	var b strings.Builder
	nat := fmt.Sprintf("map ports { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { %s } }\n", strings.Join(mapped(), ", "))
	fmt.Fprintf(&b, "table inet mine {\n%schain other {\n%s}\n", nat, strings.ReplaceAll(d.rules(2, d.rule), "jump other", "accept"))
	b.WriteString("chain nat { type nat hook prerouting priority dstnat\nfib daddr type local dnat ip to meta l4proto . th dport map @ports\n}\n")
	// Else nothing comes back.
	b.WriteString(d.of("", "chain first { type filter hook forward priority -200\nct state established accept\n}\n"))
	for _, hook := range []string{"prerouting", "input", "forward", "output", "postrouting"} {
		if d.IntN(2) == 0 {
			fmt.Fprintf(&b, "chain %s { type filter hook %s priority %d; policy %s;\n%s}\n", hook, hook, []int{-300, -150, 0, 50}[d.IntN(4)], d.of("accept", "accept", "drop"), d.rules(1+d.IntN(4), d.rule))
		}
	}
	return b.String() + "}\n"
}

// mapped are the elements by which ports are translated.
func mapped() (list []string) {
	for i, p := range []int{80, 81, 88, 256, 443, 8080, 8081, 8090, 9000} {
		list = append(list, fmt.Sprintf("tcp . %d : 172.17.0.%d . %d", p, 2+i%3, p))
	}
	return list
}

// old are rules of iptables, for the old one and that of nft.
func (d dice) old() string {
	match := func() string {
		switch d.IntN(8) {
		case 0:
			return "-p tcp -m tcp " + d.of("", "! ") + "--dport " + strings.Replace(d.anyPort(), "-", ":", 1)
		case 1:
			return "-p tcp -m tcp --sport " + strings.Replace(d.anyPort(), "-", ":", 1)
		case 2:
			return "-p tcp -m multiport " + d.of("", "! ") + d.of("--dports ", "--sports ", "--ports ") + strings.ReplaceAll(strings.ReplaceAll(d.many(4, d.anyPort), "-", ":"), " ", "")
		case 3:
			return "-p tcp -m conntrack " + d.of("", "! ") + "--ctorigdstport " + strings.Replace(d.anyPort(), "-", ":", 1)
		case 4:
			return "-m conntrack " + d.of("", "! ") + d.of("--ctorigdst ", "--ctorigsrc ") + d.of("192.0.2.1", "192.0.2.0/25", d.four()+"/31")
		case 5:
			return "-m iprange " + d.of("", "! ") + d.of("--dst-range ", "--src-range ") + d.of("172.17.0.2-172.17.0.3", "172.17.0.3-172.17.1.0", "192.0.2.7-192.0.2.70")
		}
		return d.of("", "! ") + d.of("-d ", "-s ") + d.of(d.four(), d.four()+"/31", "172.16.0.0/12", "192.0.2.128/25")
	}
	return "*filter\n:INPUT ACCEPT\n:FORWARD " + d.of("ACCEPT", "DROP") + "\n:OUTPUT ACCEPT\n:mine -\n" + d.rules(1+d.IntN(5), func() string {
		return "-A " + d.of("INPUT", "INPUT -i uplink", "FORWARD", "FORWARD -i uplink", "OUTPUT", "mine") + " " + match() + " -j " + d.of("ACCEPT", "DROP", "RETURN")
	}) + "-A FORWARD -j mine\nCOMMIT\n"
}

// targets are ports of containers, relays, listeners and containers' own addresses.
func (d dice) targets(n int) (list []target) {
	address := func(own bool) netip.Addr {
		if own {
			return netip.MustParseAddr(d.of("0.0.0.0", "0.0.0.0", "::", "192.0.2.1", "127.0.0.1", "fd00:7::1"))
		}
		return netip.MustParseAddr(d.of(d.four(), d.four(), d.six()))
	}
	port := func() uint16 {
		if d.IntN(3) == 0 {
			return uint16(1 + d.IntN(65535))
		}
		return uint16(d.port() + d.IntN(3) - 1)
	}
	for range n {
		t := target{protocol: []uint8{unix.IPPROTO_TCP, unix.IPPROTO_TCP, unix.IPPROTO_UDP}[d.IntN(3)], host: netip.AddrPortFrom(address(true), port())}
		if d.IntN(8) > 0 {
			t.to, t.bridge = netip.AddrPortFrom(address(false), port()), "br"+d.of("1", "2")
			if d.IntN(4) == 0 {
				t.own, t.host = true, netip.AddrPort{}
			}
		} else {
			t.both = t.host.Addr().Is6() && t.host.Addr().IsUnspecified()
		}
		list = append(list, t)
	}
	return list
}

// TestClasses: what is found for a target by way of others is what is found for it alone.
func TestClasses(t *testing.T) {
	uplinked(t)
	shared, all, depends := 0, 0, 0
	for seed := range uint64(20) {
		d := dice{rand.New(rand.NewPCG(seed, 7))}
		text, program := d.table(), []string{"nft", "-f", "-"}
		switch seed % 4 {
		case 2:
			text, program = d.old(), []string{"iptables-legacy-restore"}
		case 3:
			text, program = d.old(), []string{"iptables-nft-restore"}
		}
		run(t, text, program...)
		f, err := ReadFilters(network.Snapshot{}, true)
		if err != nil {
			t.Fatal(err)
		}
		f.all.forwards6 = seed%2 == 0
		plain := *f.all
		plain.classes = nil
		targets := d.targets(80)
		for _, to := range targets {
			var got, want api.ExposedPort
			f.all.judge(&got, to)
			plain.judge(&want, to)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Fatalf("rules %d, %+v: %s\n%s", seed, to, diff, text)
			}
			if want.Partly {
				depends++
			}
		}
		all += len(targets)
		for _, list := range f.all.classes.known {
			shared += len(list)
		}
		if strings.Contains(program[0], "legacy") {
			run(t, "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n", program...)
		}
		run(t, "flush ruleset\n", "nft", "-f", "-")
	}
	t.Logf("%d targets, %d classes, %d answers by source", all, shared, depends)
	if all-shared < all/5 {
		t.Errorf("%d targets were of %d classes: little is held", all, shared)
	}
}

// TestClassesOfPorts: many ports of one container are few classes.
func TestClassesOfPorts(t *testing.T) {
	uplinked(t)
	var elements []string
	for p := 20000; p < 21000; p++ {
		elements = append(elements, fmt.Sprintf("tcp . %d : 172.17.0.2 . %d", p, p))
	}
	run(t, "table inet mine { map ports { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { "+strings.Join(elements, ", ")+` } }
chain nat { type nat hook prerouting priority dstnat
fib daddr type local dnat ip to meta l4proto . th dport map @ports
}
chain through { type filter hook forward priority 0
ct state new meta l4proto tcp ct original proto-dst 20500-20599 ip saddr != 192.0.2.128/25 drop
}
}`, "nft", "-f", "-")
	h, err := readHost(network.Snapshot{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	partly := 0
	for p := uint16(20000); p < 21000; p++ {
		var got api.ExposedPort
		h.judge(&got, target{
			protocol: unix.IPPROTO_TCP, host: netip.AddrPortFrom(netip.IPv4Unspecified(), p), to: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 17, 0, byte(2 + p%20)}), p), bridge: "br1",
		})
		if got.Partly {
			partly++
		}
	}
	if len(h.classes.known) != 1 || partly != 100 {
		t.Errorf("%d shapes, %d partly", len(h.classes.known), partly)
	}
	for _, list := range h.classes.known {
		if len(list) != 3 {
			t.Errorf("%d classes", len(list))
		}
	}
}
