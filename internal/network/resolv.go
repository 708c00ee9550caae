package network

import (
	"net/netip"
	"os"
	"slices"
	"sync"

	"muelle/api"
	"muelle/internal/network/hostfile"
	"muelle/internal/network/resolver"
	"muelle/internal/policy"
)

// systemd-resolved keeps the servers that it asks itself here, beside its stub.
const systemdResolv = "/run/systemd/resolve/resolv.conf"

var systemdStub = netip.AddrFrom4([4]byte{127, 0, 0, 53})

// resolvConf is the host's resolv.conf, read again when it changed.
type resolvConf struct {
	path string

	mu      sync.Mutex
	last    os.FileInfo // nil: not read yet
	content hostfile.Resolv
}

func (c *resolvConf) read() hostfile.Resolv {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.path)
	if err != nil {
		return hostfile.Resolv{}
	}
	// Another file of the same time is another file: tools replace it by renaming.
	if c.last != nil && info.ModTime().Equal(c.last.ModTime()) && info.Size() == c.last.Size() && os.SameFile(info, c.last) {
		return c.content
	}
	data, err := os.ReadFile(c.path)
	if err != nil {
		return hostfile.Resolv{}
	}
	c.content, c.last = hostfile.ParseResolv(data), info
	return c.content
}

// forCopy is for containers without our resolver: behind systemd-resolved's stub,
// which they cannot reach, stand the servers that it asks.
func (c *resolvConf) forCopy() hostfile.Resolv {
	r := c.read()
	if slices.Equal(r.Servers, []netip.Addr{systemdStub}) {
		if data, err := os.ReadFile(systemdResolv); err == nil {
			r = hostfile.ParseResolv(data)
		}
	}
	return r
}

// upstream says whom the resolver asks for a sandbox: its own servers, or the
// host's; those on the host's loopback from the host, all others from the sandbox.
// A sandbox without a way out asks nobody through the host (CVE-2024-29018).
func (s *Service) upstream(sb *sandbox) resolver.Upstream {
	host := s.resolv.read().Override(nil, nil, sb.spec.DNSOptions)
	up := resolver.Upstream{}
	if n, set := host.NDots(); set && n > 0 {
		up.Qualified = true
	}
	// From a zone that lets out to some only, the sandbox itself asks nobody.
	from := sb.ns
	if way := sb.way(); way != nil && policy.Restricted(way.net.zone()) {
		if from = nil; way.net.zone().Egress[0] == api.ZoneNone {
			up.Reason = "nobody on the container's networks is called so, and the zone of " + way.net.Name + " has no way out (egress: none)"
			return up
		}
	}
	if len(sb.spec.DNS) > 0 {
		for _, a := range sb.spec.DNS {
			if a != hostfile.Embedded {
				up.Servers = append(up.Servers, resolver.Forwarder{Addr: netip.AddrPortFrom(a, 53), NetNS: from})
			}
		}
		up.Reason = "the container's --dns names only its own resolver"
		return up
	}
	if !sb.outside() {
		up.Reason = "nobody on the container's networks is called so, and it is on internal networks only, from which nobody outside is asked"
		return up
	}
	if len(host.Servers) == 0 {
		up.Reason = "the host's " + s.resolv.path + " names no name server"
	}
	for _, a := range host.Servers {
		f := resolver.Forwarder{Addr: netip.AddrPortFrom(a, 53), NetNS: from}
		if a.IsLoopback() || a.Is6() && !sb.hasIPv6() {
			f.NetNS = nil
		}
		up.Servers = append(up.Servers, f)
	}
	return up
}
