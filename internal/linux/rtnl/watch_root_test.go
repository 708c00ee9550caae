//go:build root

package rtnl_test

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"muelle/internal/linux/netns/netnstest"
	"muelle/internal/linux/rtnl"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// TestWatch: addresses and routes are told, what interfaces have of themselves is not.
func TestWatch(t *testing.T) {
	events, done, ended := make(chan rtnl.Change, 100), make(chan struct{}), make(chan error, 1)
	go func() { ended <- rtnl.WatchLinks(func(c rtnl.Change) { events <- c }, done) }()
	if first := <-events; first != (rtnl.Change{}) {
		t.Fatalf("it begins with %v", first)
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "quiet"}, PeerName: "told"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"quiet", "told"} {
		if err := rtnl.Up(name); err != nil {
			t.Fatal(err)
		}
	}
	told, err := netlink.LinkByName("told")
	if err != nil {
		t.Fatal(err)
	}
	// The address, and the route that comes with it.
	if err := rtnl.Configure("told", []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}); err != nil {
		t.Fatal(err)
	}
	// Its own link-local addresses come before one that is given to the quiet one.
	if err := rtnl.Configure("quiet", []netip.Prefix{netip.MustParsePrefix("fd09::1/64")}); err != nil {
		t.Fatal(err)
	}
	count := 0
	for c := range events {
		if c.Link != told.Attrs().Index {
			break
		}
		count++
	}
	if count != 2 {
		t.Errorf("%d changes of the interface with an address, want its address and its route", count)
	}
	if err := netlink.LinkDel(told); err != nil {
		t.Fatal(err)
	}
	close(done)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
