package network

import (
	"context"
	"net/netip"
	"os"

	"muelle/api"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
)

// Kernel reads from the kernel what there is of a network namespace: interfaces with
// their other ends, routes, rules inside, and what the host's rules say of it. The
// container whose sandbox it is gives the networks' names; containerID may be that of
// none, then only the namespace itself is told.
func (s *Service) Kernel(_ context.Context, containerID string, ns *os.File) (*api.KernelNetwork, error) {
	k := &api.KernelNetwork{}
	var inside []rtnl.Interface
	err := netns.Do(ns, func() (err error) {
		if inside, err = rtnl.Interfaces(); err != nil {
			return err
		}
		if k.Routes, err = rtnl.RouteText(); err != nil {
			return err
		}
		k.Inside, err = rulesInside()
		return err
	})
	if err != nil {
		return nil, err
	}
	links, err := rtnl.Links("")
	if err != nil {
		return nil, err
	}
	networks, concerned, addresses := s.attached(containerID)
	for _, i := range inside {
		d := describe(i, links, networks)
		k.Interfaces = append(k.Interfaces, d)
		if d.Peer != "" {
			concerned = append(concerned, d.Peer)
		}
	}
	said, err := s.bridge.Rules(concerned, addresses)
	if err != nil {
		return nil, err
	}
	k.Table, k.Rules, k.Frames, k.Elements = said.Table, said.Rules, said.Frames, said.Elements
	return k, nil
}

// attached gives a sandbox's networks by the hardware address of the interface, its bridges and its addresses.
func (s *Service) attached(containerID string) (networks map[string]string, bridges []string, addresses []netip.Addr) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	networks = map[string]string{}
	sb := s.sandboxes[containerID]
	if sb == nil {
		return networks, nil, nil
	}
	for _, e := range sb.endpoints {
		networks[e.settings.MacAddress.String()] = e.net.Name
		if e.net.Interface != "" {
			bridges = append(bridges, e.net.Interface)
		}
		for _, a := range []netip.Addr{e.settings.IPAddress, e.settings.GlobalIPv6Address} {
			if a.IsValid() {
				addresses = append(addresses, a)
			}
		}
	}
	return networks, bridges, addresses
}

func describe(i rtnl.Interface, links []rtnl.Link, networks map[string]string) api.KernelInterface {
	d := api.KernelInterface{Name: i.Name, Index: i.Index, MAC: i.MAC, MTU: i.MTU, State: i.State, Network: networks[i.MAC]}
	for _, a := range i.Addresses {
		d.Addresses = append(d.Addresses, a.String())
	}
	for _, l := range links {
		if i.Peer == 0 || l.Index != i.Peer || l.Kind != "veth" {
			continue
		}
		d.Peer, d.PeerIndex = l.Name, l.Index
		for _, m := range links {
			if m.Index == l.Master {
				d.Bridge = m.Name
			}
		}
	}
	return d
}

// rulesInside lists all rules of the calling thread's namespace.
func rulesInside() (lines []string, err error) {
	c, err := nft.New()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		rules, err := nft.TableText(c, t.Name, t.Family)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			lines = append(lines, "table "+t.Name+", "+r)
		}
	}
	return lines, nil
}
