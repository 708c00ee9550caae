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
	"sync"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"
	net6 "golang.org/x/net/ipv6"

	"muelle/api"
	"muelle/internal/linux/netns"
	"muelle/internal/network"
)

// far6 is the neighbour's, on no link of the host's.
const far6 = "2001:db8:ffff::7"

// beyond6 gives the neighbour that address, and the host a route to it; it answers from
// the neighbour's link-local address, too.
func (w *world) beyond6() (linkLocal string) {
	w.Helper()
	must(w.TB, netns.Do(w.lan, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(far6), Mask: net.CIDRMask(128, 128)}})
	}))
	run(w.TB, "ip", "-6", "route", "add", far6, "via", neighbour6OnLAN)
	link, err := netlink.LinkByName("uplink")
	must(w.TB, err)
	w.eventually(func() error { // duplicate address detection
		list, err := netlink.AddrList(link, netlink.FAMILY_V6)
		for _, a := range list {
			if a.IP.IsLinkLocalUnicast() && a.Flags&(0x40|0x08) == 0 {
				linkLocal = a.IP.String() + "%lan0"
			}
		}
		if err == nil && linkLocal == "" {
			err = fmt.Errorf("no link-local address")
		}
		return err
	})
	w.eventually(func() error {
		_, err := asks(w.lan, "::", net.JoinHostPort(linkLocal, "1"), slow)
		if err != nil && strings.Contains(err.Error(), "refused") {
			return nil
		}
		return fmt.Errorf("link-local addresses do not work: %v", err)
	})
	return linkLocal
}

// relay answers at the sockets that a container's shim holds for IPv6.
func (w *world) relay(sb *network.Sandbox) {
	w.Helper()
	for _, h := range sb.Held {
		if !h.RelayTo.IsValid() {
			continue
		}
		if strings.HasSuffix(h.Name, "/udp") {
			pc, err := net.FilePacketConn(w.dup(h.File))
			must(w.TB, err)
			w.Cleanup(func() { pc.Close() })
			c := net6.NewPacketConn(pc)
			must(w.TB, c.SetControlMessage(net6.FlagDst|net6.FlagInterface, true))
			go func() {
				buf := make([]byte, 1500)
				for {
					_, cm, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte("relay "+from.String()), &net6.ControlMessage{Src: cm.Dst, IfIndex: cm.IfIndex}, from)
				}
			}()
			continue
		}
		l, err := net.FileListener(w.dup(h.File))
		must(w.TB, err)
		w.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "relay "+c.RemoteAddr().String())
				c.Close()
			}
		}()
	}
}

// probe is one attempt that must succeed or not.
type probe struct {
	what, proto, from, to string
	ns                    *os.File
	want                  bool
}

// probes makes all attempts at once.
func (w *world) probes(list []probe) {
	w.Helper()
	var wg sync.WaitGroup
	for _, p := range list {
		wg.Go(func() {
			patience := slow
			if !p.want {
				patience = 400 * time.Millisecond
			}
			got, err := p.try(patience)
			if (err == nil) != p.want {
				w.Errorf("%s: %s from %s to %s: %q, %v; want reached %v", p.what, p.proto, p.from, p.to, got, err, p.want)
			}
		})
	}
	wg.Wait()
}

func (p probe) try(patience time.Duration) (got string, err error) {
	err = in(p.ns, func() error {
		d := net.Dialer{Timeout: patience}
		if p.from != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(p.from)}
			if p.proto == "udp" {
				d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(p.from)}
			}
		}
		c, err := d.Dial(p.proto, p.to)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if p.proto == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
		}
		buf := make([]byte, 200)
		n, err := c.Read(buf)
		got = string(buf[:n])
		return err
	})
	return got, err
}

// publishKinds are ports and the host's addresses that they are published on, in the
// order of their last digits.
var publishKinds = []string{"", hostOnLAN, "0.0.0.0", "127.0.0.1", host6OnLAN, "::", "::1"}

func kinds(s network.SandboxSpec, base int) network.SandboxSpec {
	s.Ports = mobynet.PortMap{}
	for i, host := range publishKinds {
		b := mobynet.PortBinding{HostPort: fmt.Sprint(base + i)}
		if host != "" {
			b.HostIP = netip.MustParseAddr(host)
		}
		for _, p := range []string{"80/tcp", "80/udp"} {
			at := mobynet.MustParsePort(p)
			s.Ports[at] = append(s.Ports[at], b)
		}
	}
	return s
}

