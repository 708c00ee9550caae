package why

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/linux/socket"
)

// peer is another container, as one looks for it by a name or an address.
type peer struct {
	id, name, project, service string
	state                      *ctypes.State
	networks                   map[string]*network.EndpointSettings
	listens                    func() []netip.AddrPort
	ports                      network.PortMap
}

// peersOf lists all containers but one.
func (s *Service) peersOf(ctx context.Context, id string) (out []peer) {
	list, err := s.containers.List(ctx, container.ListOptions{All: true})
	if err != nil {
		return nil
	}
	for _, c := range list {
		if c.ID == id {
			continue
		}
		i, err := s.containers.Inspect(ctx, c.ID, false)
		if err != nil || i.NetworkSettings == nil {
			continue // it is gone
		}
		out = append(out, peer{
			id: i.ID, name: strings.TrimPrefix(i.Name, "/"), project: i.Config.Labels[api.LabelProject], service: i.Config.Labels[api.LabelService],
			state: i.State, networks: i.NetworkSettings.Networks, ports: i.NetworkSettings.Ports,
			listens: func() []netip.AddrPort { return listeners(i.State.Pid) },
		})
	}
	return out
}

// answers says that a host's name or address is this container's, on some network.
func (p *peer) answers(host string) bool {
	addr, err := netip.ParseAddr(host)
	for _, e := range p.networks {
		if err == nil && (e.IPAddress == addr || e.GlobalIPv6Address == addr) {
			return true
		}
		if err != nil && (slices.Contains(e.Aliases, host) || slices.Contains(e.DNSNames, host)) {
			return true
		}
	}
	return err != nil && (p.name == host || p.service != "" && p.service == host)
}

// peer finds the container that a program meant by a host: one of its own project goes
// first, then one that it can reach, then one that runs.
func (f *facts) peer(host string) *peer {
	if f.peers == nil {
		return nil
	}
	project := f.e.Config.Labels[api.LabelProject]
	var best *peer
	worth := -1
	for _, p := range f.peers(f.ctx, f.e.ID) {
		if !p.answers(host) || p.service == host && p.name != host && p.project != project {
			continue
		}
		n := 0
		if project != "" && p.project == project {
			n += 4
		}
		if len(f.shared(&p)) > 0 {
			n += 2
		}
		if p.state.Running {
			n++
		}
		if n > worth {
			best, worth = &p, n
		}
	}
	return best
}

// shared gives the networks that both are on, sorted.
func (f *facts) shared(p *peer) (out []string) {
	for name := range f.e.Endpoints {
		if _, ok := p.networks[name]; ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func names(m map[string]*network.EndpointSettings) string {
	if len(m) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

// called is what the other container is called, with the name that it was looked for by.
func (p *peer) called(host string) string {
	if p.name == host {
		return host
	}
	return fmt.Sprintf("%s (container %s)", host, p.name)
}

func (p *peer) standing() string {
	st := p.state
	switch {
	case st.Running || st.Paused || st.Restarting:
		return string(st.Status)
	case st.Status == ctypes.StateCreated:
		return "created and was never started"
	}
	return fmt.Sprintf("%s (%d)", st.Status, st.ExitCode)
}

// apart tells that there is no way to a peer: no network in common, or it does not run.
// nil: there is one.
func (f *facts) apart(cause, tried, host string, p *peer) *builder {
	shared := f.shared(p)
	if len(shared) == 0 && !f.e.HostConfig.NetworkMode.IsHost() && !f.e.HostConfig.NetworkMode.IsContainer() {
		b := f.finding(cause, "%s: %s is there, but the two share no network.", tried, p.called(host)).
			because("networks", "%s: %s; %s: %s", f.e.Name, names(f.e.Endpoints), p.name, names(p.networks))
		if p.service != "" && f.e.Config.Labels[api.LabelService] != "" {
			return b.do("In the Compose file: put both services on one network, by networks: of each")
		}
		for _, name := range slices.Sorted(maps.Keys(p.networks)) {
			if name != network.NetworkDefault && name != "bridge" && name != "host" && name != "none" {
				return b.do("muelle network connect %s %s", name, f.e.Name)
			}
		}
		return b.do("Put both on a network of their own: muelle network create NET, then muelle network connect NET %s and NET %s", f.e.Name, p.name)
	}
	if !p.state.Running {
		return f.finding(cause, "%s: %s does not run: it is %s.", tried, p.called(host), p.standing()).
			because("state", "%s is %s", p.name, p.standing()).
			do("muelle why %s", p.name).do("To have it there first, in Compose: depends_on: {%s: {condition: service_healthy}}", orWord(p.service, p.name))
	}
	if p.state.Paused {
		return f.finding(cause, "%s: %s is paused.", tried, p.called(host)).because("state", "%s is paused", p.name).do("muelle unpause %s", p.name)
	}
	return nil
}

// later says that the other container began after this run had ended, or began.
func (f *facts) later(p *peer) (time.Time, bool) {
	at, err := time.Parse(time.RFC3339Nano, p.state.StartedAt)
	if err != nil {
		return at, false
	}
	end := f.e.FinishedAt
	if f.last != nil {
		end = f.last.At
	}
	return at, !end.IsZero() && at.After(end)
}

// listeners gives the TCP sockets that listen in a process's network namespace; none
// where it has ended.
func listeners(pid int) (out []netip.AddrPort) {
	if pid == 0 {
		return nil
	}
	all, err := socket.ListenersOf(pid)
	if err != nil {
		return nil
	}
	for _, l := range all {
		if l.Proto == "tcp" {
			out = append(out, l.Addr)
		}
	}
	return out
}
