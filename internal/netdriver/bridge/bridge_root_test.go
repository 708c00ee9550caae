//go:build root

package bridge_test

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"

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
		NetNS: func() *os.File {
			ns, err := netns.New(rtnl.LoopbackUp)
			if err != nil {
				t.Fatal(err)
			}
			return ns
		},
		Inside: func(ns *os.File, name string) bool {
			return netns.Do(ns, func() error { _, err := net.InterfaceByName(name); return err }) == nil
		},
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
