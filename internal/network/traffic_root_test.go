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

	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/netns"
	"muelle/internal/network"
)

func published(s network.SandboxSpec, ports ...string) network.SandboxSpec {
	s.Ports = mobynet.PortMap{}
	for _, p := range ports {
		host, container, _ := strings.Cut(p, "->")
		b := mobynet.PortBinding{HostPort: host}
		if ip, hostPort, ok := strings.Cut(host, ":"); ok {
			b.HostIP, b.HostPort = netip.MustParseAddr(ip), hostPort
		}
		at := mobynet.MustParsePort(container)
		s.Ports[at] = append(s.Ports[at], b)
	}
	return s
}

func TestTrafficBetweenNetworks(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	w.network("back", internal)
	client := w.start(spec("client", "front"))
	app := w.start(spec("app", "front", "back"))
	db := w.start(spec("db", "back"))
	plain := w.start(spec("plain", "bridge"))
	for _, sb := range []*network.Sandbox{client, app, db, plain} {
		w.serve(sb.NetNS, "tcp", ":80", "hello")
	}
	w.serve(w.lan, "tcp", ":80", "lan")
	w.serve(nil, "tcp", ":90", "host")

	w.reaches(client.NetNS, "tcp4", w.address(app, "front")+":80", "hello")
	w.reaches(app.NetNS, "tcp4", w.address(db, "back")+":80", "hello")
	w.reaches(app.NetNS, "tcp4", w.address(client, "front")+":80", "hello")
	w.reaches(nil, "tcp4", w.address(client, "front")+":80", "hello")
	w.cannotReach(client.NetNS, "tcp4", w.address(db, "back")+":80")
	w.cannotReach(client.NetNS, "tcp4", w.address(app, "back")+":80")
	w.cannotReach(client.NetNS, "tcp4", w.address(plain, "bridge")+":80")
	w.cannotReach(plain.NetNS, "tcp4", w.address(client, "front")+":80")

	// Out to the world, with the host's address, but not from an internal network.
	for _, sb := range []*network.Sandbox{client, app, plain} {
		if got, peer, err := ask(sb.NetNS, "tcp4", neighbourOnLAN+":80", slow); err != nil || got != "lan" || !strings.HasPrefix(peer, hostOnLAN+":") {
			t.Errorf("the LAN answers %q to %s, %v", got, peer, err)
		}
	}
	w.cannotReach(db.NetNS, "tcp4", neighbourOnLAN+":80")
	// Nothing that was not published is reachable from the LAN.
	for _, addr := range []string{w.address(client, "front"), w.address(db, "back"), w.address(plain, "bridge")} {
		w.cannotReach(w.lan, "tcp4", addr+":80")
	}
	// route_localnet opens no loopback (CVE-2020-8558).
	w.serve(nil, "tcp", "127.0.0.1:91", "loopback")
	must(t, netns.Do(client.NetNS, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0)
	}))
	w.cannotReach(client.NetNS, "tcp4", "127.0.0.1:91")
	if data, _ := os.ReadFile("/proc/sys/net/ipv6/conf/muelle-1a2b3c4d/accept_ra"); strings.TrimSpace(string(data)) != "0" {
		t.Errorf("the bridge accepts router advertisements (CVE-2020-13401): %q", data)
	}
}

func TestMTUFollowsDefaultRoute(t *testing.T) {
	w := newWorld(t)
	sb := w.start(spec("c", "bridge"))
	must(t, netns.Do(sb.NetNS, func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil && i.MTU != 1400 {
			t.Errorf("got MTU %d", i.MTU)
		}
		return err
	}))
}

