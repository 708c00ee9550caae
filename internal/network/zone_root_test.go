//go:build root

package network_test

import (
	"context"
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
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/netns"
	"muelle/internal/network"
	"muelle/internal/policy"
)

func zone(z api.Zone) func(*mobynet.CreateRequest) {
	return func(r *mobynet.CreateRequest) { r.Options = policy.ToOptions(r.Options, z) }
}

// farAway is an address that the neighbour on the LAN routes for: no one on a link.
const farAway = "198.51.100.7"

// beyond gives the neighbour that address, and the host a route to it.
func (w *world) beyond() {
	w.Helper()
	must(w.TB, netns.Do(w.lan, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(farAway), Mask: net.CIDRMask(32, 32)}})
	}))
}

// asks gives what is answered to somebody who connects from an address.
func asks(ns *os.File, from, addr string, patience time.Duration) (text string, err error) {
	err = in(ns, func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		data, err := io.ReadAll(c)
		text, _, _ = strings.Cut(string(data), " ")
		return err
	})
	return text, err
}

func TestZonePublish(t *testing.T) {
	for _, tt := range []struct {
		publish                     string
		host, lan, far, other, port bool
	}{
		{"", true, true, true, true, true},
		{api.ZoneAny, true, true, true, true, false},
		{api.ZoneLAN, true, true, false, false, false},
		{api.ZoneHost, true, false, false, false, false},
	} {
		t.Run("publish "+tt.publish, func(t *testing.T) {
			w := newWorld(t)
			w.beyond()
			w.network("front", zone(api.Zone{Publish: tt.publish}))
			w.network("plain")
			web := w.start(published(spec("web", "front"), "8080->80/tcp"))
			other := w.start(spec("other", "plain"))
			for _, port := range []string{":80", ":81"} {
				w.serve(web.NetNS, "tcp", port, "web")
			}
			check := func(what string, want bool, got string, err error) {
				t.Helper()
				if (err == nil && got == "web") != want {
					t.Errorf("%s: %q, %v; want reachable %v", what, got, err, want)
				}
			}
			patience := func(want bool) time.Duration {
				if want {
					return slow
				}
				return 250 * time.Millisecond
			}
			all := func(when string) {
				t.Helper()
				for _, addr := range []string{"127.0.0.1:8080", hostOnLAN + ":8080", w.address(web, "front") + ":80"} {
					got, _, err := ask(nil, "tcp4", addr, patience(tt.host))
					check(when+": host to "+addr, tt.host, got, err)
				}
				got, _, err := ask(nil, "tcp4", w.address(web, "front")+":81", patience(tt.port))
				check(when+": host to a port that is not published", tt.port, got, err)
				got, err = asks(w.lan, neighbourOnLAN, hostOnLAN+":8080", patience(tt.lan))
				check(when+": lan", tt.lan, got, err)
				got, err = asks(w.lan, farAway, hostOnLAN+":8080", patience(tt.far))
				check(when+": far away", tt.far, got, err)
				got, _, err = ask(other.NetNS, "tcp4", hostOnLAN+":8080", patience(tt.other))
				check(when+": another network", tt.other, got, err)
			}
			all("at first")
			run(t, "nft", "flush", "ruleset")
			w.eventually(func() error {
				if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "chain forward") {
					return fmt.Errorf("the rules are not back: %s", out)
				}
				return nil
			})
			all("after a flush")
		})
	}
}

func TestZonePublishNone(t *testing.T) {
	w := newWorld(t)
	w.network("shut", zone(api.Zone{Publish: api.ZoneNone}))
	w.network("front")
	if _, err := w.Prepare(context.Background(), published(spec("web", "shut"), "8080->80/tcp")); err == nil || !strings.Contains(err.Error(), "publishes ports, but every network of it publishes none") {
		t.Fatalf("got %v", err)
	}
	// The way out is through front alphabetically; through shut nothing would be published.
	w.network("alpha", zone(api.Zone{Publish: api.ZoneNone}))
	web := w.start(published(spec("web", "alpha", "front"), "8080->80/tcp"))
	w.serve(web.NetNS, "tcp", ":80", "web")
	w.reaches(nil, "tcp4", "127.0.0.1:8080", "web")
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "web")
	if _, peer, _ := ask(w.lan, "tcp4", hostOnLAN+":8080", slow); !strings.HasPrefix(peer, neighbourOnLAN+":") {
		t.Errorf("the container sees %s instead of the LAN's neighbour", peer)
	}
	// Answers leave by front, as a guard against spoofed addresses wants it.
	must(t, netns.Do(web.NetNS, func() error {
		if out := run(t, "ip", "route", "get", neighbourOnLAN, "from", w.address(web, "front")); !strings.Contains(out, web.Endpoints["front"].Gateway.String()) {
			t.Errorf("answers leave by %s", out)
		}
		return nil
	}))
	w.cannotReach(nil, "tcp4", w.address(web, "alpha")+":80")
	w.reaches(nil, "tcp4", w.address(web, "front")+":80", "web")
}

