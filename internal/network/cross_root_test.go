//go:build root

package network_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"muelle/api"
	"muelle/internal/linux/netns"
)

const farAway6 = "2001:db8:f::7"

// tcp is a segment with the given flags and no meaning.
func tcp(from, to uint16, flags byte, text string) []byte {
	b := append([]byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to)}, make([]byte, 16)...)
	b[12], b[13] = 0x50, flags
	return append(b, text...)
}

// passes sends a frame into a container's network and one that is known to arrive after
// it, and tells whether the first was seen at the other end.
func passes(t *testing.T, from, to *wire, landmark, frame []byte, text, last string) bool {
	t.Helper()
	must(t, from.send(frame))
	must(t, from.send(landmark))
	seen, err := to.sees(text, last)
	must(t, err)
	return seen
}

// What connection tracking makes nothing of leaves a zone no more than what it knows,
// and nothing leaves with a container's own address that should be masqueraded.
func TestUntrackedPacketsLeaveNoZone(t *testing.T) {
	w := sixWorld(t, "1")
	w.beyond()
	w.network("some", withIPv6, zone(api.Zone{Egress: []string{"192.0.2.0/24", "2001:db8::/64"}}))
	w.network("open", withIPv6)
	route, err := netlink.ParseIPNet("2001:db8:f::/64")
	must(t, err)
	must(t, netlink.RouteAdd(&netlink.Route{Dst: route, Gw: net.ParseIP(neighbour6OnLAN)}))
	lan := tap(t, w.lan, "lan0")
	w.serve(w.lan, "tcp6", ":80", "lan")
	for _, name := range []string{"some", "open"} {
		sb, neighbour := w.start(spec(name+"1", name)), w.start(spec(name+"2", name))
		a := newAttack(w, name, sb, neighbour)
		link, err := netlink.LinkByName(interfaceOf(t, w, name))
		must(t, err)
		gateway := []byte(link.Attrs().HardwareAddr)
		// Neighbours are known before: the landmarks are not to wait for them.
		_, _, _ = ask(sb.NetNS, "tcp4", neighbourOnLAN+":9", slow)
		_, _, _ = ask(sb.NetNS, "tcp6", net.JoinHostPort(neighbour6OnLAN, "9"), slow)
		four := func(to string, proto byte, payload []byte) []byte {
			return ethernet(gateway, a.wire.mac, 0x800, ipv4(a.own4, to, proto, nil, payload))
		}
		six := func(to string, next byte, payload []byte) []byte {
			return ethernet(gateway, a.wire.mac, 0x86dd, ipv6(a.own6, to, next, payload))
		}
		for i, tt := range []struct {
			name  string
			frame func(text string) []byte
			// leaves: where everything may.
			leaves bool
		}{
			{"TCP without flags", func(s string) []byte { return four(farAway, 6, tcp(1, 2, 0, s)) }, false},
			{"TCP with all flags", func(s string) []byte { return four(farAway, 6, tcp(1, 2, 0x3f, s)) }, false},
			{"answer to no ping", func(s string) []byte { return four(farAway, 1, append([]byte{0, 0, 0, 0, 0, 0, 0, 0}, s...)) }, false},
			{"IP in IP", func(s string) []byte { return four(farAway, 4, ipv4(a.own4, "203.0.113.1", 17, nil, udp(1, 2, s))) }, true},
			{"6to4", func(s string) []byte { return four(farAway, 41, ipv6(a.own6, farAway6, 17, udp(1, 2, s))) }, true},
			{"neighbour solicitation to a far address", func(s string) []byte {
				return six(farAway6, 58, icmpv6(a.own6, farAway6, 135, append(addr(farAway6), s...)))
			}, true},
			{"group report to a far address", func(s string) []byte {
				return six(farAway6, 58, icmpv6(a.own6, farAway6, 131, append(addr("ff02::1:3"), s...)))
			}, true},
			{"IPv6 TCP without flags", func(s string) []byte { return six(farAway6, 6, tcp(1, 2, 0, s)) }, false},
			{"answer to no ping of IPv6", func(s string) []byte { return six(farAway6, 58, icmpv6(a.own6, farAway6, 129, []byte(s))) }, false},
		} {
			text, last := fmt.Sprintf("crossing-%s-%02d-", name, i), fmt.Sprintf("landmark-%s-%02d-", name, i)
			landmark := four(neighbourOnLAN, 17, udp(uint16(1000+i), 2, last))
			want := tt.leaves && name == "open"
			if got := passes(t, a.wire, lan, landmark, tt.frame(text), text, last); got != want {
				t.Errorf("%s, from the network %s: leaves %t, want %t", tt.name, name, got, want)
			}
		}
		// Neighbour discovery goes on: the gateway is found anew.
		must(t, netns.Do(sb.NetNS, func() error { run(t, "ip", "-6", "neigh", "flush", "dev", "eth0"); return nil }))
		run(t, "ip", "-6", "neigh", "flush", "all")

		w.reaches(sb.NetNS, "tcp6", net.JoinHostPort(neighbour6OnLAN, "80"), "lan")
	}
}

