//go:build root

package network_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	mobynet "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
)

// with gives a network driver options: "gateway_mode_ipv4=routed".
func with(options ...string) func(*mobynet.CreateRequest) {
	return func(r *mobynet.CreateRequest) {
		r.Options = map[string]string{}
		for _, o := range options {
			k, v, _ := strings.Cut(o, "=")
			r.Options["com.docker.network."+k] = v
		}
	}
}

func TestGatewayModes(t *testing.T) {
	w := newWorld(t)
	const second = "192.0.2.77"
	run(t, "ip", "addr", "add", second+"/24", "dev", "uplink")
	w.network("plain")
	w.network("open", with("bridge.gateway_mode_ipv4=nat-unprotected"))
	w.network("routed", with("bridge.gateway_mode_ipv4=routed"))
	w.network("trusting", with("bridge.trusted_host_interfaces=other:uplink"))
	w.network("named", with("host_ipv4="+second))
	boxes := map[string]*network.Sandbox{}
	names := []string{"plain", "open", "routed", "trusting", "named"}
	for i, name := range names {
		boxes[name] = w.start(published(spec(name, name), fmt.Sprintf("%d->80/tcp", 8080+i)))
		w.serve(boxes[name].NetNS, "tcp", ":80", name)
		w.serve(boxes[name].NetNS, "tcp", ":81", name)
	}
	w.serve(w.lan, "tcp", ":80", "lan")
	for _, tt := range []struct {
		name           string
		port80, port81 bool // at the container's own address
		host           bool // at the host's
		source         string
	}{
		{"plain", false, false, true, hostOnLAN},
		{"open", true, true, true, hostOnLAN},
		{"routed", true, false, false, w.address(boxes["routed"], "routed")},
		{"trusting", true, false, true, hostOnLAN},
		{"named", false, false, true, second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			look := func(reachable bool, addr string) {
				t.Helper()
				if reachable {
					w.reaches(w.lan, "tcp4", addr, tt.name)
				} else {
					w.cannotReach(w.lan, "tcp4", addr)
				}
			}
			own := w.address(boxes[tt.name], tt.name)
			look(tt.port80, own+":80")
			look(tt.port81, own+":81")
			look(tt.host, hostOnLAN+":"+map[string]string{"plain": "8080", "open": "8081", "routed": "8082", "trusting": "8083", "named": "8084"}[tt.name])
			// The socket of the relay at [::1] takes connections only where they are passed on.
			patience := slow
			if !tt.host {
				patience = 300 * time.Millisecond
			}
			err := in(nil, func() error {
				c, err := net.DialTimeout("tcp6", fmt.Sprintf("[::1]:%d", 8080+slices.Index(names, tt.name)), patience)
				if err == nil {
					c.Close()
				}
				return err
			})
			if (err == nil) != tt.host {
				t.Errorf("the relay: %v", err)
			}
			if tt.name != "plain" {
				w.cannotReach(boxes["plain"].NetNS, "tcp4", own+":80")
			}
			if _, peer, err := ask(boxes[tt.name].NetNS, "tcp4", neighbourOnLAN+":80", slow); err != nil || !strings.HasPrefix(peer, tt.source+":") {
				t.Errorf("the LAN sees %s, %v; want %s", peer, err, tt.source)
			}
		})
	}
}

// Containers of an isolated network have each other and not even the host.
func TestIsolatedNetwork(t *testing.T) {
	w := newWorld(t)
	w.network("alone", internal, func(r *mobynet.CreateRequest) { with("bridge.gateway_mode_ipv4=isolated")(r) })
	one, two := w.start(spec("one", "alone")), w.start(spec("two", "alone"))
	w.serve(two.NetNS, "tcp", ":80", "two")
	w.serve(nil, "tcp", ":90", "host")
	w.reaches(one.NetNS, "tcp4", w.address(two, "alone")+":80", "two")
	n, err := w.Get("alone")
	must(t, err)
	w.cannotReach(one.NetNS, "tcp4", n.IPAM.Config[0].Gateway.String()+":90")
	bridge, err := net.InterfaceByName("mueb1a2b" + n.ID[:7])
	must(t, err)
	addrs, err := bridge.Addrs()
	must(t, err)
	for _, a := range addrs {
		if !strings.HasPrefix(a.String(), "fe80:") {
			t.Errorf("the bridge has the address %s", a)
		}
	}
}

