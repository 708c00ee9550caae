package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
	// chosen: the subnet is replaced as soon as nobody uses it.
	chosen bool
	// users are the names of the containers on the network, joined by spaces.
	users string
}

func (c clash) problem() string {
	return fmt.Sprintf("its subnet %s overlaps with the host's route to %s on %s: what both have is reached by one of them only", c.subnet, c.route.Prefix, c.route.Interface)
}

// passing tells whether nobody has to do anything: the next container moves the network.
func (c clash) passing() bool { return c.chosen && c.users == "" }

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
					list = append(list, clash{network: n.Name, id: n.ID, subnet: c.Subnet, route: r, chosen: n.Chosen, users: n.users()})
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

// users names the containers on a network. mu is held.
func (n *net) users() string {
	var names []string
	for _, e := range n.endpoints {
		names = append(names, e.sandbox.name)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

// inTheWay tells whether a network clashes at this moment.
func (s *Service) inTheWay(id string) bool {
	return slices.ContainsFunc(s.clashes(), func(c clash) bool { return c.id == id })
}

// elsewhere says how to move a network: to a subnet that is free now.
func (s *Service) elsewhere(c clash) string {
	stop, start := "", ""
	if c.users != "" {
		stop, start = "muelle stop "+c.users, "muelle start "+c.users
	}
	if c.chosen {
		if c.passing() {
			return "its next container moves it to another subnet"
		}
		return fmt.Sprintf("it moves to another subnet when nobody is on it: %s && %s", stop, start)
	}
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
	commands := []string{"muelle network rm " + c.network, fmt.Sprintf("muelle network create --subnet %s %s", free.Subnet, c.network)}
	if c.users != "" {
		commands = append(append([]string{stop}, commands...), start)
	}
	return fmt.Sprintf("make it again elsewhere (%s; or in compose.yaml: networks: {%s: {ipam: {config: [{subnet: %s}]}}})", strings.Join(commands, " && "), c.network, free.Subnet)
}

func (s *Service) clashLeak(c clash) check.Leak {
	return check.Leak{
		Finding: api.Finding{Kind: "network", Name: c.network, Problem: c.problem(), Remedy: c.remedy},
		Passing: c.passing(),
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
	// clashing are the networks that had one when it was looked last.
	clashing map[string]bool
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
	now, ids := map[clash]bool{}, map[string]bool{}
	for _, c := range s.clashes() {
		key := c
		key.remedy, key.users = "", ""
		now[key], ids[c.id] = true, true
		if !w.said[key] {
			s.log.Warn("a route of the host overlaps with a network", "network", c.network, "subnet", c.subnet, "route", c.route.Prefix, "interface", c.route.Interface, "remedy", c.remedy)
		}
	}
	w.said = now
	w.mu.Lock()
	w.clashing = ids
	w.mu.Unlock()
}

// clashes tells whether a network clashed when the routes were looked at last.
func (w *routeWatch) clashes(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clashing[id]
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
