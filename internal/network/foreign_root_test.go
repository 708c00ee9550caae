//go:build root

package network_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/events"
	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
)

// nft loads a ruleset, as another program on the host does.
func (w *world) nft(rules string) {
	w.Helper()
	file := filepath.Join(w.TempDir(), "rules.nft")
	must(w.TB, os.WriteFile(file, []byte(rules), 0o600))
	run(w.TB, "nft", "-f", file)
}

const docker = `table ip filter {
	chain DOCKER-USER { }
	chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
}`

func TestBesideDocker(t *testing.T) {
	w := newWorld(t)
	w.Cleanup(func() { run(t, "nft", "flush ruleset") })
	w.nft(docker)
	w.network("front")
	a, b := w.start(published(spec("a", "front"), "8080->80/tcp")), w.start(spec("b", "front"))
	w.serve(a.NetNS, "tcp", ":80", "a")
	w.serve(w.lan, "tcp", ":80", "lan")
	check := func() {
		t.Helper()
		w.reaches(b.NetNS, "tcp4", w.address(a, "front")+":80", "a")
		w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "a")
		w.reaches(b.NetNS, "tcp4", neighbourOnLAN+":80", "lan")
		w.cannotReach(w.lan, "tcp4", w.address(b, "front")+":80")
	}
	check()
	if list := w.Warnings(); len(list) > 0 {
		t.Errorf("got warnings: %q", list)
	}
	// Docker starts again, and somebody flushes everything.
	for _, again := range []string{"flush ruleset\n" + docker, "delete table ip filter\n" + docker, "flush table inet muelle-1a2b3c4d"} {
		w.nft(again)
		w.eventually(func() error {
			if out := run(t, "nft", "list", "ruleset"); strings.Count(out, "added by muelle-1a2b3c4d") != 2 || !strings.Contains(out, "oifname @bridges ct status dnat accept") {
				return fmt.Errorf("rules are not back:\n%s", out)
			}
			return nil
		})
		check()
	}
	// Frames inside the bridge pass that chain too.
	if rtnl.SysctlIs("bridge/bridge-nf-call-iptables", 0) {
		t.Log("bridge-nf-call-iptables is off here")
	}
}

func TestForeignFirewallIsReported(t *testing.T) {
	for _, tc := range []struct{ name, rules, want string }{
		{"policy", "table inet mine { chain through { type filter hook forward priority 5\n policy drop\n }\n}",
			`nft insert rule inet mine through iifname "mue*" accept && nft insert rule inet mine through oifname "mue*" accept`},
		{"last rule", "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10\n ct state established accept; reject with icmpx admin-prohibited\n }\n}",
			"firewall-cmd --permanent --zone=trusted --add-interface=mue+ && firewall-cmd --reload"},
		{"mended", "table inet mine { chain through { type filter hook forward priority 5\n policy drop; iifname \"mue*\" accept; oifname \"mue*\" accept\n }\n}", ""},
		{"harmless", "table ip mine { chain through { type filter hook forward priority 5\n ip daddr 192.0.2.77 drop\n }\n}", ""},
		{"another hook", "table ip mine { chain in { type filter hook input priority 5\n policy drop; ct state established accept\n }\n}", ""},
		{"answers to the host", "table ip mine { chain in { type filter hook input priority 5\n policy drop\n }\n}",
			`nft insert rule ip mine in iifname "mue*" ct state established,related accept`},
		{"jumps", "table ip mine { chain no { reject\n }\nchain through { type filter hook forward priority 5\n ct state established accept; oifname \"mue*\" jump no\n }\n}",
			`; rule 1 of ip mine no`},
		{"flushed beside Docker", "table ip filter { chain DOCKER-USER { }\nchain FORWARD { type filter hook forward priority 0\n policy drop\n }\n}",
			`to allow it: iptables -I FORWARD -i mue+ -j ACCEPT && iptables -I FORWARD -o mue+ -j ACCEPT`},
		{"one direction", "table ip mine { chain through { type filter hook forward priority 5\n iifname \"mue*\" ct state new drop\n }\n}",
			`to allow it: nft insert rule ip mine through iifname "mue*" accept`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
			w := newWorld(t)
			w.nft(tc.rules)
			t.Cleanup(func() { run(t, "nft", "flush ruleset") })
			check := func() {
				t.Helper()
				list := w.Warnings()
				if tc.want == "" && len(list) > 0 || tc.want != "" && (len(list) != 1 || !strings.Contains(list[0], tc.want)) {
					t.Errorf("got %q, want %q", list, tc.want)
				}
			}
			check()
			w.start(spec("a", "bridge"))
			w.start(spec("b", "bridge"))
			check()
			if logged := strings.Count(w.log.String(), "level=WARN"); tc.want != "" && logged != 1 {
				t.Errorf("logged %d times:\n%s", logged, w.log)
			}
		})
	}
}