func TestIPv6Only(t *testing.T) {
	w := newWorld(t)
	no := false
	w.network("six", withIPv6, func(r *mobynet.CreateRequest) { r.EnableIPv4 = &no })
	one, two := w.start(spec("one", "six")), w.start(spec("two", "six"))
	e := two.Endpoints["six"]
	if e.IPAddress.IsValid() || !netip.MustParsePrefix("fd00::/8").Contains(e.GlobalIPv6Address) || len(e.MacAddress) != 6 {
		t.Errorf("endpoint: %+v", e)
	}
	must(t, in(two.NetNS, func() error { return w.listen6(netip.IPv6Unspecified()) }))
	w.reaches(one.NetNS, "tcp6", "["+e.GlobalIPv6Address.String()+"]:80", "six")
	if got := resolve(t, one.NetNS, "udp", "two", dns.TypeAAAA); got != e.GlobalIPv6Address.String() {
		t.Errorf("two is %s", got)
	}
}

func TestEndpointOptions(t *testing.T) {
	w := newWorld(t)
	w.network("front", func(r *mobynet.CreateRequest) {
		with("container_iface_prefix=net")(r)
		r.IPAM = &mobynet.IPAM{Config: []mobynet.IPAMConfig{{Subnet: netip.MustParsePrefix("10.77.0.0/16")}}}
	})
	w.network("back")
	s := spec("one", "front", "back")
	s.Endpoints[0].Settings = &mobynet.EndpointSettings{IPAMConfig: &mobynet.EndpointIPAMConfig{
		IPv4Address: netip.MustParseAddr("10.77.5.5"), LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.7.7")},
	}}
	s.Endpoints[1].Settings = &mobynet.EndpointSettings{DriverOpts: map[string]string{
		"com.docker.network.endpoint.ifname":  "db0",
		"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=1",
	}}
	one, two := w.start(s), w.start(spec("two", "front"))
	must(t, in(one.NetNS, func() error {
		for name, want := range map[string]string{"net0": "10.77.5.5/16", "db0": w.address(one, "back") + "/"} {
			i, err := net.InterfaceByName(name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if addrs, _ := i.Addrs(); !strings.Contains(fmt.Sprint(addrs), want) {
				t.Errorf("%s has %v", name, addrs)
			}
		}
		if !rtnl.SysctlIs("ipv4/conf/db0/log_martians", 1) || !rtnl.SysctlIs("ipv4/conf/db0/forwarding", 1) || rtnl.SysctlIs("ipv4/conf/net0/log_martians", 1) {
			t.Error("the sysctls are not set on that interface alone")
		}
		return nil
	}))
	// A further address of its own is one that it may send from.
	w.serve(one.NetNS, "tcp", "169.254.7.7:80", "link")
	must(t, in(two.NetNS, func() error {
		i, err := netlink.LinkByName("net0")
		if err != nil {
			return err
		}
		_, linkLocal, _ := net.ParseCIDR("169.254.0.0/16")
		return netlink.RouteAdd(&netlink.Route{LinkIndex: i.Attrs().Index, Dst: linkLocal})
	}))
	w.reaches(two.NetNS, "tcp4", "169.254.7.7:80", "link")
	for option, want := range map[string]string{
		"com.docker.network.endpoint.sysctls=net.ipv4.ip_forward=1":        "invalid endpoint sysctl",
		"com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME./../x=1": "invalid endpoint sysctl",
		"com.docker.network.endpoint.ifname=../x":                          "invalid interface name",
		"com.docker.network.endpoint.nope=1":                               "is not supported",
	} {
		k, v, _ := strings.Cut(option, "=")
		bad := spec("bad", "back")
		bad.Endpoints[0].Settings = &mobynet.EndpointSettings{DriverOpts: map[string]string{k: v}}
		if _, err := w.Prepare(t.Context(), bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", option, err)
		}
	}
}
