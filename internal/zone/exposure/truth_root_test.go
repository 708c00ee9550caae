//go:build root

package exposure_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/netns/netnstest"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
	"muelle/internal/zone/exposure"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

const host, near, other = "192.0.2.1", "192.0.2.2", "192.0.2.77"

// bridged makes an uplink that is a bridge, with one port, to a neighbour of two addresses.
func bridged(t *testing.T) *os.File {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(rtnl.LoopbackUp())
	lan, err := netns.New(rtnl.LoopbackUp)
	must(err)
	t.Cleanup(func() { lan.Close() })
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "lan0", PeerNamespace: netlink.NsFd(int(lan.Fd()))}))
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch0"}}
	must(netlink.LinkAdd(bridge))
	t.Cleanup(func() {
		for _, name := range []string{"switch0", "eth0"} {
			if err := rtnl.Delete(name); err != nil {
				t.Error(err)
			}
		}
	})
	port, err := netlink.LinkByName("eth0")
	must(err)
	must(netlink.LinkSetMaster(port, bridge))
	must(rtnl.Up("eth0"))
	must(netns.Do(lan, func() error {
		return rtnl.Configure("lan0", []netip.Prefix{netip.MustParsePrefix(near + "/24"), netip.MustParsePrefix(other + "/24")})
	}))
	must(rtnl.Configure("switch0", []netip.Prefix{netip.MustParsePrefix(host + "/24")}, netip.MustParseAddr(near)))
	return lan
}

// connects tells whether a neighbour's address gets to the listener.
func connects(lan *os.File, from string, patience time.Duration) bool {
	return netns.Do(lan, func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := d.Dial("tcp4", host+":8080")
		if err == nil {
			err = conn.Close()
		}
		return err
	}) == nil
}

