package explain

import (
	"net/netip"
	"slices"
	"strings"

	"muelle/internal/linux/socket"
)

// choosePort takes, where none was asked for, the port that the target serves.
func (f *facts) choosePort(networks Networks) {
	if f.Port != 0 {
		return
	}
	switch {
	case f.Target.Kind == Outside && (f.Target.Addr.IsValid() || strings.Contains(f.Target.DNSName, ".")):
		f.Port = 443 // and not of a slip of the pen
	case f.dst != nil:
		f.readSockets(networks, f.dst)
		f.Port = f.served()
	}
	f.toPort, f.serving = f.Port, f.Port
}

// served is a port that the target's programs listen on: an exposed one rather than
// another, one that others reach rather than one on loopback.
func (f *facts) served() (best uint16) {
	rank := -1
	for _, l := range f.listeners {
		if l.Proto != f.Proto || internalPort(l) {
			continue
		}
		r := 0
		if f.exposes(l.Addr.Port()) {
			r += 2
		}
		if !l.Addr.Addr().IsLoopback() {
			r++
		}
		if r > rank || r == rank && l.Addr.Port() < best {
			rank, best = r, l.Addr.Port()
		}
	}
	if rank >= 0 {
		return best
	}
	for p := range f.dst.Ports {
		if string(p.Proto()) == f.Proto && (best == 0 || p.Num() < best) {
			best = p.Num()
		}
	}
	return best
}

// internalPort tells whether a socket is our own resolver's.
func internalPort(l socket.Listener) bool {
	return l.Addr.Addr() == embedded
}

func (f *facts) exposes(port uint16) bool {
	for p := range f.dst.Ports {
		if string(p.Proto()) == f.Proto && p.Num() == port {
			return true
		}
	}
	return false
}

// findMapping finds the published port that the way goes through: to a port of the
// host, or from outside to a container.
func (f *facts) findMapping() {
	fromOutside := f.Source.Kind == World || f.Source.Kind == Outside
	switch {
	case f.Target.Kind == Host || f.Target.Kind == Itself && f.onHost(&f.Source, f.src):
	case fromOutside && f.dst != nil:
	default:
		return
	}
	best := -1
	for i := range f.all.Sandboxes {
		sb := &f.all.Sandboxes[i]
		if fromOutside && f.dst != nil && sb.ID != f.dst.ID {
			continue
		}
		for _, m := range sb.Mappings {
			if m.Protocol != f.Proto || len(m.Targets) == 0 {
				continue
			}
			asked := m.Host.Port() == f.Port
			if f.Target.Kind == Container {
				asked = m.Targets[0].Port() == f.Port || f.Port == 0
			}
			if !asked {
				continue
			}
			found := &mapping{host: m.Host, target: m.Targets[0], sandbox: f.holding(m.Targets[0].Addr()), missed: !f.published(m.Host.Addr())}
			if found.sandbox != nil {
				for _, e := range found.sandbox.Endpoints {
					if n := f.network(e.Network); n != nil && slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr() == found.target.Addr() }) {
						found.zone = n.Zone
					}
				}
			}
			if n := found.worth(sb.Ready); n > best {
				f.mapping, best = found, n
			}
		}
	}
	if f.mapping != nil {
		f.mapping.others = f.sharers(f.mapping)
		f.serving = f.mapping.target.Port()
		if fromOutside {
			f.toPort = f.mapping.host.Port()
		}
	}
}
