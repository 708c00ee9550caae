//go:build root

package network_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
)

// feed gives a program its input, as boot scripts of other firewalls do.
func (w *world) feed(input string, program ...string) {
	w.Helper()
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("%v: %v\n%s", program, err, out)
	}
}

func testdata(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("../linux/ruleset/testdata/" + name)
	must(t, err)
	return string(b)
}

// beside starts two containers, a with a published port, with frames inside bridges
// passing the hooks of IP.
type beside struct {
	*world
	a, b *network.Sandbox
}

func newBeside(t *testing.T, load func(*world)) *beside {
	w := newWorld(t)
	if err := rtnl.Sysctl("bridge/bridge-nf-call-iptables", "1"); err != nil {
		t.Fatal(err)
	}
	w.Cleanup(func() {
		run(t, "nft", "flush ruleset")
		must(t, rtnl.Sysctl("bridge/bridge-nf-call-iptables", "0"))
	})
	load(w)
	w.network("front")
	s := &beside{world: w, a: w.start(published(spec("a", "front"), "8080->80/tcp")), b: w.start(spec("b", "front"))}
	w.serve(s.a.NetNS, "tcp", ":80", "a")
	w.serve(w.lan, "tcp", ":80", "lan")
	w.serve(nil, "tcp", hostOnLAN+":7070", "host")
	return s
}

func (s *beside) works() {
	s.Helper()
	s.reaches(s.b.NetNS, "tcp4", s.address(s.a, "front")+":80", "a") // inside one bridge
	s.reaches(nil, "tcp4", s.address(s.a, "front")+":80", "a")       // from the host
	s.reaches(nil, "tcp4", "127.0.0.1:8080", "a")
	s.reaches(s.lan, "tcp4", hostOnLAN+":8080", "a")          // from outside
	s.reaches(s.b.NetNS, "tcp4", neighbourOnLAN+":80", "lan") // to outside
	s.reaches(s.b.NetNS, "tcp4", hostOnLAN+":8080", "a")
	s.cannotReach(s.lan, "tcp4", s.address(s.b, "front")+":80") // past what is published
	s.cannotReach(s.lan, "tcp4", s.address(s.a, "front")+":80")
}

// stopped: what the other firewall drops stays dropped.
func (s *beside) stopped() {
	s.Helper()
	s.cannotReach(s.b.NetNS, "tcp4", neighbourOnLAN+":80")
	s.cannotReach(s.b.NetNS, "tcp4", s.address(s.a, "front")+":80")
}

func (s *beside) warned(want ...string) {
	s.Helper()
	list := s.Warnings()
	if len(list) != len(want) {
		s.Fatalf("got %d warnings, want %d: %q", len(list), len(want), list)
	}
	for i, w := range want {
		if !strings.Contains(list[i], w) {
			s.Errorf("got %q, want %q in it", list[i], w)
		}
	}
}

const ufwAllows = "-A ufw-user-forward -i mue+ -j ACCEPT\n-A ufw-user-forward -o mue+ -j ACCEPT\nCOMMIT"

func TestBesideUFW(t *testing.T) {
	for _, program := range []string{"iptables-nft-restore", "iptables-legacy-restore"} {
		t.Run(program, func(t *testing.T) {
			rules := testdata(t, "ufw.rules")
			s := newBeside(t, func(w *world) { w.feed(rules, program) })
			t.Cleanup(func() { s.feed("*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n", program) })
			s.stopped()
			s.warned("ufw route allow in on mue+ && ufw route allow out on mue+")
			if logged := strings.Count(s.log.String(), "level=WARN"); logged != 1 {
				t.Errorf("logged %d times", logged)
			}
			before := run(t, strings.TrimSuffix(program, "-restore")+"-save")
			// What the warning says.
			s.feed(strings.Replace(rules, "COMMIT", ufwAllows, 1), program)
			s.eventually(func() error {
				if list := s.Warnings(); len(list) > 0 {
					return fmt.Errorf("still %q", list)
				}
				return nil
			})
			s.works()
			s.cannotReach(s.lan, "tcp4", hostOnLAN+":7070")
			s.cannotReach(s.b.NetNS, "tcp4", hostOnLAN+":7070") // ufw guards the host from containers too
			if strings.Contains(before, "mue") {
				t.Errorf("ufw's rules were changed:\n%s", before)
			}
		})
	}
}

