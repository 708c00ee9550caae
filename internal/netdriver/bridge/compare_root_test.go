//go:build root

package bridge

import (
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// filled is a firewall with some of everything, written.
func filled(t *testing.T) *firewall {
	t.Helper()
	if err := rtnl.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	f := newFirewall("1a2b3c4d", slog.New(slog.DiscardHandler))
	f.recovering, f.guarded, f.advertised = false, [2]bool{true, true}, map[string]bool{"eth0": true, "default": true}
	f.bridges["mueb1"] = bridgeRules{name: "mueb1", internal: true}
	f.bridges["mueb2"] = bridgeRules{name: "mueb2", masquerade: true, icc: true}
	f.bridges["mueb3"] = bridgeRules{name: "mueb3", icc: true, zone: zoneRules{
		zone:    api.Zone{Publish: "lan", Egress: []string{"192.0.2.0/24", "example.org"}},
		subnets: []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16")}, gates: []netip.Addr{netip.MustParseAddr("172.18.0.1")},
	}}
	for _, m := range []netdriver.Mapping{
		{Protocol: "tcp", Host: netip.MustParseAddrPort("0.0.0.0:8080"), Targets: []netip.AddrPort{netip.MustParseAddrPort("172.18.0.2:80")}},
		{Protocol: "tcp", Host: netip.MustParseAddrPort("127.0.0.1:8081"), Targets: []netip.AddrPort{netip.MustParseAddrPort("172.18.0.2:80")}},
		{Protocol: "udp", Host: netip.MustParseAddrPort("[::]:8080"), Targets: []netip.AddrPort{netip.MustParseAddrPort("[fd00::2]:80")}},
		{Protocol: "tcp", Host: netip.MustParseAddrPort("0.0.0.0:9090"), Targets: []netip.AddrPort{netip.MustParseAddrPort("172.18.0.2:80"), netip.MustParseAddrPort("172.18.0.3:80")}},
	} {
		f.ports[keyOf(m)] = m
	}
	f.spoof.note(guardedPort{name: "muev1a2b000", mac: []byte{2, 0, 0, 0, 0, 1}, addresses: []netip.Addr{netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("fd00::2")}})
	if err := f.replace(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.transaction(func(c *nftables.Conn) error { c.FlushRuleset(); return nil }); err != nil {
			t.Error(err)
		}
	})
	return f
}

// TestLost: what was written is found again as it was written; and whatever of it is
// taken away is missed.
func TestLost(t *testing.T) {
	f := filled(t)
	nft := func(args string) string {
		out, err := exec.Command("nft", args).CombinedOutput()
		if err != nil {
			t.Fatalf("nft %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	lost := func() string {
		text, err := f.lost()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := lost(); got != "" {
		t.Fatalf("of what has just been written: %s\n%s", got, nft("list ruleset"))
	}
	const table = "inet muelle-1a2b3c4d"
	want, err := record(func(c *nftables.Conn) error { return f.fill(c, newTable(f.name)) })
	if err != nil {
		t.Fatal(err)
	}
	commands := []string{"flush ruleset", "flush table " + table, "delete table " + table}
	for id, w := range want {
		table := table
		if nftables.TableFamily(id.family) == nftables.TableFamilyBridge {
			table = strings.Replace(table, "inet", "bridge", 1)
		}
		for name, elements := range w.sets {
			// nft takes one of the names for a word of its language.
			if len(elements) > 0 && !strings.HasPrefix(name, "__") && name != "masquerade" {
				kind := "set "
				for _, value := range elements {
					if value != "" {
						kind = "map "
					}
				}
				commands = append(commands, "flush "+kind+table+" "+name)
			}
		}
		for name, rules := range w.chains {
			if len(rules) > 1 {
				commands = append(commands, "flush chain "+table+" "+name)
			}
		}
	}
	slices.Sort(commands)
	commands = append(commands,
		"delete element "+table+` bridges { "mueb1" }`,
		"delete element "+table+` ports { tcp . 8080 }`,
		"delete element "+table+` ports { tcp . 8080 }; add element `+table+` ports { tcp . 8080 : 172.18.0.9 . 80 }`,
		"insert rule "+table+" forward accept",
	)
	for _, command := range commands {
		nft(command)
		if lost() == "" {
			t.Errorf("after %q nothing is missed", command)
		}
		if err := f.mend(); err != nil {
			t.Fatalf("after %q: %v", command, err)
		}
		if got := lost(); got != "" {
			t.Fatalf("after %q and mending: %s", command, got)
		}
	}
	if f.incomparable != "" {
		t.Error(f.incomparable)
	}
}

// TestChangedWhileMending: what somebody takes between writing and looking again is not
// taken for what the kernel does not give back, and is written again.
func TestChangedWhileMending(t *testing.T) {
	f := filled(t)
	bridges := newTable(f.name).bridges
	done := make(chan error, 1)
	go func() {
		var err error
		for range 300 {
			terr := f.transaction(func(c *nftables.Conn) error { c.FlushSet(bridges); return nil })
			if terr != nil {
				err = terr
			}
		}
		done <- err
	}()
	for busy := true; busy; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			busy = false
		default:
		}
		if err := f.mend(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.lost(); err != nil || got != "" {
		t.Errorf("%v, after mending: %s", err, got)
	}
}

// TestOwnGeneration: what this process does is not taken for somebody else's doing.
func TestOwnGeneration(t *testing.T) {
	f := newFirewall("1a2b3c4d", slog.New(slog.DiscardHandler))
	own, err := f.spoof.sender()
	if err != nil {
		t.Fatal(err)
	}
	defer f.spoof.close()
	conn, err := listen(own)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := f.replace(); err != nil {
		t.Fatal(err)
	}
	// Of what comes and goes with containers there is no news at all.
	if err := f.spoof.guard(guardedPort{name: "muev1a2b000", mac: []byte{2, 0, 0, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	w := newWatch(f, f.log)
	for _, tt := range []struct {
		command string
		want    news
	}{
		{"", news{}},
		{"add table ip others", news{others: true}},
		{"add table inet muelle-ffffffff", news{}}, // another daemon's
		{"add element inet muelle-1a2b3c4d bridges { other0 }", news{ours: true}},
		{"delete table bridge muelle-1a2b3c4d", news{ours: true}},
		{"flush ruleset", news{ours: true, others: true}},
	} {
		if tt.command != "" {
			if out, err := exec.Command("nft", tt.command).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}
		var open, done news
		for ended := false; !ended; {
			list, err := conn.Receive()
			if err != nil {
				t.Fatal(err)
			}
			done.add(w.transactions(list, &open))
			ended = slices.ContainsFunc(list, func(m netlink.Message) bool { return m.Header.Type&0xff == unix.NFT_MSG_NEWGEN })
		}
		if done != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.command, done, tt.want)
		}
	}
}