func TestInternalZonePublishesToTheHost(t *testing.T) {
	w := newWorld(t)
	w.network("back", internal, zone(api.Zone{Publish: api.ZoneHost}))
	if _, err := w.Create(context.Background(), mobynet.CreateRequest{Name: "x", Internal: true, Options: policy.ToOptions(nil, api.Zone{Publish: api.ZoneLAN})}); err == nil {
		t.Error("an internal network may publish to the LAN")
	}
	db := w.start(published(spec("db", "back"), "8080->80/tcp"))
	w.serve(db.NetNS, "tcp", ":80", "db")
	w.serve(db.NetNS, "tcp", ":81", "db")
	w.reaches(nil, "tcp4", "127.0.0.1:8080", "db")
	w.reaches(nil, "tcp4", hostOnLAN+":8080", "db")
	w.cannotReach(nil, "tcp4", w.address(db, "back")+":81")
	w.cannotReach(w.lan, "tcp4", hostOnLAN+":8080")
	w.cannotReach(db.NetNS, "tcp4", neighbourOnLAN+":80")
}

func TestZoneEgress(t *testing.T) {
	w := newWorld(t)
	w.beyond()
	w.network("some", zone(api.Zone{Egress: []string{"192.0.2.0/24"}}))
	w.network("nowhere", zone(api.Zone{Egress: []string{api.ZoneNone}}))
	w.network("open")
	some := w.start(spec("some", "some"))
	sibling := w.start(spec("sibling", "some"))
	none := w.start(published(spec("none", "nowhere"), "8080->80/tcp"))
	open := w.start(published(spec("open", "open"), "8090->80/tcp"))
	for _, sb := range []*network.Sandbox{sibling, none, open} {
		w.serve(sb.NetNS, "tcp", ":80", "c")
	}
	w.serve(w.lan, "tcp", ":80", "lan")
	w.serve(w.lan, "tcp", ":53", "dns")
	w.serve(w.lan, "tcp", ":853", "tls")
	w.serve(w.lan, "tcp", ":85", "other")
	w.serve(nil, "tcp", ":90", "host")
	gateway := some.Endpoints["some"].Gateway.String()

	all := func(when string) {
		t.Helper()
		t.Log(when)
		w.reaches(some.NetNS, "tcp4", neighbourOnLAN+":80", "lan")
		w.cannotReach(some.NetNS, "tcp4", farAway+":80")
		w.cannotReach(some.NetNS, "tcp4", neighbourOnLAN+":53")
		w.cannotReach(some.NetNS, "tcp4", neighbourOnLAN+":853")
		w.reaches(some.NetNS, "tcp4", neighbourOnLAN+":85", "other")
		w.reaches(some.NetNS, "tcp4", w.address(sibling, "some")+":80", "c")
		w.cannotReach(some.NetNS, "tcp4", gateway+":90")
		w.cannotReach(some.NetNS, "tcp4", gateway+":8090")
		w.reaches(some.NetNS, "tcp4", hostOnLAN+":90", "host") // it is in the prefix asked for
		w.cannotReach(none.NetNS, "tcp4", neighbourOnLAN+":80")
		w.cannotReach(none.NetNS, "tcp4", hostOnLAN+":90")
		w.cannotReach(none.NetNS, "tcp4", hostOnLAN+":8090")
		w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "c") // none publishes all the same
		w.reaches(open.NetNS, "tcp4", farAway+":80", "lan")
	}
	all("at first")
	must(t, w.SetZone(context.Background(), "open", api.Zone{Egress: []string{api.ZoneNone}}))
	w.cannotReach(open.NetNS, "tcp4", farAway+":80")
	must(t, w.SetZone(context.Background(), "open", api.Zone{}))
	all("after a change and back")
}

// What a name stands for is open once it was looked up, over a flush and a restart of
// the daemon, and no longer where the zone forgets the name.
func TestZoneEgressByName(t *testing.T) {
	w := newWorld(t)
	w.beyond()
	w.nameServer(map[string]string{"far.example.org.": farAway, "a.wild.example.org.": neighbourOnLAN, "evil.example.org.": farAway})
	w.network("names", zone(api.Zone{Egress: []string{"far.example.org", "*.wild.example.org"}}))
	sp := spec("c", "names")
	c := w.start(sp)
	w.serve(w.lan, "tcp", ":80", "lan")

	w.cannotReach(c.NetNS, "tcp4", farAway+":80")
	if got := resolve(t, c.NetNS, "udp", "evil.example.org", dns.TypeA); got != "NXDOMAIN" {
		t.Errorf("a name that the zone does not list was asked outside: %s", got)
	}
	if got := resolve(t, c.NetNS, "udp", "far.example.org", dns.TypeA); got != farAway {
		t.Fatalf("got %q", got)
	}
	w.reaches(c.NetNS, "tcp4", farAway+":80", "lan")
	w.cannotReach(c.NetNS, "tcp4", neighbourOnLAN+":80")
	if got := resolve(t, c.NetNS, "udp", "a.wild.example.org", dns.TypeA); got != neighbourOnLAN {
		t.Fatalf("got %q", got)
	}
	w.reaches(c.NetNS, "tcp4", neighbourOnLAN+":80", "lan")

	run(t, "nft", "flush", "ruleset")
	w.eventually(func() error {
		if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "zone-egress") {
			return fmt.Errorf("the rules are not back: %s", out)
		}
		return nil
	})
	w.reaches(c.NetNS, "tcp4", farAway+":80", "lan")

	w.kill()
	w.open()
	w.adopt(sp, c)
	must(t, w.Adopted(context.Background()))
	w.reaches(c.NetNS, "tcp4", farAway+":80", "lan")

	must(t, w.SetZone(context.Background(), "names", api.Zone{Egress: []string{"*.wild.example.org"}}))
	w.cannotReach(c.NetNS, "tcp4", farAway+":80")
}