func interfaceOf(t *testing.T, w *world, name string) string {
	t.Helper()
	for _, n := range w.Snapshot().Networks {
		if n.Name == name {
			return n.Interface
		}
	}
	t.Fatalf("no network %s", name)
	return ""
}

// Who answers for a name that a zone lists opens no more than the world by it.
func TestZoneNamesOpenTheWorldOnly(t *testing.T) {
	w := newWorld(t)
	w.beyond()
	names := map[string]string{"good.x.example.org.": farAway, "host.x.example.org.": hostOnLAN, "metadata.x.example.org.": "169.254.169.254",
		"group.x.example.org.": "224.0.0.251", "listed.x.example.org.": neighbourOnLAN, "alibaba.x.example.org.": "100.100.100.200"}
	w.network("names", zone(api.Zone{Egress: []string{"*.x.example.org", neighbourOnLAN}}))
	w.network("other")
	c, other := w.start(spec("c", "names")), w.start(published(spec("other", "other"), "8080->80/tcp"))
	names["other.x.example.org."] = w.address(other, "other")
	w.nameServer(names)
	w.serve(w.lan, "tcp", ":80", "lan")
	w.serve(nil, "tcp", ":90", "host")
	w.serve(other.NetNS, "tcp", ":80", "other")
	for name, want := range map[string]string{"good": farAway, "listed": neighbourOnLAN, "host": "SERVFAIL", "metadata": "SERVFAIL", "group": "SERVFAIL", "other": "SERVFAIL", "alibaba": "SERVFAIL"} {
		if got := resolve(t, c.NetNS, "udp", name+".x.example.org", dns.TypeA); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	w.reaches(c.NetNS, "tcp4", farAway+":80", "lan")
	w.cannotReach(c.NetNS, "tcp4", hostOnLAN+":90")
	w.cannotReach(c.NetNS, "tcp4", hostOnLAN+":8080")
	reasons := ""
	for _, q := range w.Queries(c.ID) {
		reasons += q.Reason + "\n"
	}
	for _, want := range []string{"stands for 169.254.169.254, which is on the link only", hostOnLAN + ", which is this host's", "which is on another network of this host"} {
		if !strings.Contains(reasons, want) {
			t.Errorf("the record does not say %q:\n%s", want, reasons)
		}
	}
	// An address that becomes the host's after it was opened is closed with that.
	link, err := netlink.LinkByName("uplink")
	must(t, err)
	must(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(farAway), Mask: net.CIDRMask(32, 32)}}))
	w.cannotReach(c.NetNS, "tcp4", farAway+":90")
}

// By whom a container on two networks is answered on the one it does not open the other.
func TestZoneNamesOfTheWayOut(t *testing.T) {
	w := newWorld(t)
	w.beyond()
	w.network("any")
	w.network("names", zone(api.Zone{Egress: []string{"far.example.org"}}))
	sp := spec("both", "any", "names")
	sp.DNS = []netip.Addr{netip.MustParseAddr("127.0.0.1")} // its own: it answers itself
	both, one := w.start(sp), w.start(spec("one", "names"))
	w.serve(w.lan, "tcp", ":80", "lan")
	must(t, in(both.NetNS, func() error {
		pc, err := net.ListenPacket("udp4", "127.0.0.1:53")
		if err != nil {
			return err
		}
		s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
			r := new(dns.Msg).SetReply(q)
			r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1 << 31}, A: net.ParseIP(farAway)})
			_ = rw.WriteMsg(r)
		})}
		go func() { _ = s.ActivateAndServe() }()
		w.Cleanup(func() { _ = s.Shutdown() })
		return nil
	}))
	if got := resolve(t, both.NetNS, "udp", "far.example.org", dns.TypeA); got != farAway {
		t.Fatalf("got %s", got)
	}
	w.cannotReach(one.NetNS, "tcp4", farAway+":80")
}

