package network

import (
	"context"

	"github.com/containerd/errdefs"

	"muelle/internal/id"
	"muelle/internal/network/hostfile"
)

// writeFiles makes the contents of /etc/hosts and /etc/resolv.conf.
func (p *preparation) writeFiles(context.Context) error {
	hosts, err := p.hosts()
	if err != nil {
		return err
	}
	p.out = &Sandbox{Hosts: hosts, ResolvConf: p.s.resolvConf(p.sb)}
	return nil
}

func (p *preparation) hosts() ([]byte, error) {
	spec := p.sb.spec
	gateways := p.s.hostAddresses(p.sb)
	var lines []hostfile.Host
	for _, entry := range spec.ExtraHosts {
		list, err := hostfile.Extra(entry, gateways...)
		if err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		lines = append(lines, list...)
	}
	for _, l := range spec.Linked {
		lines = append(lines, hostfile.Host{Addr: l.Address, Names: l.Names})
	}
	if p.sb.ns == nil {
		file, err := p.s.hostsFile()
		return hostfile.Append(file, lines), err
	}
	for _, e := range p.sb.endpoints {
		lines = append(lines, p.s.hostLines(p.sb, e)...)
	}
	return hostfile.Hosts(lines), nil
}

// hostLines are those of /etc/hosts that give a container its name on a network, and
// the host its names where there is no resolver.
func (s *Service) hostLines(sb *sandbox, e *endpoint) []hostfile.Host {
	lines := s.hostNameLines(sb, e)
	names := []string{sb.spec.Hostname}
	if sb.spec.Hostname == "" {
		names[0] = id.Short(sb.spec.ID)
	}
	if sb.spec.Domain != "" {
		names = []string{names[0] + "." + sb.spec.Domain, names[0]}
	}
	for _, a := range prefixes(e.settings) {
		lines = append(lines, hostfile.Host{Addr: a.Addr(), Names: names})
	}
	return lines
}

// resolvConf points to our resolver where names are resolved; else it is the
// host's, without what the container cannot reach.
func (s *Service) resolvConf(sb *sandbox) []byte {
	spec := sb.spec
	switch {
	case sb.resolves():
		return s.resolv.read().Override(nil, spec.DNSSearch, spec.DNSOptions).ForResolver().Bytes()
	case sb.ns == nil || len(spec.DNS) > 0:
		return s.resolv.read().Override(spec.DNS, spec.DNSSearch, spec.DNSOptions).Bytes()
	}
	return s.resolv.forCopy().ForCopy().Override(nil, spec.DNSSearch, spec.DNSOptions).Bytes()
}
