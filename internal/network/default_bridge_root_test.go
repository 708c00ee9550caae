//go:build root

package network_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	mobynet "github.com/moby/moby/api/types/network"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
)

// as opens the Service again with another configuration.
func (w *world) as(change func(*network.Options)) {
	w.Helper()
	must(w.TB, w.Service.Close(context.Background()))
	o := w.options
	o.DefaultBridge, o.NetworkOptions, o.HostGateways = network.DefaultBridge{}, nil, nil
	w.options = o
	change(&w.options)
	w.open()
}

func (w *world) insides(sb *network.Sandbox, f func(rtnl.Interface, string)) {
	w.Helper()
	must(w.TB, netns.Do(sb.NetNS, func() error {
		routes, err := rtnl.RouteText()
		if err != nil {
			return err
		}
		list, err := rtnl.Interfaces()
		for _, i := range list {
			if i.Name == "eth0" {
				f(i, strings.Join(routes, "\n"))
			}
		}
		return err
	}))
}

func bridgeOptions(opts ...string) network.DefaultBridge {
	d := network.DefaultBridge{Options: map[string]string{}}
	for i := 0; i < len(opts); i += 2 {
		d.Options[opts[i]] = opts[i+1]
	}
	return d
}

// mtu, fixed-cidr, default-gateway and bip of the default bridge, seen in a container.
func TestDefaultBridgeAddresses(t *testing.T) {
	w := newWorld(t)
	w.as(func(o *network.Options) {
		o.DefaultBridge = bridgeOptions("com.docker.network.driver.mtu", "1234")
		o.DefaultBridge.Addresses = []netip.Prefix{netip.MustParsePrefix("10.66.0.1/16")}
		o.DefaultBridge.Ranges = []netip.Prefix{netip.MustParsePrefix("10.66.5.0/24")}
		o.DefaultBridge.Gateways = []netip.Addr{netip.MustParseAddr("10.66.0.9")}
		o.HostGateways = []netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("fd00::77")}
	})
	before, err := w.Get("bridge")
	must(t, err)
	s := spec("c", "bridge")
	s.ExtraHosts = []string{"there:host-gateway"}
	sb := w.start(s)
	if a := w.address(sb, "bridge"); a != "10.66.5.0" {
		t.Errorf("address %s is not the first of the range", a)
	}
	w.insides(sb, func(i rtnl.Interface, routes string) {
		if i.MTU != 1234 || !strings.Contains(routes, "default via 10.66.0.9 dev eth0") {
			t.Errorf("MTU %d, routes %s", i.MTU, routes)
		}
	})
	if gw := sb.Endpoints["bridge"].Gateway.String(); gw != "10.66.0.9" {
		t.Errorf("gateway shown is %s", gw)
	}
	if !strings.Contains(string(sb.Hosts), "192.0.2.77\tthere\nfd00::77\tthere\n") {
		t.Errorf("hosts: %s", sb.Hosts)
	}
	// A range alone is the subnet, and the network another one.
	w.stop(s.ID)
	w.as(func(o *network.Options) {
		o.DefaultBridge.Ranges = []netip.Prefix{netip.MustParsePrefix("10.67.8.0/24")}
	})
	sb = w.start(spec("d", "bridge"))
	if a := w.address(sb, "bridge"); a != "10.67.8.2" || sb.Endpoints["bridge"].NetworkID == before.ID {
		t.Errorf("address %s", a)
	}
}

// Options change with the next start of the daemon, and the network stays the same one.
func TestDefaultBridgeOptions(t *testing.T) {
	w := newWorld(t)
	before, err := w.Get("bridge")
	must(t, err)
	w.as(func(o *network.Options) {
		o.DefaultBridge = bridgeOptions("com.docker.network.bridge.enable_icc", "false", "com.docker.network.bridge.host_binding_ipv4", "127.0.0.1",
			"com.docker.network.bridge.enable_ip_masquerade", "false")
	})
	if after, err := w.Get("bridge"); err != nil || after.ID != before.ID {
		t.Errorf("the network became another one: %v", err)
	}
	a := spec("a", "bridge")
	a.Ports = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): {{HostPort: "8080"}}}
	one, two := w.start(a), w.start(spec("b", "bridge"))
	w.serve(one.NetNS, "tcp", ":80", "one")
	w.cannotReach(two.NetNS, "tcp4", w.address(one, "bridge")+":80")
	w.reaches(nil, "tcp4", w.address(one, "bridge")+":80", "one")
	w.reaches(nil, "tcp4", "127.0.0.1:8080", "one")
	w.cannotReach(w.lan, "tcp4", hostOnLAN+":8080")
	// The neighbour sees the container's own address.
	w.serve(w.lan, "tcp", ":81", "lan")
	if _, peer, err := ask(two.NetNS, "tcp4", neighbourOnLAN+":81", slow); err != nil || !strings.HasPrefix(peer, w.address(two, "bridge")+":") {
		t.Errorf("seen as %s, %v", peer, err)
	}
}