// TestTruth: what is told of a listener of this host's is held against connections, under
// rules and programs at places that only packets of a link meet.
func TestTruth(t *testing.T) {
	lan := bridged(t)
	l, err := net.Listen("tcp4", host+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	at := func(family, hook, rules string) string {
		return "table " + family + " test {\nchain c { type filter hook " + hook + "\n" + rules + "\n}\n}\n"
	}
	const input = "input priority 0; policy drop;"
	raw := func(rules string) string { return at("ip", "prerouting priority -300;", rules) }
	for _, tt := range []struct {
		name, rules string
		commands    []string
		depends     bool // and then connections are not asked
		says        string
	}{
		{name: "nothing"},
		{name: "frames to this host", rules: at("bridge", "input priority 0;", "tcp dport 8080 drop"), says: "bridge test c"},
		{name: "frames of another protocol", rules: at("bridge", "input priority 0;", "udp dport 8080 drop")},
		{name: "frames of one", rules: at("bridge", "prerouting priority 0;", "ip saddr "+other+" tcp dport 8080 drop"), says: "bridge test c"},
		{name: "frames by a port", rules: at("bridge", "prerouting priority 0;", "iifname eth0 tcp dport 8080 drop"), says: "bridge test c"},
		{name: "frames by another port", rules: at("bridge", "prerouting priority 0;", "iifname eth1 drop")},
		{name: "frames switched on", rules: at("bridge", "forward priority 0; policy drop;", "")},
		{name: "the answer's frames", rules: at("bridge", "output priority 0;", "oifname eth0 tcp sport 8080 drop"), says: "bridge test c"},
		{name: "after that", rules: at("bridge", "postrouting priority 0;", "ip daddr "+other+" drop"), says: "bridge test c"},
		{name: "what comes by the port", rules: at("netdev", "ingress device eth0 priority 0;", "ip saddr "+near+" tcp dport 8080 drop"), says: "netdev test c"},
		{name: "what comes by the bridge", rules: at("netdev", "ingress device switch0 priority 0;", "tcp dport 8080 drop"), says: "netdev test c"},
		{name: "what leaves by the port", rules: at("netdev", "egress device eth0 priority 0;", "ip daddr "+other+" tcp sport 8080 drop"), says: "netdev test c"},
		{name: "what leaves by the bridge", rules: at("netdev", "egress device switch0 priority 0;", "tcp sport 8080 drop"), says: "netdev test c"},
		{name: "what leaves by another", rules: at("netdev", "egress device lo priority 0;", "drop")},
		{name: "untracked, stateful", rules: raw("tcp dport 8080 notrack") + at("inet", input, "ct state new,established accept"), says: "inet test c"},
		{name: "untracked, allowed", rules: raw("tcp dport 8080 notrack") + at("inet", input, "ct state untracked accept")},
		{name: "one untracked", rules: raw("ip saddr "+other+" tcp dport 8080 notrack") + at("inet", input, "ct state new,established accept"), says: "inet test c"},
		{name: "all but one untracked", rules: raw("ip saddr "+other+" accept\nnotrack") + at("inet", input, "ct state new,established accept"), says: "inet test c"},
		{name: "untracked at the port", rules: at("netdev", "ingress device eth0 priority 0;", "tcp dport 8080 notrack") + at("inet", input, "ct state new,established accept"), says: "inet test c"},
		{name: "untracked too late", rules: at("ip", "prerouting priority -150;", "notrack") + at("inet", input, "ct state new,established accept")},
		{name: "the answer to what is untracked", rules: raw("tcp dport 8080 notrack") + at("inet", "output priority 0;", "ct state invalid drop"), says: "inet test c"},
		{name: "the answer untracked", rules: at("ip", "output priority -300;", "tcp sport 8080 notrack") + at("inet", "postrouting priority 0;", "ct state untracked drop"), says: "inet test c"},
		{name: "a filter of tc", commands: []string{"tc qdisc add dev eth0 clsact", "tc filter add dev eth0 ingress protocol ip bpf da bytecode 1,6_0_0_2,"}, depends: true, says: "the tc filter"},
		{name: "a filter of tc, leaving", commands: []string{"tc qdisc add dev switch0 clsact", "tc filter add dev switch0 egress protocol ip bpf da bytecode 1,6_0_0_2,"}, depends: true, says: "on switch0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := func(in string, args ...string) {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Stdin = strings.NewReader(in)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %v: %s", args, err, out)
				}
			}
			// A port that an earlier case's connection had would be known to the kernel still.
			if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
				t.Fatal(err)
			}
			run(tt.rules, "nft", "-f", "-")
			defer run("flush ruleset", "nft", "-f", "-")
			for _, c := range tt.commands {
				args := strings.Fields(c)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "_", " ")
				}
				run("", args...)
				if args[1] == "qdisc" {
					defer run("", "tc", "qdisc", "del", "dev", args[4], "clsact")
				}
			}
			f, err := exposure.ReadFilters(network.Snapshot{}, false)
			if err != nil {
				t.Fatal(err)
			}
			target := exposure.Target{Protocol: "tcp", Host: netip.MustParseAddrPort(host + ":8080")}
			whole, _ := f.Sources(exposure.Who{LAN: true}, false, target)
			if text := fmt.Sprint(whole.Drops, whole.DependsOn); tt.says != "" && !strings.Contains(text, tt.says) || tt.says == "" && len(whole.Drops) > 0 {
				t.Errorf("it says %s, want %q", text, tt.says)
			}
			for _, from := range []string{near, other} {
				told, _ := f.Sources(exposure.Who{LAN: true, Addr: netip.MustParseAddr(from)}, false, target)
				patience := 250 * time.Millisecond
				if len(told.Pass) > 0 {
					patience = 20 * time.Second // it is to be made, however busy the machine is
				}
				reaches := connects(lan, from, patience)
				switch {
				case len(told.Open) > 0 != tt.depends:
					t.Errorf("%s: it depends: %+v", from, told)
				case !tt.depends && reaches != (len(told.Pass) > 0):
					t.Errorf("%s: told %+v, and a connection is made: %v", from, told, reaches)
				case tt.depends && reaches:
					t.Errorf("%s: the filter does nothing", from)
				}
			}
		})
	}
}
