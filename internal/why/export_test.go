package why

import (
	"context"
	"net/netip"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/container"
)

// Peer is another container.
type Peer struct {
	Name, Project, Service string
	State                  *ctypes.State
	Networks               map[string]*network.EndpointSettings
	Listens                []netip.AddrPort
	Ports                  network.PortMap
}

// Unresolved is what is said of a name that the container asked the engine for.
func Unresolved(e *container.Evidence, last *container.Ending, name string, queries ...api.DNSQuery) []api.WhyFinding {
	f := &facts{e: e, last: last, queries: func(string) []api.DNSQuery { return queries }}
	return f.asked(f.unresolved(name), name).one()
}

// FromLog is what the rules say that read a log of a container; with peers unless nil.
func FromLog(ctx context.Context, e *container.Evidence, peers []Peer, logs ...string) []api.WhyFinding {
	f := &facts{ctx: ctx, e: e, logs: logs}
	if peers != nil {
		f.peers = func(context.Context, string) (out []peer) {
			for _, p := range peers {
				out = append(out, peer{name: p.Name, project: p.Project, service: p.Service, state: p.State, networks: p.Networks, ports: p.Ports,
					listens: func() []netip.AddrPort { return p.Listens }})
			}
			return out
		}
	}
	defer f.close()
	if n := len(e.Endings); n > 0 {
		f.last = &e.Endings[n-1]
	}
	return append(append(f.commandNotRun(), f.missingVariable()...), f.fromLog()...)
}