func TestForwardingOfOthers(t *testing.T) {
	w := newWorld(t)
	// A second neighbour, which the host must not connect with the first.
	w.start(spec("c", "bridge"))
	if !rtnl.SysctlIs("ipv4/ip_forward", 1) {
		t.Error("ip_forward is not on")
	}
	if out := run(t, "nft", "list", "chain", "inet", "muelle-1a2b3c4d", "forwarding-guard"); !strings.Contains(out, "drop") {
		t.Errorf("no guard:\n%s", out)
	}
	// A second instance takes over the duty to switch it off.
	o := w.options
	o.Instance, o.Root = "ffff0000", t.TempDir()
	second, err := network.Open(context.Background(), o)
	must(t, err)
	sb, err := second.Prepare(context.Background(), spec("d", "bridge"))
	must(t, err)
	if a := sb.Endpoints["bridge"].IPAddress.String(); strings.HasPrefix(a, "172.17.") {
		t.Errorf("two instances share a subnet: %s", a)
	}
	for id := range w.shims {
		w.stop(id)
	}
	must(t, w.Service.Close(context.Background()))
	if !rtnl.SysctlIs("ipv4/ip_forward", 1) {
		t.Error("ip_forward was put back although the other instance needs it")
	}
	must(t, sb.Close())
	must(t, second.Release(context.Background(), sb.ID))
	must(t, second.Close(context.Background()))
	w.clean()
	w.open()
}

// What a daemon leaves that was killed without containers is removed by the next.
func TestLeftovers(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	a, b := w.start(published(spec("a", "front"), "8080->80/tcp")), w.start(spec("b", "bridge"))
	w.kill()
	must(t, a.Close())
	must(t, b.Close())
	clear(w.shims)
	w.open()
	must(t, w.Adopted(context.Background()))
	w.clean()
	w.start(published(spec("c", "front"), "8080->80/tcp"))
}

// Failing in any step leaves nothing.
func TestFailedPrepareLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	for name, change := range map[string]func(*network.SandboxSpec){
		"sysctl":     func(s *network.SandboxSpec) { s.Sysctls = map[string]string{"net.ipv4.no_such": "1"} },
		"extra host": func(s *network.SandboxSpec) { s.ExtraHosts = []string{"nonsense"} },
		"taken port": func(s *network.SandboxSpec) {
			*s = published(*s, "8081->80/tcp", "127.0.0.1:8080->81/tcp", "127.0.0.1:8080->82/tcp")
		},
		"unknown network": func(s *network.SandboxSpec) {
			s.Endpoints = append(s.Endpoints, network.EndpointSpec{Network: "nosuch"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := published(spec("c", "front"), "8080->80/tcp", "9090->90/udp")
			change(&s)
			if _, err := w.Prepare(context.Background(), s); err == nil {
				t.Fatal("it worked")
			}
		})
	}
	good := published(spec("c", "front"), "8080->80/tcp", "8081->81/tcp", "9090->90/udp")
	w.start(good)
	in, err := w.Inspect(context.Background(), "front", false)
	must(t, err)
	if len(in.Containers) != 1 {
		t.Errorf("got %v", in.Containers)
	}
}

func TestEndOfANetwork(t *testing.T) {
	w := newWorld(t)
	seen := &recorder{}
	w.options.Bus = seen
	must(t, w.Service.Close(context.Background()))
	w.open()
	netID := w.network("front")
	sb := w.start(spec("c", "front"))
	err := w.Remove(context.Background(), "front")
	if err == nil || !strings.Contains(err.Error(), `error while removing network: network front has active endpoints (name:"c" id:"`) {
		t.Errorf("got %v", err)
	}
	w.stop(sb.ID)
	must(t, w.Remove(context.Background(), netID[:12]))
	w.eventually(func() error {
		links, err := rtnl.Links("mue")
		if err == nil && len(links) > 0 {
			err = fmt.Errorf("%v is left", links)
		}
		return err
	})
	w.eventually(func() error {
		if !rtnl.SysctlIs("ipv4/ip_forward", 0) {
			return fmt.Errorf("ip_forward is on after the last network has gone")
		}
		return nil
	})
	if got := strings.Join(seen.list, " "); got != "create connect disconnect destroy" {
		t.Errorf("got the events %s", got)
	}
}

type recorder struct{ list []string }

func (r *recorder) Publish(_ events.Type, action events.Action, _ string, _ map[string]string) {
	r.list = append(r.list, string(action))
}

func TestOptionsOfABridge(t *testing.T) {
	w := newWorld(t)
	w.network("apart", func(r *mobynet.CreateRequest) {
		r.Options = map[string]string{
			"com.docker.network.bridge.name":                 "custom0",
			"com.docker.network.bridge.enable_icc":           "false",
			"com.docker.network.bridge.enable_ip_masquerade": "false",
			"com.docker.network.driver.mtu":                  "1280",
		}
	})
	a, b := w.start(published(spec("a", "apart"), "8080->80/tcp")), w.start(spec("b", "apart"))
	w.serve(a.NetNS, "tcp", ":80", "a")
	w.serve(w.lan, "tcp", ":80", "lan")
	w.cannotReach(b.NetNS, "tcp4", w.address(a, "apart")+":80")
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "a")
	if _, peer, err := ask(b.NetNS, "tcp4", neighbourOnLAN+":80", slow); err != nil || !strings.HasPrefix(peer, w.address(b, "apart")) {
		t.Errorf("the LAN sees %s, %v", peer, err)
	}
	if !rtnl.Exists("custom0") {
		t.Error("the bridge has another name")
	}
}
