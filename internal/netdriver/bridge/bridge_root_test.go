//go:build root

package bridge_test

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"muelle/internal/id"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/netns/netnstest"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
	"muelle/internal/netdriver/bridge"
	"muelle/internal/netdriver/netdrivertest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

func TestConformance(t *testing.T) {
	d := bridge.New(bridge.Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err := d.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	subnets := []netdriver.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}
	netdrivertest.Run(t, netdrivertest.Subject{
		Driver:  d,
		Network: netdriver.Network{ID: id.New(), Name: "front", Subnets: subnets},
		Refused: netdriver.Network{ID: id.New(), Name: "front", Options: map[string]string{"com.docker.network.driver.mtu": "x"}},
		Plugs:   true,
	})
	if err := d.Close(true); err != nil {
		t.Error(err)
	}
	links, err := rtnl.Links("mue")
	if err != nil || len(links) > 0 {
		t.Errorf("left: %v, %v", links, err)
	}
}

// Another network's route in the way is found, and nothing is left.
func TestConflict(t *testing.T) {
	if _, err := rtnl.AddBridge(rtnl.Bridge{Name: "foreign", Alias: "x", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/16")}}); err != nil {
		t.Fatal(err)
	}
	if err := rtnl.Up("foreign"); err != nil {
		t.Fatal(err)
	}
	d := bridge.New(bridge.Options{Log: slog.New(slog.DiscardHandler)})
	if err := d.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := netdriver.Network{ID: id.New(), Name: "front", Subnets: []netdriver.Subnet{{Prefix: netip.MustParsePrefix("10.0.5.0/24"), Gateway: netip.MustParseAddr("10.0.5.1")}}}
	n.Interface, _ = d.Check(n)
	if err := d.Up(t.Context(), n); err == nil {
		t.Error("a subnet inside the host's route was accepted")
	}
	if rtnl.Exists(n.Interface) {
		t.Error("the bridge is left")
	}
	if err := d.Close(true); err != nil {
		t.Error(err)
	}
	if err := rtnl.Delete("foreign"); err != nil {
		t.Error(err)
	}
}

// A daemon that is killed over a new bridge leaves one without its mark: the next one takes
// it, or removes it where nobody wants it any more. Other people's stay theirs.
func TestBridgeWithoutMark(t *testing.T) {
	gateway := netip.MustParsePrefix("10.0.5.1/24")
	networkOf := func(options map[string]string) netdriver.Network {
		return netdriver.Network{ID: id.New(), Name: "front", Options: options, Subnets: []netdriver.Subnet{{Prefix: gateway.Masked(), Gateway: gateway.Addr()}}}
	}
	given := map[string]string{"com.docker.network.bridge.name": "given0"}
	cut := func(name string, mac net.HardwareAddr) {
		t.Helper()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = name, mac
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := net.HardwareAddr(rtnl.MAC(gateway.Addr())), net.HardwareAddr{2, 0, 0, 0, 0, 7}
	for _, c := range []struct {
		name    string
		options map[string]string
		mac     net.HardwareAddr
		refused bool
	}{
		{"a name of ours", nil, theirs, false},
		{"a name that was given, our address", given, ours, false},
		{"a name that was given, another address", given, theirs, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := bridge.New(bridge.Options{Log: slog.New(slog.DiscardHandler)})
			if err := d.Recover(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := networkOf(c.options)
			n.Interface, _ = d.Check(n)
			cut(n.Interface, c.mac)
			if err := d.Up(t.Context(), n); (err != nil) != c.refused {
				t.Errorf("up: %v", err)
			}
			if err := d.Close(true); err != nil {
				t.Error(err)
			}
			if rtnl.Exists(n.Interface) != c.refused {
				t.Errorf("%s is there: %v", n.Interface, !c.refused)
			}
			if err := rtnl.Delete(n.Interface); err != nil {
				t.Error(err)
			}
		})
	}
	d := bridge.New(bridge.Options{Log: slog.New(slog.DiscardHandler)})
	n := networkOf(nil)
	n.Interface, _ = d.Check(n)
	cut(n.Interface, theirs)
	if err := d.Recover(t.Context()); err != nil || rtnl.Exists(n.Interface) {
		t.Errorf("a bridge of nobody is left after the start: %v", err)
	}
	if err := d.Close(true); err != nil {
		t.Error(err)
	}
}

// Names of interfaces have room for half of the instance id only: what belongs to
// an instance whose id begins alike is left alone.
func TestInstancesBeginAlike(t *testing.T) {
	discard := slog.New(slog.DiscardHandler)
	one, two := bridge.New(bridge.Options{Instance: "1a2b0000", Log: discard}), bridge.New(bridge.Options{Instance: "1a2b1111", Log: discard})
	if err := one.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := netdriver.Network{ID: id.New(), Name: "front", Subnets: []netdriver.Subnet{{Prefix: netip.MustParsePrefix("10.0.5.0/24"), Gateway: netip.MustParseAddr("10.0.5.1")}}}
	n.Interface, _ = one.Check(n)
	if err := one.Up(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.New(rtnl.LoopbackUp)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	e := netdriver.Endpoint{
		ID: id.New(), NetNS: ns, Interface: "eth0", MAC: rtnl.MAC(netip.MustParseAddr("10.0.5.2")),
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.5.2/24")},
	}
	if err := one.Join(t.Context(), n, e); err != nil {
		t.Fatal(err)
	}
	if err := two.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	if links, err := rtnl.Links("muev1a2b"); len(links) != 1 || err != nil {
		t.Errorf("the container's interface is gone: %v, %v", links, err)
	}
	one.Leave(n, e, func() {})
	for _, d := range []*bridge.Driver{two, one} {
		if err := d.Close(true); err != nil {
			t.Error(err)
		}
	}
}