// Every way to publish a port, from every side, by IPv4 and IPv6, TCP and UDP, whether
// the kernel translates it or a process relays it.
func TestZonePublishEveryKind(t *testing.T) {
	for forwards, list := range map[string][]string{"0": {"", api.ZoneHost, api.ZoneLAN}, "1": {api.ZoneHost, api.ZoneLAN, api.ZoneAny}} {
		for _, publish := range list {
			t.Run("forwarding "+forwards+" publish "+publish, func(t *testing.T) {
				w := sixWorld(t, forwards)
				w.beyond()
				local := w.beyond6()
				yes := true
				six := func(r *mobynet.CreateRequest) { r.EnableIPv6 = &yes }
				w.network("four", zone(api.Zone{Publish: publish}))
				w.network("six", six, zone(api.Zone{Publish: publish}))
				w.network("plain", six)
				w.network("shut", internal, six)
				bases := map[int]string{7000: "replicas", 8000: "IPv4 only", 9000: "both families"}
				start := func(s network.SandboxSpec, base int) {
					sb := w.start(kinds(s, base))
					for _, proto := range []string{"tcp", "udp", "tcp6", "udp6"} {
						if base == 9000 || !strings.HasSuffix(proto, "6") {
							w.serve(sb.NetNS, proto, ":80", "web")
						}
					}
					w.relay(sb)
				}
				start(replicaOf(spec("one", "four")), 7000)
				start(replicaOf(spec("two", "four")), 7000)
				start(spec("web4", "four"), 8000)
				start(spec("web6", "six"), 9000)
				other, sibling, shut := w.start(spec("other", "plain")), w.start(spec("sibling", "six")), w.start(spec("closed", "shut"))

				all := func() (list []probe) {
					for base, what := range bases {
						for i, host := range publishKinds {
							for _, proto := range []string{"tcp", "udp"} {
								add := func(who string, ns *os.File, from, to string, want bool) {
									to = net.JoinHostPort(to, fmt.Sprint(base+i))
									list = append(list, probe{fmt.Sprintf("%s at %q, %s", what, host, who), proto, from, to, ns, want})
								}
								lan, any := publish != api.ZoneHost, publish == "" || publish == api.ZoneAny
								v4 := host == "" || host == hostOnLAN || host == "0.0.0.0"
								v6 := host == "" || host == host6OnLAN || host == "::"
								add("lan", w.lan, neighbourOnLAN, hostOnLAN, v4 && lan)
								add("far", w.lan, farAway, hostOnLAN, v4 && any)
								add("lan", w.lan, neighbour6OnLAN, host6OnLAN, v6 && lan)
								add("far", w.lan, far6, host6OnLAN, v6 && any)
								add("lan, link-local", w.lan, "", local, v6 && host != host6OnLAN && lan)
								add("another network", other.NetNS, "", hostOnLAN, v4 && any)
								add("another network", other.NetNS, "", host6OnLAN, v6 && any)
								add("internal network", shut.NetNS, "", shut.Endpoints["shut"].GlobalIPv6Address.Prev().String(), false)
								if base == 9000 && host != host6OnLAN {
									add("its own network", sibling.NetNS, "", sibling.Endpoints["six"].IPv6Gateway.String(), v6)
								}
								for _, a := range []string{"127.0.0.1", hostOnLAN, "::1", host6OnLAN} {
									is4 := strings.Contains(a, ".")
									add("host", nil, "", a, host == a || host == "" || is4 && host == "0.0.0.0" || !is4 && host == "::")
								}
							}
						}
					}
					return list
				}
				w.probes(all())
				if forwards == "0" && publish == api.ZoneLAN {
					run(t, "nft", "flush", "ruleset")
					w.eventually(func() error {
						if out := run(t, "nft", "list", "ruleset"); !strings.Contains(out, "relay-input") {
							return fmt.Errorf("the rules are not back: %s", out)
						}
						return nil
					})
					w.probes(all())
				}
			})
		}
	}
}

// A zone that closes ends what goes through a relay, too.
func TestZoneChangeCutsRelays(t *testing.T) {
	w := sixWorld(t, "0")
	w.network("front")
	web := w.start(published(spec("web", "front"), "8080->80/tcp"))
	c, err := w.accepts(web, "port *:8080 80/tcp", w.lan, net.JoinHostPort(host6OnLAN, "8080"))
	must(t, err)
	c.Close()
	var client net.Conn
	for _, h := range web.Held {
		if h.Name != "port *:8080 80/tcp" {
			continue
		}
		l, err := net.FileListener(w.dup(h.File))
		must(t, err)
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
	}
	must(t, in(w.lan, func() (err error) {
		client, err = net.DialTimeout("tcp6", net.JoinHostPort(host6OnLAN, "8080"), slow)
		return err
	}))
	defer client.Close()
	works := func(patience time.Duration) error {
		_ = client.SetDeadline(time.Now().Add(patience))
		if _, err := client.Write([]byte("x")); err != nil {
			return err
		}
		_, err := client.Read(make([]byte, 1))
		return err
	}
	must(t, works(slow))
	must(t, w.SetZone(context.Background(), "front", api.Zone{Publish: api.ZoneLAN}))
	must(t, works(slow))
	must(t, w.SetZone(context.Background(), "front", api.Zone{Publish: api.ZoneHost}))
	if works(400*time.Millisecond) == nil {
		t.Error("a connection from the LAN through the relay goes on")
	}
}
