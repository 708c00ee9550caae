//go:build root

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"muelle/api"
)

// spot is who is where in one family of addresses: lan shares a prefix with the host,
// far is the neighbour's too, but on no link of the host's.
type spot struct {
	host, lan, far string
	bits           int
}

// spots are an IPv4 and an IPv6 spot.
type spots [2]spot

var (
	near = spots{{hostAddr, outsideAddr, "198.51.100.7", 24}, {"2001:db8:18::1", "2001:db8:18::2", "2001:db8:99::7", 64}}
	// moved: the host has addresses of the far network: who was near is far, and the other way round.
	moved = spots{{"198.51.100.1", near[0].far, near[0].lan, 24}, {"2001:db8:99::1", near[1].far, near[1].lan, 64}}
)

// settle gives the host and its neighbour the addresses until the test ends; those of
// the harness they have.
func (s spots) settle(t *testing.T) {
	t.Helper()
	addAddressOutside(t, "lan", s[0].far+"/32")
	addAddressOutside(t, "lan", s[1].lan+"/64")
	addAddressOutside(t, "lan", s[1].far+"/128")
	if err := upWith("uplink", s[1].host+"/64"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dropAddress("uplink", s[1].host+"/64"); err != nil {
			t.Error(err)
		}
		if err := outside(forgetGateways); err != nil {
			t.Error(err)
		}
		if err := routed(netlink.RouteDel, "uplink", "::/0", s[1].lan); err != nil {
			t.Error(err)
		}
	})
	if err := s.route(); err != nil {
		t.Fatal(err)
	}
}

// route makes the ways between the host and its neighbour.
func (s spots) route() error {
	for i, f := range s {
		if err := routed(netlink.RouteReplace, "uplink", []string{"0.0.0.0/0", "::/0"}[i], f.lan); err != nil {
			return err
		}
		alone := f.host + []string{"/32", "/128"}[i]
		if err := outside(func() error { return routed(netlink.RouteReplace, "lan", alone, "") }); err != nil {
			return err
		}
	}
	return nil
}

// routed changes a route by an interface, by a gateway where it is not "".
func routed(change func(*netlink.Route) error, by, to, gateway string) error {
	link, err := netlink.LinkByName(by)
	if err != nil {
		return err
	}
	_, prefix, err := net.ParseCIDR(to)
	if err != nil {
		return err
	}
	r := netlink.Route{LinkIndex: link.Attrs().Index, Dst: prefix, Scope: netlink.SCOPE_LINK}
	if gateway != "" {
		r.Gw, r.Scope = net.ParseIP(gateway), netlink.SCOPE_UNIVERSE
		r.SetFlag(netlink.FLAG_ONLINK)
	}
	if err := change(&r); err != nil {
		return fmt.Errorf("route to %s: %w", to, err)
	}
	return nil
}

// move gives the host other addresses, as long as the test lasts, and waits until its
// zones know their LAN.
func (s spots) move(t *testing.T, to spots) spots {
	t.Helper()
	if err := s.become(to); err != nil {
		t.Fatal(err)
	}
	if to != near {
		t.Cleanup(func() {
			if link, err := netlink.LinkByName("uplink"); err != nil {
				t.Error(err)
			} else if list, err := netlink.AddrList(link, netlink.FAMILY_V4); err != nil || len(list) == 0 || list[0].IP.String() != hostAddr {
				if err := errors.Join(err, to.become(near)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, f := range to {
		if err := eventually(30*time.Second, func() error {
			at := net.JoinHostPort(f.host, "17001")
			if err := outside(func() error { return echoesFrom("tcp", f.lan, at, true) }); err != nil {
				return fmt.Errorf("%s is on a link, and does not reach %s: %w", f.lan, at, err)
			}
			if outside(func() error { return echoesFrom("tcp", f.far, at, false) }) == nil {
				return fmt.Errorf("%s is on no link, and reaches %s", f.far, at)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	return to
}

func (s spots) become(to spots) error {
	for i := range s {
		if err := dropAddress("uplink", fmt.Sprintf("%s/%d", s[i].host, s[i].bits)); err != nil {
			return err
		}
		if err := upWith("uplink", fmt.Sprintf("%s/%d", to[i].host, to[i].bits)); err != nil {
			return err
		}
	}
	return to.route()
}

// probe tries from the LAN and from beyond it what is published, as the report has it,
// and the containers' own addresses, to which the neighbour has a route. It gives what was
// tried: from/protocol/IP/published/allowed.
func (s spots) probe(t *testing.T, r api.ZoneReport, when string) map[string]bool {
	t.Helper()
	s.leadIn(t, r)
	seen := map[string]bool{}
	var all sync.WaitGroup
	defer all.Wait()
	attempt := func(from string, cell api.ZoneCell, to netip.AddrPort, published, expected bool, why string) {
		ip := 0
		if to.Addr().Is6() {
			ip = 1
		}
		source := s[ip].lan
		if from == "internet" {
			source = s[ip].far
		}
		address := to.String()
		if published {
			address = net.JoinHostPort(s[ip].host, fmt.Sprint(to.Port()))
		}
		seen[fmt.Sprintf("%s/%s/%d/%t/%t", from, cell.Protocol, 4+2*ip, published, expected)] = true
		all.Go(func() {
			err := outside(func() error { return echoesFrom(cell.Protocol, source, address, expected) })
			if (err == nil) != expected {
				t.Errorf("%s: %s (%s) -> %s by %s/%s: %v; the model: %s", when, from, source, cell.To, address, cell.Protocol, err, why)
			}
		})
	}
	for _, cell := range r.Cells {
		for _, try := range cell.Tries {
			switch {
			case try.Published && (cell.From == "lan" || cell.From == "internet"):
				attempt(cell.From, cell, try.Address, true, try.Expected, try.Why)
			case !try.Published && cell.From == "host":
				attempt("lan", cell, try.Address, false, false, "containers' own addresses are closed")
				attempt("internet", cell, try.Address, false, false, "containers' own addresses are closed")
			}
		}
	}
	return seen
}

// forgetGateways removes the routes that leadIn made.
func forgetGateways() error {
	list, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	for _, r := range list {
		if r.Gw != nil {
			err = errors.Join(err, netlink.RouteDel(&r))
		}
	}
	return err
}

// leadIn gives the neighbour routes to the zones.
func (s spots) leadIn(t *testing.T, r api.ZoneReport) {
	t.Helper()
	for _, z := range r.Zones {
		if z.Driver != "bridge" {
			continue // the neighbour is on it
		}
		for _, p := range z.Subnets {
			gateway := s[0].host
			if p.Addr().Is6() {
				gateway = s[1].host
			}
			if err := outside(func() error { return routed(netlink.RouteReplace, "lan", p.String(), gateway) }); err != nil {
				t.Fatal(err)
			}
		}
	}
}
