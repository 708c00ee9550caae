// Package exposure tells who can really reach the ports of containers: nobody, this
// host, its LAN, everyone. It takes what is published, the host's addresses and the
// rules of every packet filter on it, and follows packets from each circle through
// the hooks that they would pass; it sends none.
package exposure

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"

	mobynet "github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/network"
)

// Options of a Service.
type Options struct {
	// Networks gives what is published.
	Networks interface{ Snapshot() network.Snapshot }
	// Pids lists the processes of a running container, to find what one on the host's
	// network listens on.
	Pids func(ctx context.Context, containerID string) ([]int, error)
	// API are the addresses that the engine itself listens on by TCP.
	API []API
	Log *slog.Logger
}

// API is one of the engine's own listeners.
type API struct {
	Address netip.AddrPort
	// Open: it asks for no certificate.
	Open bool
}

// Service answers for one host.
type Service struct{ o Options }

// New makes a Service.
func New(o Options) *Service { return &Service{o} }

// Report looks at everything at this moment.
func (s *Service) Report(ctx context.Context) (*api.ExposureReport, error) {
	snapshot := s.o.Networks.Snapshot()
	h, err := readHost(snapshot, nil)
	if err != nil {
		return nil, err
	}
	report := &api.ExposureReport{Ports: []api.ExposedPort{}, Warnings: []string{}}
	for i := range snapshot.Sandboxes {
		sb := &snapshot.Sandboxes[i]
		if sb.Host {
			report.Ports = append(report.Ports, s.listening(ctx, h, sb)...)
		} else {
			report.Ports = append(report.Ports, h.published(&snapshot, sb)...)
		}
	}
	for _, a := range s.o.API {
		p := api.ExposedPort{Protocol: "tcp", Address: a.Address.Addr().String(), Port: a.Address.Port(), Process: "muelled"}
		h.judge(&p, target{protocol: unix.IPPROTO_TCP, host: a.Address})
		p.Warning = warnAPI(&p, a.Open)
		report.Ports = append(report.Ports, p)
	}
	for i := range report.Ports {
		if p := &report.Ports[i]; p.Container != "" {
			p.Warning = warn(p)
		}
	}
	slices.SortStableFunc(report.Ports, func(a, b api.ExposedPort) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Address, b.Address))
	})
	for i := range report.Ports {
		if p := &report.Ports[i]; p.Warning != "" && !widerBeside(report.Ports, i) {
			report.Warnings = append(report.Warnings, p.Warning)
		}
	}
	return report, nil
}

// widerBeside tells whether the same port is warned of for another address of the
// host, where it is open to more, or was before.
func widerBeside(all []api.ExposedPort, i int) bool {
	p := &all[i]
	for j := range all {
		o := &all[j]
		if j == i || o.Warning == "" || o.ContainerID != p.ContainerID || o.Port != p.Port || o.Protocol != p.Protocol {
			continue
		}
		wider, narrower := o.Wider(p) || o.RouterDecides && !p.RouterDecides, p.Wider(o) || p.RouterDecides && !o.RouterDecides
		if wider || !narrower && j < i {
			return true
		}
	}
	return false
}

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// bound is a published port, by which a mapping is found.
type bound struct {
	protocol string
	host     netip.AddrPort
}

// published are the ports of a container with a network of its own.
func (h *host) published(snapshot *network.Snapshot, sb *network.SandboxView) (list []api.ExposedPort) {
	name, bridge := way(snapshot, sb)
	mapped := make(map[bound][]netip.AddrPort, len(sb.Mappings))
	for _, m := range sb.Mappings {
		if _, ok := mapped[bound{m.Protocol, m.Host}]; !ok {
			mapped[bound{m.Protocol, m.Host}] = m.Targets
		}
	}
	for port, bindings := range sb.Ports {
		for _, b := range bindings {
			number, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil || !b.HostIP.IsValid() {
				continue // not bound
			}
			p := api.ExposedPort{
				ContainerID: sb.ID, Container: sb.Name, Project: sb.Project, Service: sb.Service, Network: name,
				Protocol: string(port.Proto()), Address: b.HostIP.String(), Port: uint16(number), ContainerPort: port.Num(),
			}
			t := target{protocol: protocols[p.Protocol], host: netip.AddrPortFrom(b.HostIP, p.Port), bridge: bridge}
			if to, ok := mapped[bound{p.Protocol, t.host}]; ok && len(to) > 0 {
				t.to = to[0]
			} else if own := atItself(sb, port, b.HostIP.Is6()); own.IsValid() {
				// The network is routed: the host's port is only reserved.
				t.to, t.own, p.Address, p.Port = own, true, own.Addr().String(), own.Port()
			}
			h.judge(&p, t)
			list = append(list, p)
		}
	}
	return list
}

// atItself is where a container's port is published at its own address.
func atItself(sb *network.SandboxView, p mobynet.Port, six bool) netip.AddrPort {
	for _, m := range sb.Mappings {
		if m.Protocol == string(p.Proto()) && m.Host.Port() == p.Num() && m.Host.Addr().Is6() == six && slices.Contains(m.Targets, m.Host) {
			return m.Host
		}
	}
	return netip.AddrPort{}
}

// way is the network that a container's published ports lead through.
func way(snapshot *network.Snapshot, sb *network.SandboxView) (name, bridge string) {
	for _, e := range sb.Endpoints {
		if !e.Publishes {
			continue
		}
		for _, n := range snapshot.Networks {
			if n.ID == e.Network {
				return n.Name, n.Interface
			}
		}
	}
	return "", ""
}
