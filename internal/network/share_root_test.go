//go:build root

package network_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/network"
)

// replicaOf is a container of a service that publishes ports, ready at once.
func replicaOf(s network.SandboxSpec) network.SandboxSpec {
	s.Project, s.Service, s.Ready = "shop", "web", true
	return s
}

// spread asks n times and counts the answers by text.
func (w *world) spread(from *os.File, proto, addr string, n int) map[string]int {
	w.Helper()
	got := map[string]int{}
	for range n {
		text, _, err := ask(from, proto, addr, slow)
		if err != nil {
			text = err.Error()
		}
		got[text]++
	}
	return got
}

func (w *world) spreads(from *os.File, proto, addr string, n int, want map[string]int) {
	w.Helper()
	if got := w.spread(from, proto, addr, n); fmt.Sprint(got) != fmt.Sprint(want) {
		w.Errorf("%s %s: %v, want %v", proto, addr, got, want)
	}
}

// Three replicas have one port: new connections go round among the ready ones; one that
// ends, is not ready or about to leave gets none while there is another.
func TestReplicasShareAPort(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	var replicas []*network.Sandbox
	for i := range 3 {
		name := fmt.Sprint("web", i)
		sb := w.start(replicaOf(published(spec(name, "front"), "8080->80/tcp", "5353->53/udp", "127.0.0.1:8081->80/tcp")))
		w.serve(sb.NetNS, "tcp", ":80", name)
		w.serve(sb.NetNS, "udp", ":53", name)
		replicas = append(replicas, sb)
	}
	sibling := w.start(spec("sibling", "front"))
	all := map[string]int{"web0": 3, "web1": 3, "web2": 3}
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 9, all)
	w.spreads(nil, "tcp4", "127.0.0.1:8080", 9, all)
	w.spreads(nil, "tcp4", "127.0.0.1:8081", 9, all)
	w.spreads(sibling.NetNS, "tcp4", hostOnLAN+":8080", 9, all)
	if got := w.spread(w.lan, "udp4", hostOnLAN+":5353", 60); got["web0"] == 0 || got["web1"] == 0 || got["web2"] == 0 {
		t.Errorf("datagrams of many sockets: %v", got)
	}
	for _, sb := range replicas {
		if got := fmt.Sprint(sb.Ports[mobynet.MustParsePort("53/udp")]); got != "[{0.0.0.0 5353} {:: 5353}]" {
			t.Errorf("shown as %s", got)
		}
	}
	// Strangers do not share it.
	for _, s := range []network.SandboxSpec{published(spec("stranger", "front"), "8080->80/tcp"), published(spec("other", "front"), "8080->80/tcp")} {
		if s.Name == "other" {
			s.Project, s.Service = "shop", "api"
		}
		if _, err := w.Prepare(context.Background(), s); err == nil || !strings.Contains(err.Error(), "port is already allocated (by container web") {
			t.Errorf("%s: %v", s.Name, err)
		}
	}

	two := map[string]int{"web0": 3, "web2": 3}
	must(t, w.SetReady(replicas[1].ID, false))
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 6, two)
	if got := w.spread(w.lan, "udp4", hostOnLAN+":5353", 30); got["web1"] != 0 {
		t.Errorf("datagrams to one that is not ready: %v", got)
	}
	must(t, w.SetReady(replicas[1].ID, true))
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 9, all)
	must(t, w.Drain(replicas[1].ID))
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 6, two)
	w.stop(replicas[1].ID)
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 6, two)
	// Where nobody is ready, all are asked rather than none.
	must(t, w.SetReady(replicas[0].ID, false))
	must(t, w.SetReady(replicas[2].ID, false))
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 6, two)
	w.stop(replicas[0].ID)
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 3, map[string]int{"web2": 3})
	w.stop(replicas[2].ID)
	w.closes(w.lan, "tcp4", hostOnLAN+":8080")
	w.start(published(spec("stranger", "front"), "8080->80/tcp"))
}

// closes waits until nobody answers: the rules follow soon after the container's end.
func (w *world) closes(from *os.File, proto, addr string) {
	w.Helper()
	w.eventually(func() error {
		if text, _, err := ask(from, proto, addr, time.Second); err == nil {
			return fmt.Errorf("%s %s still answers %q", proto, addr, text)
		}
		return nil
	})
}