func TestPublishedPorts(t *testing.T) {
	w := newWorld(t)
	w.network("front")
	w.network("other")
	web := w.start(published(spec("web", "front"), "8080->80/tcp", "127.0.0.1:8081->80/tcp", hostOnLAN+":8082->80/tcp", "5353->53/udp", "->81/tcp"))
	sibling := w.start(spec("sibling", "front"))
	stranger := w.start(spec("stranger", "other"))
	w.serve(web.NetNS, "tcp", ":80", "web")
	w.serve(web.NetNS, "udp", ":53", "dns")

	for name, from := range map[string]*os.File{"host": nil, "lan": w.lan, "same network": sibling.NetNS, "other network": stranger.NetNS, "itself": web.NetNS} {
		t.Run(name, func(t *testing.T) {
			w.reaches(from, "tcp4", hostOnLAN+":8080", "web")
			w.reaches(from, "udp4", hostOnLAN+":5353", "dns")
			w.reaches(from, "tcp4", hostOnLAN+":8082", "web")
			w.cannotReach(from, "tcp4", hostOnLAN+":8081")
		})
	}
	w.reaches(nil, "tcp4", "127.0.0.1:8080", "web")
	w.reaches(nil, "tcp4", "127.0.0.1:8081", "web")
	w.reaches(nil, "udp4", "127.0.0.1:5353", "dns")
	w.cannotReach(nil, "tcp4", "127.0.0.1:8082")
	// The LAN sees its own address in the container, not the bridge's.
	if _, peer, _ := ask(w.lan, "tcp4", hostOnLAN+":8080", slow); !strings.HasPrefix(peer, neighbourOnLAN+":") {
		t.Errorf("the container sees %s instead of the LAN's neighbour", peer)
	}
	auto := web.Ports[mobynet.MustParsePort("81/tcp")]
	if len(auto) != 2 || auto[0].HostPort < "32768" {
		t.Errorf("got %v for a port of any number", auto)
	}
	// What is released can be taken again at once.
	w.stop(web.ID)
	again := w.start(published(spec("again", "front"), "8080->80/tcp", "5353->53/udp"))
	w.serve(again.NetNS, "tcp", ":80", "again")
	w.serve(again.NetNS, "udp", ":53", "again")
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "again")
	w.reaches(w.lan, "udp4", hostOnLAN+":5353", "again")
	w.cannotReach(w.lan, "tcp4", hostOnLAN+":8082")
}

// A UDP client that goes on sending from one port follows the mapping.
func TestUDPFlowFollowsMapping(t *testing.T) {
	w := newWorld(t)
	var c net.Conn
	must(t, netns.Do(w.lan, func() (err error) { c, err = net.Dial("udp4", hostOnLAN+":5353"); return err }))
	defer c.Close()
	for _, name := range []string{"one", "two"} {
		sb := w.start(published(spec(name, "bridge"), "5353->53/udp"))
		w.serve(sb.NetNS, "udp", ":53", name)
		w.eventually(func() error {
			_, err := c.Write([]byte("?"))
			must(t, err)
			buf := make([]byte, 100)
			must(t, c.SetReadDeadline(soon()))
			n, err := c.Read(buf)
			// The former's last answer may still be on its way.
			if err == nil && !strings.HasPrefix(string(buf[:n]), name) {
				err = fmt.Errorf("got %q, want it from %s", buf[:n], name)
			}
			return err
		})
		w.stop(sb.ID)
	}
}

func TestTakenPort(t *testing.T) {
	w := newWorld(t)
	l, err := net.Listen("tcp4", ":8080")
	must(t, err)
	_, err = w.Prepare(context.Background(), published(spec("web", "bridge"), "8080->80/tcp"))
	if err == nil || !strings.Contains(err.Error(), "driver failed programming external connectivity on endpoint web (") ||
		!strings.Contains(err.Error(), "failed to bind host port for 0.0.0.0:8080:") ||
		!strings.Contains(err.Error(), ":80/tcp: address already in use (by process ") {
		t.Errorf("got %v", err)
	}
	l.Close()
	w.start(published(spec("web", "bridge"), "8080->80/tcp"))
	_, err = w.Prepare(context.Background(), published(spec("second", "bridge"), "127.0.0.1:8080->80/tcp"))
	if err == nil || !strings.Contains(err.Error(), "Bind for 127.0.0.1:8080 failed: port is already allocated (by container web)") {
		t.Errorf("got %v", err)
	}
	ranged := w.start(published(spec("third", "bridge"), "8080-8082->80/tcp"))
	if got := ranged.Ports[mobynet.MustParsePort("80/tcp")][0].HostPort; got != "8081" {
		t.Errorf("got port %s out of a range", got)
	}
}

func TestThousandPorts(t *testing.T) {
	w := newWorld(t)
	w.start(spec("first", "bridge"))
	s := spec("many", "bridge")
	s.Ports = mobynet.PortMap{}
	for i := range 1000 {
		p, _ := mobynet.PortFrom(uint16(10000+i), mobynet.TCP)
		s.Ports[p] = []mobynet.PortBinding{{HostPort: p.Port()}}
	}
	many := w.start(s)
	w.serve(many.NetNS, "tcp", ":10000", "first")
	w.serve(many.NetNS, "tcp", ":10999", "last")
	w.reaches(w.lan, "tcp4", hostOnLAN+":10000", "first")
	w.reaches(w.lan, "tcp4", hostOnLAN+":10999", "last")
	w.stop(many.ID)
	w.start(published(spec("next", "bridge"), "10500->80/tcp"))
}