// Questions are data too: reverse names and other classes are asked outside no more
// than names that the zone does not list.
func TestZoneNamesByDetours(t *testing.T) {
	w := newWorld(t)
	asked := make(chan string, 64)
	pc, err := net.ListenPacket("udp4", "127.0.0.1:53")
	must(t, err)
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		asked <- q.Question[0].Name
		_ = rw.WriteMsg(new(dns.Msg).SetReply(q))
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	w.network("names", zone(api.Zone{Egress: []string{"good.example.org"}}))
	c := w.start(spec("c", "names"))
	for _, q := range []dns.Question{
		{Name: "evil.example.org.", Qtype: dns.TypeTXT, Qclass: dns.ClassINET},
		{Name: "1.2.3.4.in-addr.arpa.", Qtype: dns.TypePTR, Qclass: dns.ClassINET},
		{Name: "0.1.2.3.4.5.6.7.8.9.a.b.c.d.e.f.0.1.2.3.4.5.6.7.8.9.a.b.c.d.0.2.ip6.arpa.", Qtype: dns.TypePTR, Qclass: dns.ClassINET},
		{Name: "evil.example.org.", Qtype: dns.TypeA, Qclass: dns.ClassCHAOS},
		{Name: "evil.example.org.", Qtype: dns.TypeA, Qclass: dns.ClassANY},
		{Name: "_80._tcp.evil.example.org.", Qtype: dns.TypeSRV, Qclass: dns.ClassINET},
		{Name: "GOOD.example.org.", Qtype: dns.TypeA, Qclass: dns.ClassINET},
	} {
		must(t, in(c.NetNS, func() error {
			m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: dns.Id(), RecursionDesired: true}, Question: []dns.Question{q}}
			_, _, err := new(dns.Client).Exchange(m, "127.0.0.11:53")
			return err
		}))
	}
	if got := <-asked; got != "GOOD.example.org." {
		t.Errorf("the name server was asked for %s", got)
	}
}

// On the LAN is who is on the link that he comes by: somebody behind one interface has
// no address of another's link.
func TestZoneLANByInterface(t *testing.T) {
	w := newWorld(t)
	w.network("front", zone(api.Zone{Publish: api.ZoneLAN}))
	web := w.start(published(spec("web", "front"), "8080->80/udp"))
	// A second link of the host, whose neighbour pretends to be on the first.
	wan, err := netns.New(func() error { return nil })
	must(t, err)
	t.Cleanup(func() { wan.Close() })
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan"}, PeerName: "wan0", PeerNamespace: netlink.NsFd(int(wan.Fd()))}
	must(t, netlink.LinkAdd(link))
	t.Cleanup(func() { must(t, netlink.LinkDel(link)) })
	run(t, "ip", "addr", "add", "203.0.113.2/24", "dev", "wan")
	run(t, "ip", "link", "set", "wan", "up")
	must(t, os.WriteFile("/proc/sys/net/ipv4/conf/wan/rp_filter", []byte("0"), 0))
	must(t, in(wan, func() error { run(t, "ip", "link", "set", "wan0", "up"); return nil }))
	w.eventually(func() error {
		if out := run(t, "nft", "list", "set", "inet", "muelle-1a2b3c4d", "lan"); !strings.Contains(out, "203.0.113.0") {
			return fmt.Errorf("the new link is not known: %s", out)
		}
		return nil
	})
	victim, attacker, host := tap(t, web.NetNS, "eth0"), tap(t, wan, "wan0"), tap(t, nil, "wan")
	for i, tt := range []struct {
		from string
		want bool
	}{{neighbourOnLAN, false}, {"192.0.2.77", false}, {"203.0.113.9", true}} {
		text := fmt.Sprintf("crossing-%02d-", i)
		must(t, attacker.send(ethernet(host.mac, attacker.mac, 0x800, ipv4(tt.from, "203.0.113.2", 17, nil, udp(uint16(2000+i), 8080, text)))))
		last := fmt.Sprintf("landmark-%02d-", i)
		must(t, attacker.send(ethernet(host.mac, attacker.mac, 0x800, ipv4("203.0.113.10", "203.0.113.2", 17, nil, udp(uint16(3000+i), 8080, last)))))
		seen, err := victim.sees(text, last)
		must(t, err)
		if seen != tt.want {
			t.Errorf("from %s: arrives %t, want %t", tt.from, seen, tt.want)
		}
	}
}

