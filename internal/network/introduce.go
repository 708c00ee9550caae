package network

import (
	gonet "net"
	"net/netip"
	"os"

	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
)

// introduce lets the containers of a network, which could not reach each other before,
// do so at once, those too who just tried in vain.
func (s *Service) introduce(n *net) {
	type asker struct {
		name, iface string
		ns          *os.File
	}
	known := map[netip.Addr]gonet.HardwareAddr{}
	var askers []asker
	s.mu.RLock()
	for _, e := range n.endpoints {
		if e.sandbox.ns == nil || len(e.settings.MacAddress) == 0 {
			continue
		}
		for _, a := range prefixes(e.settings) {
			known[a.Addr()] = gonet.HardwareAddr(e.settings.MacAddress)
		}
		if ns, err := duplicate(e.sandbox.ns); err == nil {
			askers = append(askers, asker{e.sandbox.name, e.iface, ns})
		}
	}
	s.mu.RUnlock()
	for _, a := range askers {
		// A container may have turned its interface; what fails here comes right within seconds.
		if err := netns.Do(a.ns, func() error { return rtnl.Introduce(a.iface, known) }); err != nil {
			s.log.Debug("a container is not told who its neighbours are", "container", a.name, "network", n.Name, "err", err)
		}
		a.ns.Close()
	}
}
