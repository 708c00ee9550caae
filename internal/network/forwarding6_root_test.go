//go:build root

package network_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	packets "golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
)

// ipv6World is a host that does not forward IPv6, and has its default route from the
// advertisements of the LAN's neighbour.
func ipv6World(t *testing.T) *world {
	w := sixWorld(t, "0")
	advertise(w)
	return w
}

const acceptRA = "ipv6/conf/uplink/accept_ra"

// advertise lets the LAN's neighbour call itself a router until the host believes it.
func advertise(w *world) {
	w.Helper()
	w.eventually(func() error {
		err := netns.Do(w.lan, func() error {
			c, err := net.ListenPacket("ip6:ipv6-icmp", "::")
			if err != nil {
				return err
			}
			defer c.Close()
			lan, err := net.InterfaceByName("lan0")
			if err != nil {
				return err
			}
			p := packets.NewPacketConn(c)
			if err := p.SetMulticastHopLimit(255); err != nil {
				return err
			}
			// RFC 4861, 4.2; a router for half an hour.
			ra := []byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			binary.BigEndian.PutUint16(ra[6:], 1800)
			_, err = p.WriteTo(ra, nil, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: lan.Name})
			return err
		})
		if err == nil && !advertised(w) {
			err = fmt.Errorf("the host has no default route of IPv6")
		}
		return err
	})
}

// advertised tells whether the host has a default route that it was told of.
func advertised(w *world) bool {
	return strings.Contains(run(w.TB, "ip", "-6", "route", "show", "default"), "proto ra")
}

func forgetRouter(w *world) { run(w.TB, "ip", "-6", "route", "del", "default", "proto", "ra") }

func wantSysctls(w *world, forwarding, ra int) {
	w.Helper()
	for name, want := range map[string]int{"ipv6/conf/all/forwarding": forwarding, acceptRA: ra, "ipv6/conf/default/accept_ra": ra} {
		if !rtnl.SysctlIs(name, want) {
			data, _ := os.ReadFile("/proc/sys/net/" + name)
			w.Errorf("%s is %s, want %d", name, strings.TrimSpace(string(data)), want)
		}
	}
}

// A network of IPv6 reaches the world, and the world its published ports, though
// nobody has set a sysctl; and nobody else has a router in us.
func TestIPv6ToTheWorld(t *testing.T) {
	w := ipv6World(t)
	far := farNet(w)
	w.network("six", withIPv6)
	w.network("four")
	wantSysctls(w, 0, 1)
	w.start(spec("four", "four"))
	wantSysctls(w, 0, 1)
	web := w.start(published(spec("web", "six"), "8080->80/tcp", "5353->53/udp"))
	wantSysctls(w, 1, 2)
	w.serve(web.NetNS, "tcp6", ":80", "web")
	w.serve(web.NetNS, "udp6", ":53", "dns")
	for _, proto := range []string{"tcp6", "udp6"} {
		w.serve(w.lan, proto, ":90", "lan")
		w.serve(far, proto, ":90", "far")
		at := func(a string) string { return net.JoinHostPort(a, "90") }
		for a, want := range map[string]string{neighbour6OnLAN: "lan", farAddr: "far"} {
			text, peer, err := ask(web.NetNS, proto, at(a), slow)
			if err != nil || text != want || !strings.HasPrefix(peer, "[2001:db8:") {
				t.Errorf("%s: %s answers %q to %s, %v", proto, a, text, peer, err)
			}
		}
		// Neither becomes the other's way.
		w.cannotReach(w.lan, proto, at(farAddr))
		w.cannotReach(far, proto, at(neighbour6OnLAN))
	}
	for proto, port := range map[string]string{"tcp6": "8080", "udp6": "5353"} {
		if _, peer, err := ask(w.lan, proto, net.JoinHostPort(host6OnLAN, port), slow); err != nil || !strings.HasPrefix(peer, "["+neighbour6OnLAN+"]:") {
			t.Errorf("%s: the container sees %s instead of the LAN's neighbour, %v", proto, peer, err)
		}
	}
	w.cannotReach(w.lan, "tcp6", net.JoinHostPort(web.Endpoints["six"].GlobalIPv6Address.String(), "80"))

	// The host still believes the router that it had, and is told of new ones.
	if !advertised(w) {
		t.Error("the host has lost the default route that it was told of")
	}
	forgetRouter(w)
	advertise(w)

	// IPv4's networks stay when the last of IPv6 goes.
	w.stop(web.ID)
	must(t, w.Remove(t.Context(), "six"))
	w.eventually(func() error {
		if !rtnl.SysctlIs("ipv6/conf/all/forwarding", 0) || !rtnl.SysctlIs(acceptRA, 1) {
			return fmt.Errorf("forwarding of IPv6 stays on")
		}
		return nil
	})
	wantSysctls(w, 0, 1)
	if out := run(t, "nft", "list", "ruleset"); strings.Contains(out, "forwarding-guard6") || !strings.Contains(out, "forwarding-guard") {
		t.Errorf("the guards:\n%s", out)
	}
	if !advertised(w) {
		t.Error("the host has lost its default route at the end")
	}
}

