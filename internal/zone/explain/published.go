package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/internal/linux/socket"
	"muelle/internal/network"
)

// portHop tells of the published port that the way goes through.
func (f *facts) portHop() *hop {
	fromOutside := f.Source.Kind == World
	switch {
	case f.mapping != nil:
		to := f.mapping.target.String()
		if f.mapping.sandbox != nil {
			to = fmt.Sprintf("%s, port %d", f.mapping.sandbox.Name, f.mapping.target.Port())
		}
		if n := len(f.mapping.others); n > 0 {
			to += fmt.Sprintf(" (and %d more that share it)", n)
		}
		at := fmt.Sprintf("Port %d of this host", f.mapping.host.Port())
		if a := f.mapping.host.Addr(); !a.IsUnspecified() {
			at = fmt.Sprintf("Port %d of this host's address %s", f.mapping.host.Port(), a)
		}
		if f.mapping.missed {
			return f.elsewhere(to)
		}
		return fine("port", "%s leads to %s.", at, to).because("published ports", "%s -> %s", f.mapping.host, f.mapping.target)
	case f.sentOn != nil:
		to := "elsewhere"
		if f.sentOn.To.IsValid() {
			to = "to " + f.sentOn.To.String()
		}
		return fine("port", "Rules of somebody else send port %d of this host on %s.", f.Port, to).because("translations of this host", "%s", f.sentOn.Rule)
	case fromOutside && f.dst != nil && f.dst.Host: // its ports are this host's
	case fromOutside && f.Target.Kind == Container && f.Target.running():
		h := broken("port", "%s does not publish %s: from outside, nothing of a container can be reached but what it publishes.", f.Target.Text, f.portName())
		if f.dst != nil && !slices.ContainsFunc(f.dst.Endpoints, func(e network.EndpointView) bool { return e.Gateway }) {
			return h.because("networks", "%s is on %s", f.Target.Text, f.networksOf(f.dst, &f.Target)).
				do("None of its networks leads out: to publish to others than this host, it needs one that does")
		}
		if f.Target.Service != "" && f.Port != 0 {
			h.YAML, h.File = portLine(f.Target.Service, f.Port, f.Port), f.Target.ComposeFile
		}
		if f.Port != 0 && f.Target.ID != "" {
			h.do("At once: muelle update --publish-add %d:%d %s", f.Port, f.Port, f.Target.Name)
		}
		return h
	}
	return nil
}

func portLine(service string, host, inside uint16) string {
	return fmt.Sprintf("services:\n  %s:\n    ports: [\"%d:%d\"]\n", service, host, inside)
}

// elsewhere tells of a port that is published at another address than the source asks.
func (f *facts) elsewhere(to string) *hop {
	m := f.mapping
	what := "It is published for this host only: %s leads to %s."
	if !m.host.Addr().IsLoopback() {
		what = "It is published at one address of this host only: %s leads to %s."
	}
	h := broken("port", what, m.host, to).because("published ports", "%s -> %s", m.host, m.target)
	if len(f.to) > 0 {
		h.because("address", "%s asks at %s", f.Source.Text, join(f.to))
	}
	if m.sandbox == nil {
		return h
	}
	if m.sandbox.Service != "" {
		h.YAML = portLine(m.sandbox.Service, m.host.Port(), m.target.Port())
		for _, p := range []*Party{&f.Source, &f.Target} {
			if p.Project == m.sandbox.Project {
				h.File = p.ComposeFile
			}
		}
	}
	if f.src != nil && !f.src.Host && slices.ContainsFunc(m.sandbox.Endpoints, func(e network.EndpointView) bool {
		n := f.network(e.Network)
		return n != nil && !n.Predefined && on(f.src, e.Network) != nil
	}) {
		name := m.sandbox.Name
		if m.sandbox.Service != "" && m.sandbox.Project == f.src.Project {
			name = m.sandbox.Service
		}
		h.do("They share a network: ask for %s:%d, which needs no published port", name, m.target.Port())
	}
	return h.do("Publish it on all addresses: -p %d:%d", m.host.Port(), m.target.Port())
}

func (f *facts) portName() string {
	if f.Port == 0 {
		return "any port"
	}
	return fmt.Sprintf("port %d%s", f.Port, f.protoSuffix())
}

// othersToo names those who listen behind the same published port.
func (f *facts) othersToo() string {
	var list []string
	if f.mapping != nil {
		for _, o := range f.mapping.others {
			if o.read {
				list = append(list, o.sandbox.Name)
			}
		}
	}
	return strings.Join(list, ", ")
}

// deafSharer tells of another replica behind the published port that does not listen
// where the port leads to: what it gets of the connections is refused.
func (f *facts) deafSharer() *hop {
	if f.mapping == nil {
		return nil
	}
	for _, o := range f.mapping.others {
		if !o.read || slices.ContainsFunc(o.listeners, func(l socket.Listener) bool {
			return l.Proto == f.Proto && l.Addr.Port() == o.target.Port() && covers(l.Addr.Addr(), o.target.Addr())
		}) {
			continue
		}
		h := broken("listener", "Nothing listens at %s of %s, one of %d containers that share the port: the connections that it gets fail.",
			o.target, o.sandbox.Name, len(f.mapping.others)+1).because("sockets", "of %s", o.sandbox.Name)
		h.sometimes = true
		return h.do("Look at what its program says: muelle logs %s", o.sandbox.Name).
			do("With a health check, one that does not serve gets no connections: healthcheck or x-health: {tcp: %d}", o.target.Port())
	}
	return nil
}

// published tells whether the source's packets come to a port that is published at an
// address.
func (f *facts) published(at netip.Addr) bool {
	if f.Source.Kind == World && (at.IsLoopback() || f.Source.Addr.IsValid() && f.Source.Addr.Is6() != at.Is6()) {
		return false
	}
	return len(f.to) == 0 || slices.ContainsFunc(f.to, func(to netip.Addr) bool { return at == to || at.IsUnspecified() && at.Is6() == to.Is6() })
}

// worth orders mappings: one that the source comes to, of a replica that gets new
// connections, at more addresses than its own loopback.
func (m *mapping) worth(ready bool) (n int) {
	for i, is := range []bool{!m.host.Addr().IsLoopback(), ready, !m.missed} {
		if is {
			n += 1 << i
		}
	}
	return n
}

// sharers are the other replicas behind a mapping's port. Where one is ready, those that
// are not get no new connections.
func (f *facts) sharers(m *mapping) (list []sharer) {
	if m.sandbox == nil {
		return nil
	}
	for i := range f.all.Sandboxes {
		sb := &f.all.Sandboxes[i]
		if sb == m.sandbox || m.sandbox.Ready && !sb.Ready {
			continue
		}
		for _, o := range sb.Mappings {
			if o.Protocol == f.Proto && o.Host == m.host && len(o.Targets) > 0 {
				list = append(list, sharer{sandbox: sb, target: o.Targets[0]})
			}
		}
	}
	return list
}