// The default bridge with IPv6: both of a range, a container reaches another.
func TestDefaultBridgeIPv6(t *testing.T) {
	w := newWorld(t)
	w.as(func(o *network.Options) {
		o.DefaultBridge.IPv6 = true
		o.DefaultBridge.Ranges = []netip.Prefix{netip.MustParsePrefix("fd00:66::/64")}
	})
	one, two := w.start(spec("a", "bridge")), w.start(spec("b", "bridge"))
	six := one.Endpoints["bridge"].GlobalIPv6Address
	if !netip.MustParsePrefix("fd00:66::/64").Contains(six) {
		t.Fatalf("address %s", six)
	}
	must(t, in(one.NetNS, func() error { return w.listen6(six) }))
	w.reaches(two.NetNS, "tcp6", netip.AddrPortFrom(six, 80).String(), "six")
	w.reaches(nil, "tcp6", netip.AddrPortFrom(six, 80).String(), "six")
	// Without it again there is none.
	w.stop(one.ID)
	w.stop(two.ID)
	w.as(func(*network.Options) {})
	if sb := w.start(spec("c", "bridge")); sb.Endpoints["bridge"].GlobalIPv6Address.IsValid() {
		t.Error("IPv6 stayed")
	}
}

// bridge: none, a bridge of the host's own, and back.
func TestDefaultBridgeOfTheHost(t *testing.T) {
	w := newWorld(t)
	w.as(func(o *network.Options) { o.DefaultBridge.None = true })
	if _, err := w.Prepare(t.Context(), spec("c", "bridge")); err == nil || err.Error() != "network bridge not found" {
		t.Errorf("without a default bridge: %v", err)
	}
	w.options.DefaultBridge = network.DefaultBridge{Interface: "br0"}
	if _, err := network.Open(t.Context(), w.options); err == nil || !strings.Contains(err.Error(), "bridge device with non default bridge name br0 must be created manually") {
		t.Errorf("a bridge that is not there: %v", err)
	}
	run(t, "ip", "link", "add", "br0", "type", "bridge")
	defer run(t, "ip", "link", "del", "br0")
	if _, err := network.Open(t.Context(), w.options); err == nil || !strings.Contains(err.Error(), "bridge br0 has no fitting address") {
		t.Errorf("a bridge without an address: %v", err)
	}
	run(t, "ip", "addr", "add", "10.68.0.7/24", "dev", "br0")
	run(t, "ip", "link", "set", "br0", "up")
	w.as(func(o *network.Options) { o.DefaultBridge.Interface = "br0" })
	s := spec("c", "bridge")
	s.Ports = mobynet.PortMap{mobynet.MustParsePort("80/tcp"): {{HostPort: "8080"}}}
	sb := w.start(s)
	w.serve(sb.NetNS, "tcp", ":80", "c")
	w.reaches(w.lan, "tcp4", hostOnLAN+":8080", "c")
	w.reaches(nil, "tcp4", "127.0.0.1:8080", "c")
	w.serve(w.lan, "tcp", ":81", "lan")
	w.reaches(sb.NetNS, "tcp4", neighbourOnLAN+":81", "lan")
	if gw := sb.Endpoints["bridge"].Gateway.String(); gw != "10.68.0.7" {
		t.Errorf("gateway %s", gw)
	}
	w.stop(s.ID)
	w.as(func(*network.Options) {})
	if !rtnl.Exists("br0") || !strings.Contains(run(t, "ip", "addr", "show", "br0"), "10.68.0.7/24") {
		t.Error("the host's bridge did not stay as it was")
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/br0/route_localnet"); err != nil || string(b) != "0\n" {
		t.Errorf("route_localnet is left as %s, %v", b, err)
	}
	if other := w.start(spec("d", "bridge")); other.Endpoints["bridge"].Gateway.String() == "10.68.0.7" {
		t.Error("the host's bridge is still used")
	}
}

// default-network-opts hold for networks that do not say otherwise.
func TestDefaultNetworkOptions(t *testing.T) {
	w := newWorld(t)
	const mtu = "com.docker.network.driver.mtu"
	w.as(func(o *network.Options) { o.NetworkOptions = map[string]map[string]string{"bridge": {mtu: "1333"}} })
	w.network("plain")
	w.network("own", func(r *mobynet.CreateRequest) { r.Options = map[string]string{mtu: "1222"} })
	for name, want := range map[string]int{"plain": 1333, "own": 1222, "bridge": 1400} {
		w.insides(w.start(spec("on-"+name, name)), func(i rtnl.Interface, _ string) {
			if i.MTU != want {
				t.Errorf("%s has MTU %d, want %d", name, i.MTU, want)
			}
		})
	}
	o := w.options
	o.NetworkOptions = map[string]map[string]string{"bridge": {mtu: "seven"}}
	if _, err := network.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "default-network-opts: failed to parse "+mtu) {
		t.Errorf("a bad option: %v", err)
	}
}