// Where a port is relayed, at one address of the host too, its zone holds.
func TestZonePublishOfRelays(t *testing.T) {
	for _, publish := range []string{api.ZoneHost, api.ZoneLAN, api.ZoneAny} {
		t.Run(publish, func(t *testing.T) {
			w := sixWorld(t, "0")
			w.network("front", zone(api.Zone{Publish: publish}))
			w.network("back", internal, withIPv6)
			s := spec("web", "front")
			s.Ports = mobynet.PortMap{
				mobynet.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr(host6OnLAN), HostPort: "8080"}},
				mobynet.MustParsePort("81/tcp"): {{HostIP: netip.MustParseAddr("::"), HostPort: "8081"}},
			}
			web, back := w.start(s), w.start(spec("b", "back"))
			must(t, netns.Do(w.lan, func() error {
				lo, err := netlink.LinkByName("lo")
				if err != nil {
					return err
				}
				a, err := netlink.ParseAddr(farAway6 + "/128")
				if err != nil {
					return err
				}
				a.Flags = 2 // IFA_F_NODAD
				return netlink.AddrAdd(lo, a)
			}))
			run(t, "ip", "-6", "route", "add", farAway6, "via", neighbour6OnLAN)
			for _, port := range []string{"8080", "8081"} {
				var relay net.Listener
				for _, h := range web.Held {
					if strings.Contains(h.Name, ":"+port+" ") || strings.Contains(h.Name, port) {
						l, err := net.FileListener(w.dup(h.File))
						must(t, err)
						relay = l
					}
				}
				if relay == nil {
					t.Fatalf("no relay of port %s in %v", port, web.Held)
				}
				go func() {
					for {
						c, err := relay.Accept()
						if err != nil {
							return
						}
						_, _ = io.WriteString(c, "relay peer")
						c.Close()
					}
				}()
				t.Cleanup(func() { relay.Close() })
				at := net.JoinHostPort(host6OnLAN, port)
				for who, tt := range map[string]struct {
					ns   *os.File
					from string
					want bool
				}{
					"host":     {nil, "::", true},
					"lan":      {w.lan, neighbour6OnLAN, publish != api.ZoneHost},
					"far away": {w.lan, farAway6, publish == api.ZoneAny},
					// Port 8081 is there at its gateway, too.
					"an internal network": {back.NetNS, "::", false},
				} {
					at, patience := at, 300*time.Millisecond
					if tt.ns == back.NetNS {
						at = net.JoinHostPort(back.Endpoints["back"].IPv6Gateway.String(), "8081")
					}
					if tt.want {
						patience = slow
					}
					got, err := asks(tt.ns, tt.from, at, patience)
					if (err == nil && got == "relay") != tt.want {
						t.Errorf("%s to port %s: %q, %v; want reachable %v", who, port, got, err, tt.want)
					}
				}
			}
		})
	}
}

// An error about a connection comes from somebody on its way, not from another network.
func TestErrorsFromOtherNetworks(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	w.network("back")
	bad, victim := w.start(spec("bad", "front")), w.start(spec("victim", "back"))
	friend := w.start(published(spec("friend", "front"), "5353->53/udp"))
	w.serve(w.lan, "udp", ":99", "lan")
	w.serve(friend.NetNS, "udp", ":53", "friend")
	link, err := netlink.LinkByName(interfaceOf(t, w, "front"))
	must(t, err)
	attacker, seen := tap(t, bad.NetNS, "eth0"), tap(t, victim.NetNS, "eth0")
	var c net.Conn
	must(t, in(victim.NetNS, func() error { c, err = net.Dial("udp4", neighbourOnLAN+":99"); return err }))
	defer c.Close()
	talk := func() error {
		_ = c.SetDeadline(time.Now().Add(slow))
		if _, err := c.Write([]byte("?")); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 100))
		return err
	}
	must(t, talk())
	port := uint16(c.LocalAddr().(*net.UDPAddr).Port)
	self, own := w.address(victim, "back"), w.address(bad, "front")
	quoted := ipv4(self, neighbourOnLAN, 17, nil, udp(port, 99, "crossing"))
	icmp := append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quoted...)
	sum := checksum(icmp)
	icmp[2], icmp[3] = byte(sum>>8), byte(sum)
	must(t, attacker.send(ethernet(link.Attrs().HardwareAddr, attacker.mac, 0x800, ipv4(own, self, 1, nil, icmp))))
	must(t, talk())
	// What it is told from another network by a published port arrives after it.
	w.reaches(victim.NetNS, "udp4", hostOnLAN+":5353", "friend")
	if got, err := seen.sees("crossing", "friend"); err != nil || got {
		t.Errorf("the error arrives %t, %v", got, err)
	}
}
