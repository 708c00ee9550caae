//go:build root

package macvlan_test

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"muelle/internal/id"
	"muelle/internal/linux/netns/netnstest"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
	"muelle/internal/netdriver/macvlan"
	"muelle/internal/netdriver/netdrivertest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// parent makes an interface to stand on.
func parent(t *testing.T) {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "other"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"uplink", "other"} {
		if err := rtnl.Up(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	parent(t)
	for _, mode := range []string{"", "bridge", "private", "vepa", "passthru"} {
		t.Run("mode "+mode, func(t *testing.T) {
			d := macvlan.New(macvlan.Macvlan, "1a2b3c4d", slog.New(slog.NewTextHandler(t.Output(), nil)))
			subnets := []netdriver.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")}}
			netdrivertest.Run(t, netdrivertest.Subject{
				Driver:  d,
				Network: netdriver.Network{ID: id.New(), Name: "lan", Subnets: subnets, Options: map[string]string{"parent": "uplink", "macvlan_mode": mode}},
				Refused: netdriver.Network{ID: id.New(), Name: "lan", Options: map[string]string{"parent": "uplink", "macvlan_mode": "l2"}},
				Plugs:   true,
			})
			if err := d.Close(true); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	parent(t)
	for _, tt := range []struct {
		name, kind string
		options    map[string]string
		want       string
	}{
		{"no parent of that name", macvlan.Macvlan, map[string]string{"parent": "eth9"}, "eth9"},
		{"VLAN of no interface", macvlan.Macvlan, map[string]string{"parent": "eth9.10"}, "eth9"},
		{"VLAN out of range", macvlan.Macvlan, map[string]string{"parent": "uplink.5000"}, "1-4094"},
		{"mode", macvlan.Macvlan, map[string]string{"macvlan_mode": "l2"}, `"l2" is not valid`},
		{"option of the bridge", macvlan.Macvlan, map[string]string{"com.docker.network.bridge.name": "br0"}, "not supported"},
		{"ipvlan's mode", macvlan.IPVlan, map[string]string{"ipvlan_mode": "bridge"}, `"bridge" is not valid`},
		{"ipvlan's flag", macvlan.IPVlan, map[string]string{"ipvlan_flag": "x"}, `"x" is not valid`},
	} {
		d := macvlan.New(tt.kind, "", slog.New(slog.DiscardHandler))
		_, err := d.Check(netdriver.Network{ID: id.New(), Name: "lan", Options: tt.options})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
