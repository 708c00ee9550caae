//go:build root

package bridge_test

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"muelle/internal/id"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
	"muelle/internal/netdriver/bridge"
)

// TestFirstPacket: what a container sends as the first thing it does is not lost.
func TestFirstPacket(t *testing.T) {
	d := bridge.New(bridge.Options{Instance: "1a2b3c4d", Log: slog.New(slog.DiscardHandler)})
	if err := d.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := netdriver.Network{
		ID: id.New(), Name: "first",
		Subnets: []netdriver.Subnet{{Prefix: netip.MustParsePrefix("10.0.6.0/24"), Gateway: netip.MustParseAddr("10.0.6.1")}},
	}
	n.Interface, _ = d.Check(n)
	for range 10 {
		firstPacket(t, d, n)
	}
	if err := d.Close(true); err != nil {
		t.Error(err)
	}
}

func firstPacket(t *testing.T, d *bridge.Driver, n netdriver.Network) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(d.Up(t.Context(), n))
	ns, err := netns.New(rtnl.LoopbackUp)
	must(err)
	defer ns.Close()
	gateway, err := netlink.LinkByName(n.Interface)
	must(err)
	heard, err := net.ListenPacket("udp4", "10.0.6.1:99")
	must(err)
	defer heard.Close()
	e := netdriver.Endpoint{
		ID: id.New(), NetNS: ns, Interface: "eth0", MAC: rtnl.MAC(netip.MustParseAddr("10.0.6.2")),
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.6.2/24")},
	}
	must(d.Join(t.Context(), n, e))
	must(netns.Do(ns, func() error {
		own, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		// Questions for the gateway's hardware address would be asked again.
		known := &netlink.Neigh{LinkIndex: own.Attrs().Index, IP: net.IPv4(10, 0, 6, 1), HardwareAddr: gateway.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT}
		if err := netlink.NeighAdd(known); err != nil {
			return err
		}
		c, err := net.Dial("udp4", "10.0.6.1:99")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("first"))
		return err
	}))
	must(heard.SetReadDeadline(time.Now().Add(10 * time.Second)))
	if _, _, err := heard.ReadFrom(make([]byte, 10)); err != nil {
		t.Errorf("the first packet: %v", err)
	}
	gone := make(chan struct{})
	d.Leave(n, e, func() { close(gone) })
	<-gone
	must(d.Down(t.Context(), n))
}