// A daemon that comes back, and a flushed ruleset, change nothing of it.
func TestSharedPortSurvives(t *testing.T) {
	w := newWorld(t)
	specs := map[string]network.SandboxSpec{}
	for i := range 2 {
		name := fmt.Sprint("web", i)
		s := replicaOf(published(spec(name, "bridge"), "8080->80/tcp"))
		w.serve(w.start(s).NetNS, "tcp", ":80", name)
		specs[s.ID] = s
	}
	both := map[string]int{"web0": 2, "web1": 2}
	w.kill()
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 4, both)
	w.open()
	for id, sb := range w.shims {
		w.adopt(specs[id], sb)
	}
	must(t, w.Adopted(context.Background()))
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 4, both)
	w.nft("flush ruleset")
	w.eventually(func() error {
		if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "shared-tcp-8080") {
			return fmt.Errorf("rules are not back:\n%s", out)
		}
		return nil
	})
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 4, both)
	leaks, err := w.Leaks(context.Background())
	must(t, err)
	for _, l := range leaks {
		if l.There() && (l.Owned == nil || !l.Owned()) {
			t.Errorf("check finds %+v", l.Finding)
		}
	}
	// A third joins those that were adopted.
	third := w.start(replicaOf(published(spec("web2", "bridge"), "8080->80/tcp")))
	w.serve(third.NetNS, "tcp", ":80", "web2")
	w.spreads(w.lan, "tcp4", hostOnLAN+":8080", 6, map[string]int{"web0": 2, "web1": 2, "web2": 2})
}

// Addresses of the world for documentation (RFC 3849).
const (
	host6OnLAN      = "2001:db8::2"
	neighbour6OnLAN = "2001:db8::1"
)

// sixWorld has IPv6 on the LAN too.
func sixWorld(t *testing.T, forwards string) *world {
	w := newWorld(t)
	add := func(name, addr string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(addr + "/64")
		if err != nil {
			return err
		}
		a.Flags = 2 // IFA_F_NODAD
		return netlink.AddrAdd(link, a)
	}
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte(forwards), 0))
	t.Cleanup(func() { must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("0"), 0)) })
	must(t, add("uplink", host6OnLAN))
	must(t, netns.Do(w.lan, func() error { return add("lan0", neighbour6OnLAN) }))
	return w
}

// A container with an address of IPv6 has its ports there by the kernel: the client's
// own address arrives.
func TestPublishedPortsIPv6(t *testing.T) {
	w := sixWorld(t, "1")
	yes := true
	six := func(r *mobynet.CreateRequest) { r.EnableIPv6 = &yes }
	w.network("six", six)
	w.network("other", six)
	web := w.start(published(spec("web", "six"), "8080->80/tcp", "5353->53/udp"))
	sibling, stranger := w.start(spec("sibling", "six")), w.start(spec("stranger", "other"))
	w.serve(web.NetNS, "tcp6", ":80", "web")
	w.serve(web.NetNS, "udp6", ":53", "dns")
	at := func(p string) string { return net.JoinHostPort(host6OnLAN, p) }
	for name, from := range map[string]*os.File{"host": nil, "lan": w.lan, "same network": sibling.NetNS, "other network": stranger.NetNS, "itself": web.NetNS} {
		t.Run(name, func(t *testing.T) {
			w.reaches(from, "tcp6", at("8080"), "web")
			w.reaches(from, "udp6", at("5353"), "dns")
		})
	}
	for proto, p := range map[string]string{"tcp6": "8080", "udp6": "5353"} {
		if _, peer, err := ask(w.lan, proto, at(p), slow); err != nil || !strings.HasPrefix(peer, "["+neighbour6OnLAN+"]:") {
			t.Errorf("%s: the container sees %s instead of the LAN's neighbour, %v", proto, peer, err)
		}
	}
	w.stop(web.ID)
	w.closes(w.lan, "tcp6", at("8080"))
	// An address of the host of its own, and replicas.
	for i := range 2 {
		name := fmt.Sprint("web", i)
		s := replicaOf(spec(name, "six"))
		s.Ports = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr(host6OnLAN), HostPort: "8082"}}}
		w.serve(w.start(s).NetNS, "tcp6", ":80", name)
	}
	w.spreads(w.lan, "tcp6", at("8082"), 4, map[string]int{"web0": 2, "web1": 2})
	w.cannotReach(nil, "tcp4", hostOnLAN+":8082")
}