// An internal network needs no forwarding.
func TestIPv6Internal(t *testing.T) {
	w := ipv6World(t)
	w.network("six", withIPv6, internal)
	w.start(spec("db", "six"))
	wantSysctls(w, 0, 1)
}

// What a killed daemon switched on the next one puts back, whether or not a container
// is left; and a second instance takes over.
func TestIPv6ForwardingAfterKill(t *testing.T) {
	for name, f := range map[string]func(*world, network.SandboxSpec, *network.Sandbox){
		"with a container": func(w *world, s network.SandboxSpec, sb *network.Sandbox) {
			w.adopt(s, sb)
			must(w.TB, w.Adopted(w.TB.Context()))
			wantSysctls(w, 1, 2)
			w.stop(sb.ID)
		},
		"without": func(w *world, _ network.SandboxSpec, sb *network.Sandbox) {
			must(w.TB, sb.Close())
			delete(w.shims, sb.ID)
			must(w.TB, w.Adopted(w.TB.Context()))
		},
		"another instance": func(w *world, s network.SandboxSpec, sb *network.Sandbox) {
			w.adopt(s, sb)
			must(w.TB, w.Adopted(w.TB.Context()))
			o := w.options
			o.Instance, o.Root = "ffff0000", w.TempDir()
			second := &world{TB: w.TB, options: o, log: w.log, shims: map[string]*network.Sandbox{}}
			second.open()
			second.network("other", withIPv6)
			theirs := second.start(spec("x", "other"))
			w.stop(sb.ID)
			must(w.TB, w.Service.Close(w.TB.Context()))
			wantSysctls(w, 1, 2)
			second.stop(theirs.ID)
			must(w.TB, second.Service.Close(w.TB.Context()))
			wantSysctls(w, 0, 1)
			w.open()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := ipv6World(t)
			w.network("six", withIPv6)
			s := published(spec("web", "six"), "8080->80/tcp")
			sb := w.start(s)
			w.kill()
			w.open()
			f(w, s, sb)
			must(t, w.Service.Close(t.Context()))
			wantSysctls(w, 0, 1)
			if !advertised(w) {
				t.Error("the host has lost its default route")
			}
			w.open()
		})
	}
}

// Where the owner forwards IPv6 it stays so, and everybody's packets pass.
func TestIPv6ForwardingOfTheOwner(t *testing.T) {
	w := sixWorld(t, "1")
	far := farNet(w)
	w.network("six", withIPv6)
	sb := w.start(spec("web", "six"))
	w.serve(far, "tcp6", ":90", "far")
	w.reaches(w.lan, "tcp6", net.JoinHostPort(farAddr, "90"), "far")
	w.stop(sb.ID)
	must(t, w.Service.Close(t.Context()))
	wantSysctls(w, 1, 1)
	w.open()
}

// An interface whose owner lets it forward alone (Linux 6.17) goes on to.
func TestIPv6ForcedForwarding(t *testing.T) {
	const forced = "ipv6/conf/uplink/force_forwarding"
	w := sixWorld(t, "0")
	if rtnl.Sysctl(forced, "1") != nil {
		return // a kernel before that
	}
	far := farNet(w)
	must(t, rtnl.Sysctl("ipv6/conf/far0/force_forwarding", "1"))
	w.serve(far, "tcp6", ":90", "far")
	at := net.JoinHostPort(farAddr, "90")
	w.reaches(w.lan, "tcp6", at, "far")
	w.network("six", withIPv6)
	sb := w.start(spec("web", "six"))
	w.reaches(w.lan, "tcp6", at, "far")
	w.stop(sb.ID)
	must(t, w.Service.Close(t.Context()))
	wantSysctls(w, 0, 1)
	w.reaches(w.lan, "tcp6", at, "far")
	w.open()
}

const farAddr = "2001:db8:1::1"

// farNet is a machine on another link of the host's. It and the LAN's neighbour have a
// route to each other by the host.
func farNet(w *world) *os.File {
	w.Helper()
	far, err := netns.New(rtnl.LoopbackUp)
	must(w.TB, err)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(far.Fd()))}
	must(w.TB, netlink.LinkAdd(link))
	w.Cleanup(func() {
		must(w.TB, netlink.LinkDel(link))
		far.Close()
	})
	must(w.TB, rtnl.Configure("far0", []netip.Prefix{netip.MustParsePrefix("2001:db8:1::2/64")}))
	must(w.TB, netns.Do(far, func() error {
		return rtnl.Configure("eth0", []netip.Prefix{netip.MustParsePrefix(farAddr + "/64")}, netip.MustParseAddr("2001:db8:1::2"))
	}))
	must(w.TB, rtnl.Carry("far0"))
	must(w.TB, netns.Do(w.lan, func() error {
		return exec.Command("ip", "-6", "route", "add", "2001:db8:1::/64", "via", host6OnLAN).Run()
	}))
	// A kernel that is busy hears questions for a new address only seconds later.
	w.eventually(func() error {
		if _, _, err := ask(nil, "tcp6", net.JoinHostPort(farAddr, "1"), time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("the host does not find its neighbour: %w", err)
		}
		return nil
	})
	return far
}
