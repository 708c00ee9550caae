//go:build root

package macvlan_test

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
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
		{"no parent of that name, internal", macvlan.Macvlan, map[string]string{"parent": "typo"}, "typo"},
		{"ipvlan's mode", macvlan.IPVlan, map[string]string{"ipvlan_mode": "bridge"}, `"bridge" is not valid`},
		{"ipvlan's flag", macvlan.IPVlan, map[string]string{"ipvlan_flag": "x"}, `"x" is not valid`},
	} {
		d := macvlan.New(tt.kind, "", slog.New(slog.DiscardHandler))
		_, err := d.Check(netdriver.Network{ID: id.New(), Name: "lan", Internal: strings.HasSuffix(tt.name, "internal"), Options: tt.options})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// kernelHas asks the kernel by its other face, so that Probe's answer is held against what it is.
func kernelHas(t *testing.T, kind string) bool {
	t.Helper()
	out, err := exec.Command("unshare", "-n", "ip", "link", "add", "name", "probe0", "type", kind).CombinedOutput()
	return err == nil || !strings.Contains(string(out), "Unknown device type")
}

// TestProbe: what a network would need of the kernel is known before it has a container,
// and asking leaves nothing.
func TestProbe(t *testing.T) {
	parent(t)
	port, err := netlink.LinkByName("other")
	if err != nil {
		t.Fatal(err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "switch0"}}
	if err := errors.Join(netlink.LinkAdd(bridge), netlink.LinkSetMaster(port, bridge)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rtnl.Delete("switch0"); err != nil {
			t.Error(err)
		}
	})
	before := names(t)
	for _, tt := range []struct {
		name, kind, parent, mode string
		needs                    []string // kinds; the last is what the parent is made of
		lacks                    string   // where the kernel has not all
		want                     string   // where it has; empty: it is served
	}{
		{"macvlan", macvlan.Macvlan, "uplink", "private", []string{"macvlan"}, "CONFIG_MACVLAN", ""},
		{"passthru", macvlan.Macvlan, "uplink", "passthru", []string{"macvlan"}, "CONFIG_MACVLAN", ""},
		{"ipvlan", macvlan.IPVlan, "uplink", "l3", []string{"ipvlan"}, "no ipvlan interfaces: load its module (modprobe ipvlan) or have it built in (CONFIG_IPVLAN), or use the driver macvlan or bridge", ""},
		{"without a parent", macvlan.Macvlan, "", "", []string{"macvlan", "dummy"}, "(modprobe dummy) or have it built in (CONFIG_DUMMY), give a parent (-o parent=eth0)", ""},
		{"a VLAN", macvlan.Macvlan, "uplink.10", "", []string{"macvlan", "vlan"}, "this kernel has no VLANs to make it: load its module (modprobe 8021q) or have it built in (CONFIG_VLAN_8021Q)", ""},
		{"a port of a bridge", macvlan.Macvlan, "other", "", []string{"macvlan"}, "CONFIG_MACVLAN", "it is a part of the bridge switch0"},
	} {
		d := macvlan.New(tt.kind, "", slog.New(slog.DiscardHandler))
		n := netdriver.Network{ID: id.New(), Name: "lan", Options: map[string]string{tt.kind + "_mode": tt.mode}}
		if tt.parent != "" {
			n.Options["parent"] = tt.parent
		}
		var err error
		if n.Interface, err = d.Check(n); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		want := tt.want
		for _, kind := range tt.needs {
			if !kernelHas(t, kind) {
				want = tt.lacks
			}
		}
		for range 2 { // at once again: nothing is on the parent any more
			switch err := d.Probe(n); {
			case want == "" && err != nil:
				t.Errorf("%s: %v", tt.name, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%s: %v, not %q", tt.name, err, want)
			}
		}
		if after := names(t); after != before {
			t.Errorf("%s: it leaves %s, before there were %s", tt.name, after, before)
		}
	}
}

// TestOccupied: who is on the parent is named, where this namespace shows it.
func TestOccupied(t *testing.T) {
	parent(t)
	up, err := netlink.LinkByName("uplink")
	if err != nil {
		t.Fatal(err)
	}
	a := netlink.NewLinkAttrs()
	a.Name, a.ParentIndex = "theirs", up.Attrs().Index
	if err := netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}); err != nil {
		t.Fatal(err)
	}
	d := macvlan.New(macvlan.Macvlan, "", slog.New(slog.DiscardHandler))
	n := netdriver.Network{ID: id.New(), Name: "lan", Interface: "uplink", Options: map[string]string{"parent": "uplink", "macvlan_mode": "passthru"}}
	const want = "parent interface uplink cannot carry macvlan in the mode passthru, which has its parent for itself: the macvlan interface theirs is on it"
	if err := d.Probe(n); err == nil || err.Error() != want {
		t.Errorf("%v, not %s", err, want)
	}
	n.Options["macvlan_mode"] = "bridge"
	if err := d.Probe(n); err != nil {
		t.Errorf("beside another's: %v", err)
	}
}

func names(t *testing.T) string {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, i := range list {
		text += i.Name + " "
	}
	return text
}
