package exposure

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"muelle/api"
	"muelle/internal/linux/socket"
	"muelle/internal/network"
)

// listener is a socket that takes what comes.
type listener struct {
	protocol string
	at       netip.AddrPort
	process  string
}

// Listeners are the sockets of processes in the calling thread's network namespace, each
// once.
func Listeners(pids []int) (list []socket.Listener, err error) {
	all, err := listeners(pids)
	for _, l := range all {
		list = append(list, socket.Listener{Proto: l.protocol, Addr: l.at})
	}
	return list, err
}

// listeners are the sockets of processes of one network namespace, each once.
func listeners(pids []int) ([]listener, error) {
	owners := map[uint64]string{} // inode → process
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid)
		entries, err := os.ReadDir(dir + "/fd")
		if err != nil {
			continue // it has just ended
		}
		comm, _ := os.ReadFile(dir + "/comm")
		for _, e := range entries {
			link, err := os.Readlink(dir + "/fd/" + e.Name())
			if err != nil {
				continue
			}
			var inode uint64
			if _, err := fmt.Sscanf(link, "socket:[%d]", &inode); err == nil {
				owners[inode] = strings.TrimSpace(string(comm))
			}
		}
	}
	if len(owners) == 0 {
		return nil, nil
	}
	sockets, err := socket.Listeners()
	if err != nil {
		return nil, err
	}
	var list []listener
	for _, s := range sockets {
		if process, ok := owners[s.Inode]; ok {
			list = append(list, listener{s.Proto, s.Addr, process})
		}
	}
	return list, nil
}

// listening are the sockets of a container on the host's network.
func (s *Service) listening(ctx context.Context, h *host, sb *network.SandboxView) (list []api.ExposedPort) {
	pids, err := s.o.Pids(ctx, sb.ID)
	if err != nil {
		return nil // it has just ended
	}
	sockets, err := listeners(pids)
	if err != nil {
		s.o.Log.Warn("cannot tell what a container on the host's network listens on", "container", sb.ID, "err", err)
	}
	for _, l := range sockets {
		p := api.ExposedPort{
			ContainerID: sb.ID, Container: sb.Name, Project: sb.Project, Service: sb.Service, Network: "host",
			Protocol: l.protocol, Address: l.at.Addr().String(), Port: l.at.Port(), ContainerPort: l.at.Port(), Process: l.process,
		}
		t := target{protocol: protocols[l.protocol], host: l.at, both: both(l, sockets)}
		h.judge(&p, t)
		if t.both {
			list = append(list, h.apart(p, t)...)
			continue
		}
		list = append(list, p)
	}
	return list
}

// apart judges a socket that hears both families by each, and gives both where a
// firewall makes them differ, else the one that stands for both.
func (h *host) apart(p api.ExposedPort, t target) []api.ExposedPort {
	list := make([]api.ExposedPort, 2)
	for i, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		one := p
		one.Address, one.Reach, one.Partly, one.RouterDecides, one.Because, one.Sources = a.String(), "", false, false, nil, nil
		h.judge(&one, target{protocol: t.protocol, host: netip.AddrPortFrom(a, t.host.Port())})
		list[i] = one
	}
	v4, v6 := &list[0], &list[1]
	same := v4.Reach == v6.Reach && v4.Partly == v6.Partly && !v4.Partly && v4.RouterDecides == v6.RouterDecides
	// Narrower by IPv6 and no rule for it: the host has no such address.
	if same || len(v4.Because) == 0 && len(v6.Because) == 0 && !v6.Wider(v4) {
		return []api.ExposedPort{p}
	}
	return list
}

// both tells whether a socket on [::] takes what comes by IPv4 too: unless it is
// beside one for that.
func both(l listener, all []listener) bool {
	return l.at.Addr() == netip.IPv6Unspecified() && !slices.ContainsFunc(all, func(o listener) bool {
		return o.protocol == l.protocol && o.at == netip.AddrPortFrom(netip.IPv4Unspecified(), l.at.Port())
	})
}
