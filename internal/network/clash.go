package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"

	"muelle/api"
	"muelle/internal/check"
	"muelle/internal/linux/rtnl"
)

// clash is a route of the host's, of a VPN that came up, say, to addresses that one of
// our networks has.
type clash struct {
	network string
	id      string
	subnet  netip.Prefix
	route   rtnl.Route
	remedy  string
}

func (c clash) problem() string {
	return fmt.Sprintf("its subnet %s overlaps with the host's route to %s on %s: what both have is reached by one of them only", c.subnet, c.route.Prefix, c.route.Interface)
}

func (c clash) text() string {
	return fmt.Sprintf("network %s: %s; %s", c.network, c.problem(), c.remedy)
}

// clashes looks for them, as routes are now.
func (s *Service) clashes() (list []clash) {
	routes, err := rtnl.Routes()
	if err != nil {
		s.log.Warn("routes of the host cannot be compared with networks", "err", err)
		return nil
	}
	s.mu.RLock()
	for _, n := range s.networks {
		if n.ConfigOnly {
			continue
		}
		for _, c := range n.IPAM.Config {
			for _, r := range routes {
				// A route to a single address inside is how VPNs reach their servers.
				if n.Driver == predefinedBridge && !n.Borrowed && r.Interface != n.Interface && r.Prefix.Overlaps(c.Subnet) && !r.Prefix.IsSingleIP() {
					list = append(list, clash{network: n.Name, id: n.ID, subnet: c.Subnet, route: r})
				}
			}
		}
	}
	s.mu.RUnlock()
	list = slices.DeleteFunc(list, func(c clash) bool { return s.bridge.Ours(c.route.Interface) })
	slices.SortFunc(list, func(a, b clash) int {
		return cmp.Or(cmp.Compare(a.network, b.network), a.subnet.Compare(b.subnet), a.route.Prefix.Compare(b.route.Prefix))
	})
	list = slices.Compact(list)
	for i := range list {
		list[i].remedy = s.elsewhere(list[i])
	}
	return list
}

// elsewhere says how to move a network: to a subnet that is free now.
func (s *Service) elsewhere(c clash) string {
	choose := s.chooseSubnet
	if c.subnet.Addr().Is6() {
		choose = s.chooseIPv6
	}
	free, err := choose()
	if err != nil {
		return "keep the host's ranges out of default-address-pools in daemon.json, and make the network again"
	}
	if c.network == predefinedBridge {
		return fmt.Sprintf(`set "bip": "%s" in daemon.json and restart the daemon`, netip.PrefixFrom(free.Gateway, free.Subnet.Bits()))
	}
	return fmt.Sprintf("make it again elsewhere (muelle network rm %s; muelle network create --subnet %s %s; or in compose.yaml: networks: {%s: {ipam: {config: [{subnet: %s}]}}}), or keep the range out of default-address-pools in daemon.json",
		c.network, free.Subnet, c.network, c.network, free.Subnet)
}

func (s *Service) clashLeak(c clash) check.Leak {
	return check.Leak{
		Finding: api.Finding{Kind: "network", Name: c.network, Problem: c.problem(), Remedy: c.remedy},
		There: func() bool {
			return slices.ContainsFunc(s.clashes(), func(o clash) bool { return o.id == c.id && o.route == c.route })
		},
	}
}

// routeWatch follows the host's routes and says once of each clash that there is one.
type routeWatch struct {
	mu     sync.Mutex
	done   chan struct{}
	closed bool
	wg     sync.WaitGroup
	// said are the clashes told; one that ended is forgotten.
	said map[clash]bool
}

// start begins to follow. Failing is no reason to refuse a container.
func (w *routeWatch) start(s *Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done != nil {
		return
	}
	w.done = make(chan struct{})
	done := w.done
	w.wg.Go(func() {
		err := rtnl.WatchRoutes(func(c rtnl.Change) {
			if s.foreignRoute(c.Link) {
				w.tell(s)
			}
		}, done)
		if err != nil {
			s.log.Warn("routes of the host are not followed", "err", err)
		}
	})
}

// foreignRoute tells whether a changed route is worth a look: most are those of our
// own bridges that come and go.
func (s *Service) foreignRoute(index int) bool {
	if index == 0 {
		return true
	}
	link, err := netlink.LinkByIndex(index)
	return err != nil || !s.bridge.Ours(link.Attrs().Name)
}

func (w *routeWatch) tell(s *Service) {
	now := map[clash]bool{}
	for _, c := range s.clashes() {
		key := c
		key.remedy = ""
		now[key] = true
		if !w.said[key] {
			s.log.Warn("a route of the host overlaps with a network", "network", c.network, "subnet", c.subnet, "route", c.route.Prefix, "interface", c.route.Interface, "remedy", c.remedy)
		}
	}
	w.said = now
}

// close ends it, and is harmless a second time.
func (w *routeWatch) close() {
	w.mu.Lock()
	if w.done == nil {
		w.done = make(chan struct{}) // too late to start
	}
	if !w.closed {
		w.closed = true
		close(w.done)
	}
	w.mu.Unlock()
	w.wg.Wait()
}
