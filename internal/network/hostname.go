package network

import (
	"net/netip"
	"slices"
	"strings"

	"muelle/internal/network/hostfile"
)

// hostName is what a container calls this host; the others are Docker Desktop's names
// for it, which much software has written down.
const hostName = "host.muelle.internal"

var hostNames = [...]string{"host.docker.internal", hostName, "gateway.docker.internal"}

// hostAddresses are the host's as a container reaches it: what host-gateway stands for.
func (s *Service) hostAddresses(sb *sandbox) []netip.Addr {
	if len(s.o.HostGateways) > 0 {
		return s.o.HostGateways
	}
	if sb.ns == nil {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	var four, six netip.Addr
	look := func(e *endpoint) {
		for _, p := range prefixes(e.settings) {
			sub := p.Masked()
			for _, c := range e.net.IPAM.Config {
				if !c.Gateway.IsValid() || c.Subnet.Masked() != sub {
					continue
				}
				if c.Gateway.Is4() && !four.IsValid() {
					four = c.Gateway
				}
				if c.Gateway.Is6() && !six.IsValid() {
					six = c.Gateway
				}
			}
		}
	}
	if way := sb.way(); way != nil {
		look(way)
	}
	for _, e := range sb.endpoints {
		look(e) // also of an internal network: the host is there all the same
	}
	return slices.DeleteFunc([]netip.Addr{four, six}, func(a netip.Addr) bool { return !a.IsValid() })
}

// hostNameLines are lines of /etc/hosts with the host's names, for containers that have
// no resolver to ask for them; what a user added himself stays his.
func (s *Service) hostNameLines(sb *sandbox, e *endpoint) (lines []hostfile.Host) {
	if e.net.Driver != predefinedBridge || e.net.resolves() {
		return nil
	}
	var names []string
	for _, name := range hostNames {
		if !slices.ContainsFunc(sb.spec.ExtraHosts, func(entry string) bool {
			return strings.HasPrefix(entry, name+":") || strings.HasPrefix(entry, name+"=")
		}) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	for _, a := range s.hostAddresses(&sandbox{ns: sb.ns, endpoints: []*endpoint{e}}) {
		lines = append(lines, hostfile.Host{Addr: a, Names: names})
	}
	return lines
}