// Where somebody keeps the host from forwarding IPv6, what comes from others is left to the relay.
func TestPublishedPortsWithoutForwarding(t *testing.T) {
	w := sixWorld(t, "0")
	w.network("six", withIPv6)
	web := w.start(published(spec("web", "six"), "8080->80/tcp"))
	w.serve(web.NetNS, "tcp6", ":80", "web")
	w.reaches(w.lan, "tcp6", net.JoinHostPort(host6OnLAN, "8080"), "web")
	must(t, os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("0"), 0))
	w.nft("add table ip somebody; delete table ip somebody")
	w.eventually(func() error {
		if !strings.Contains(run(t, "nft", "list", "chain", "inet", "muelle-1a2b3c4d", "prerouting"), "ipv6 return") {
			return fmt.Errorf("packets of IPv6 are still translated")
		}
		return nil
	})
	w.reaches(nil, "tcp6", net.JoinHostPort(host6OnLAN, "8080"), "web")
	c, err := w.accepts(web, "port *:8080 80/tcp", w.lan, net.JoinHostPort(host6OnLAN, "8080"))
	must(t, err)
	c.Close()
	// The next container's network switches it on again.
	w.network("seven", withIPv6)
	w.start(published(spec("next", "seven"), "8081->80/tcp"))
	w.reaches(w.lan, "tcp6", net.JoinHostPort(host6OnLAN, "8080"), "web")
}

// accepts connects from a namespace and tells whether the socket that a shim holds got it.
func (w *world) accepts(sb *network.Sandbox, name string, from *os.File, addr string) (net.Conn, error) {
	w.Helper()
	for _, h := range sb.Held {
		if h.Name != name {
			continue
		}
		l, err := net.FileListener(w.dup(h.File))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		go func() { _, _, _ = ask(from, "tcp6", addr, slow) }()
		return l.Accept()
	}
	return nil, fmt.Errorf("no socket %q is held", name)
}

// TestFarewell: what a shim sends when its container ends while no daemon is there has the
// others take its share, by both families; the daemon that comes back starts anew.
func TestFarewell(t *testing.T) {
	w := sixWorld(t, "1")
	yes := true
	w.network("six", func(r *mobynet.CreateRequest) { r.EnableIPv6 = &yes })
	var replicas []*network.Sandbox
	var specs []network.SandboxSpec
	for i := range 3 {
		s := replicaOf(published(spec(fmt.Sprint("web", i), "six"), "8080->80/tcp", "8080->80/udp"))
		sb := w.start(s)
		specs, replicas = append(specs, s), append(replicas, sb)
		for _, proto := range []string{"tcp", "tcp6", "udp", "udp6"} {
			w.serve(sb.NetNS, proto, ":80", fmt.Sprint("web", i))
		}
	}
	at4, at6 := hostOnLAN+":8080", net.JoinHostPort(host6OnLAN, "8080")
	all := map[string]int{"web0": 2, "web1": 2, "web2": 2}
	w.spreads(w.lan, "tcp4", at4, 6, all)
	w.spreads(w.lan, "tcp6", at6, 6, all)
	w.kill()
	w.farewell(replicas[0])
	w.spreads(w.lan, "tcp4", at4, 6, map[string]int{"web1": 4, "web2": 2})
	w.spreads(w.lan, "tcp6", at6, 6, map[string]int{"web1": 4, "web2": 2})
	for proto, addr := range map[string]string{"udp4": at4, "udp6": at6} {
		if got := w.spread(w.lan, proto, addr, 12); got["web0"] > 0 || got["web1"]+got["web2"] != 12 {
			t.Errorf("%s: %v", proto, got)
		}
	}
	w.farewell(replicas[1])
	w.spreads(w.lan, "tcp4", at4, 6, map[string]int{"web2": 6})
	w.open()
	for i := range specs {
		w.adopt(specs[i], replicas[i])
	}
	must(t, w.Adopted(context.Background()))
	w.spreads(w.lan, "tcp4", at4, 6, all)
	// Where the port is no longer shared there is nothing to empty, and nothing happens.
	w.stop(replicas[0].ID)
	w.stop(replicas[1].ID)
	w.spreads(w.lan, "tcp4", at4, 2, map[string]int{"web2": 2})
	w.farewell(replicas[2])
	w.spreads(w.lan, "tcp4", at4, 2, map[string]int{"web2": 2})
}

// farewell is the shim's part of a container's end without a daemon.
func (w *world) farewell(sb *network.Sandbox) {
	w.Helper()
	said := 0
	for _, h := range sb.Held {
		if len(h.Farewell) == 0 {
			continue
		}
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		must(w.TB, err)
		must(w.TB, unix.Sendto(fd, h.Farewell, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
		must(w.TB, unix.Close(fd))
		said++
	}
	if said == 0 {
		w.Error("the container has no farewell")
	}
}