func TestZoneBetween(t *testing.T) {
	w := newWorld(t)
	w.network("apart", zone(api.Zone{Between: api.ZoneDeny}), func(r *mobynet.CreateRequest) { r.EnableIPv6 = new(bool); *r.EnableIPv6 = true })
	a, b := w.start(spec("a", "apart")), w.start(spec("b", "apart"))
	w.serve(b.NetNS, "tcp", ":80", "b")
	w.serve(b.NetNS, "tcp6", ":80", "b")
	six := net.JoinHostPort(b.Endpoints["apart"].GlobalIPv6Address.String(), "80")
	w.cannotReach(a.NetNS, "tcp4", w.address(b, "apart")+":80")
	w.cannotReach(a.NetNS, "tcp6", six)
	must(t, w.SetZone(context.Background(), "apart", api.Zone{}))
	// Who asked in vain does not go on to believe that nobody is there.
	must(t, in(a.NetNS, func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			list, err := netlink.NeighList(0, family)
			if err != nil {
				return err
			}
			for _, n := range list {
				if n.State&(unix.NUD_INCOMPLETE|unix.NUD_FAILED) != 0 {
					t.Errorf("a has not found %s", n.IP)
				}
			}
		}
		return nil
	}))
	w.reaches(a.NetNS, "tcp4", w.address(b, "apart")+":80", "b")
	w.reaches(a.NetNS, "tcp6", six, "b")
	must(t, w.SetZone(context.Background(), "apart", api.Zone{Between: api.ZoneDeny}))
	w.cannotReach(a.NetNS, "tcp4", w.address(b, "apart")+":80")
}

// A change ends the connections that it forbids; others go on.
func TestZoneChangeCutsConnections(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	web := w.start(published(spec("web", "front"), "8080->80/tcp"))
	must(t, in(web.NetNS, func() error { return echo(w, ":80") }))
	dial := func(ns *os.File, addr string) (c net.Conn) {
		t.Helper()
		must(t, in(ns, func() (err error) { c, err = net.DialTimeout("tcp4", addr, slow); return err }))
		t.Cleanup(func() { c.Close() })
		return c
	}
	works := func(c net.Conn, patience time.Duration) error {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1))
		return err
	}
	lan, host := dial(w.lan, hostOnLAN+":8080"), dial(nil, hostOnLAN+":8080")
	must(t, works(lan, slow))
	must(t, works(host, slow))
	must(t, w.SetZone(context.Background(), "front", api.Zone{Publish: api.ZoneHost}))
	if works(lan, 300*time.Millisecond) == nil {
		t.Error("a connection from the LAN goes on")
	}
	must(t, works(host, slow))
}

// The prefixes of the LAN follow the host's addresses.
func TestZoneFollowsTheHostsAddresses(t *testing.T) {
	w := newWorld(t)
	w.beyond()
	w.network("front", zone(api.Zone{Publish: api.ZoneLAN}))
	web := w.start(published(spec("web", "front"), "8080->80/tcp"))
	w.serve(web.NetNS, "tcp", ":80", "web")
	if _, err := asks(w.lan, farAway, hostOnLAN+":8080", 300*time.Millisecond); err == nil {
		t.Fatal("reached from beyond the LAN")
	}
	link, err := netlink.LinkByName("uplink")
	must(t, err)
	must(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP("198.51.100.1"), Mask: net.CIDRMask(24, 32)}}))
	w.eventually(func() error {
		got, err := asks(w.lan, farAway, hostOnLAN+":8080", 300*time.Millisecond)
		if err == nil && got != "web" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
}

func echo(w *world, addr string) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	w.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	return nil
}

// nameServer answers on the host for the names only.
func (w *world) nameServer(names map[string]string) {
	w.Helper()
	pc, err := net.ListenPacket("udp4", "127.0.0.1:53")
	must(w.TB, err)
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		if a, ok := names[q.Question[0].Name]; ok && q.Question[0].Qtype == dns.TypeA {
			r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: netip.MustParseAddr(a).AsSlice()})
		} else if !ok {
			r.Rcode = dns.RcodeNameError
		}
		_ = rw.WriteMsg(r)
	})}
	go func() { _ = s.ActivateAndServe() }()
	w.Cleanup(func() { _ = s.Shutdown() })
}
