// Package netdrivertest is the conformance suite of netdriver.Driver.
package netdrivertest

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"muelle/internal/id"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
)

// Subject is a driver under test.
type Subject struct {
	Driver netdriver.Driver
	// Network is accepted by Check, Refused is not.
	Network, Refused netdriver.Network
	// Plugs: Join puts an interface into the network namespace; where it does not, none
	// is made and the suite needs no root.
	Plugs bool
}

// Run puts a driver through what the contract promises.
func Run(t *testing.T, s Subject) {
	ctx := context.Background()
	d, n := s.Driver, s.Network
	if _, err := d.Check(s.Refused); err == nil {
		t.Error("Check accepts what it should refuse")
	}
	name, err := d.Check(n)
	if err != nil {
		t.Fatalf("Check: %v", err)
	}
	n.Interface = name
	for range 2 { // idempotent
		if err := d.Up(ctx, n); err != nil {
			t.Fatalf("Up: %v", err)
		}
	}
	e := netdriver.Endpoint{
		ID: id.New(), Container: id.New(), Interface: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Publishes: true,
	}
	for _, sub := range n.Subnets {
		e.Addresses = append(e.Addresses, netip.PrefixFrom(sub.Gateway.Next(), sub.Prefix.Bits()))
		e.Gateways = append(e.Gateways, sub.Gateway)
	}
	for range 2 { // an endpoint may come back
		join(t, s, n, e)
	}
	ports := []netdriver.Mapping{
		{Protocol: "tcp", Host: netip.MustParseAddrPort("0.0.0.0:8080"), Targets: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:80")}},
		{Protocol: "udp", Host: netip.MustParseAddrPort("127.0.0.1:8080"), Targets: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:80")}},
	}
	for range 3 { // the same ports again at once
		if err := d.Publish(ctx, ports); err != nil {
			t.Fatalf("Publish: %v", err)
		}
		d.Unpublish(ports)
	}
	for range 2 {
		if err := d.Down(ctx, n); err != nil {
			t.Fatalf("Down: %v", err)
		}
	}
}

func join(t *testing.T, s Subject, n netdriver.Network, e netdriver.Endpoint) {
	t.Helper()
	if s.Plugs {
		ns, err := netns.New(rtnl.LoopbackUp)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		e.NetNS = ns
	}
	if err := s.Driver.Join(context.Background(), n, e); err != nil {
		t.Fatalf("Join: %v", err)
	}
	if s.Plugs && !inside(e) {
		t.Errorf("the interface %s is not in the namespace", e.Interface)
	}
	if s.Plugs {
		// A second interface of the same name cannot be; nothing of the attempt stays.
		twice := e
		twice.ID = id.New()
		if s.Driver.Join(context.Background(), n, twice) == nil {
			t.Error("Join twice with one name worked")
		}
	}
	gone := make(chan struct{})
	s.Driver.Leave(n, e, func() { close(gone) })
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Fatal("Leave never ends")
	}
	if s.Plugs && inside(e) {
		t.Errorf("the interface %s is still in the namespace", e.Interface)
	}
}

// inside tells whether the endpoint's interface is in its namespace.
func inside(e netdriver.Endpoint) bool {
	return netns.Do(e.NetNS, func() error { _, err := net.InterfaceByName(e.Interface); return err }) == nil
}