func TestBesideFirewalld(t *testing.T) {
	rules := testdata(t, "firewalld.nft")
	var f *firewalld
	s := newBeside(t, func(w *world) {
		w.nft(rules)
		f = startFirewalld(t, w.nft)
	})
	s.works()
	s.warned()
	bridge := run(t, "ip", "-o", "link", "show", "type", "bridge")
	name := strings.TrimSuffix(strings.Fields(bridge)[1], ":")
	if got := f.zones(); len(got) != 1 || got[0] != name+" trusted" {
		t.Errorf("got %q", got)
	}
	f.reload(rules)
	s.eventually(func() error {
		if len(f.zones()) != 1 {
			return fmt.Errorf("%s is in no zone after a reload", name)
		}
		return nil
	})
	s.works()
	// A daemon that is killed leaves it there; the next takes it away with the network.
	first, second := published(spec("c", "front"), "8081->80/tcp"), ""
	c := s.start(first)
	s.kill()
	for id, sb := range s.shims {
		if id != c.ID {
			must(t, sb.Close())
			delete(s.shims, id)
		}
	}
	first.ID, second = c.ID, f.zones()[0]
	s.open()
	s.adopt(first, c)
	must(t, s.Adopted(t.Context()))
	if got := f.zones(); len(got) != 1 || got[0] != second {
		t.Errorf("after a restart it is in %q", got)
	}
	s.stop(c.ID)
	must(t, s.Remove(t.Context(), "front"))
	s.eventually(func() error {
		if got := f.zones(); len(got) > 0 {
			return fmt.Errorf("%q stay", got)
		}
		return nil
	})
}

// TestBesideFirewalldByIptables: the backend of old, whose chains have other names.
func TestBesideFirewalldByIptables(t *testing.T) {
	rules := testdata(t, "firewalld.rules")
	var f *firewalld
	s := newBeside(t, func(w *world) {
		w.feed(rules, "iptables-nft-restore")
		f = startFirewalld(t, w.nft)
		f.rule = "insert rule ip filter FORWARD_ZONES iifname %q accept"
	})
	s.works()
	s.warned()
	if got := f.zones(); len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// TestNoLongerFirewalld: a daemon that may not ask firewalld takes back what a former one did.
func TestNoLongerFirewalld(t *testing.T) {
	rules := testdata(t, "firewalld.nft")
	var f *firewalld
	s := newBeside(t, func(w *world) {
		w.nft(rules)
		f = startFirewalld(t, w.nft)
	})
	if got := f.zones(); len(got) != 1 {
		t.Fatalf("got %q", got)
	}
	s.kill()
	s.options.KeepOut = true
	s.open()
	for id, sb := range s.shims {
		again := spec("x", "front")
		again.ID = id
		s.adopt(again, sb)
	}
	must(t, s.Adopted(t.Context()))
	s.eventually(func() error {
		if got := f.zones(); len(got) > 0 {
			return fmt.Errorf("%q stay", got)
		}
		return nil
	})
}

// TestFirewalldWithoutBus: what cannot be done is told.
func TestFirewalldWithoutBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
	s := newBeside(t, func(w *world) { w.nft(testdata(t, "firewalld.nft")) })
	s.stopped()
	s.warned("firewall-cmd --permanent --zone=trusted --add-interface=mue+ && firewall-cmd --reload")
}

// TestNoCooperation: with firewall-cooperation off nothing is added anywhere.
func TestNoCooperation(t *testing.T) {
	s := newBeside(t, func(w *world) {
		w.nft(docker)
		must(t, w.Service.Close(t.Context()))
		w.options.KeepOut = true
		w.open()
	})
	s.stopped()
	s.warned("iptables -I DOCKER-USER -i mue+ -j ACCEPT && iptables -I DOCKER-USER -o mue+ -j ACCEPT")
	if out := run(t, "nft", "list", "table", "ip", "filter"); strings.Contains(out, "mue") {
		t.Errorf("rules were added:\n%s", out)
	}
	run(t, "iptables", "-I", "DOCKER-USER", "-i", "mue+", "-j", "ACCEPT")
	run(t, "iptables", "-I", "DOCKER-USER", "-o", "mue+", "-j", "ACCEPT")
	s.works()
	s.warned()
}

// TestRulesComeBack: whoever takes ours away, and in whatever way.
func TestRulesComeBack(t *testing.T) {
	s := newBeside(t, func(*world) {})
	s.works()
	const table = "inet muelle-1a2b3c4d"
	full := func() string {
		lines := strings.Split(run(t, "nft", "-s", "list", "ruleset"), "\n")
		return strings.Join(lines, "\n")
	}
	for _, command := range []string{
		"flush ruleset", "delete table " + table, "flush table " + table, "flush chain " + table + " prerouting",
		"flush set " + table + " bridges", "flush map " + table + " ports", "delete element " + table + " ports { tcp . 8080 }",
	} {
		before := full()
		run(t, "nft", command)
		s.eventually(func() error {
			if after := full(); len(after) != len(before) {
				return fmt.Errorf("after %q:\n%s\nnot\n%s", command, after, before)
			}
			return nil
		})
	}
	s.works()
}

// TestLegacyIsNoticed: the old iptables tells nobody that it changes.
func TestLegacyIsNoticed(t *testing.T) {
	w := newWorld(t)
	t.Cleanup(func() { run(t, "iptables-legacy", "-P", "FORWARD", "ACCEPT") })
	w.network("front")
	w.start(spec("a", "front"))
	run(t, "iptables-legacy", "-P", "FORWARD", "DROP")
	w.eventually(func() error {
		if !strings.Contains(w.log.String(), "to allow it: iptables-legacy -I FORWARD -i mue+ -j ACCEPT && iptables-legacy -I FORWARD -o mue+ -j ACCEPT") {
			return fmt.Errorf("the log says:\n%s", w.log)
		}
		return nil
	})
}
