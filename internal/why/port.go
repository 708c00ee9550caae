package why

import (
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"

	"muelle/internal/container"
	"muelle/internal/filter"
	"muelle/internal/network/port"
)

var boundPort = lazy(`(?:Bind for|bind host port(?: for)?) (\[[^\]]+\]|[^:\s]+):(\d+)`)

// portTaken says who holds a port, as it was and as it is now.
func (f *facts) portTaken(text string) *builder {
	m := boundPort.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	number := m[2]
	b := f.finding("port-taken", "Port %s of this host is in use.", number)
	_, by, _ := strings.Cut(text, "(by ")
	holder := strings.TrimSuffix(by, ")")
	if holder != "" {
		b.f.What = "Port " + number + " of this host is in use by " + holder + "."
		b.because("state", "it was %s when the start was tried", holder)
	}
	switch now := f.holder(m[1], number); {
	case now == "":
		b.because("sockets", "nobody holds the port now").do("muelle start %s", f.e.Name)
	default:
		b.because("sockets", "%s holds it now", now)
		if name, ok := strings.CutPrefix(now, "container "); ok {
			b.do("muelle stop %s", name)
		}
	}
	return b.do("Or publish another one: -p OTHER:%s", f.containerPort(number))
}

// noAddress tells of a port that is to be published at an address which this host has not.
func (f *facts) noAddress(text string) *builder {
	m := boundPort.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	return f.finding("no-such-address", "Port %s is to be published at %s, which is no address of this host.", m[2], m[1]).
		because("configuration", "published at %s", m[1]).
		do("See the host's addresses: ip addr").
		do("Or publish it at all of them: -p %s:%s", m[2], f.containerPort(m[2]))
}

// holder says who has a port at this moment, a container or a process.
func (f *facts) holder(host, number string) string {
	if list, err := f.s.containers.List(f.ctx, container.ListOptions{Filters: filter.Args{}}); err == nil {
		for _, c := range list {
			for _, p := range c.Ports {
				if number == itoa(p.PublicPort) && len(c.Names) > 0 {
					return "container " + strings.TrimPrefix(c.Names[0], "/")
				}
			}
		}
	}
	at, err := netip.ParseAddrPort(host + ":" + number)
	if err != nil {
		return ""
	}
	if who := port.Holder(&port.TakenError{Host: at, Proto: network.TCP}); who != "" {
		return "process " + who
	}
	if who := port.Holder(&port.TakenError{Host: at, Proto: network.UDP}); who != "" {
		return "process " + who
	}
	return ""
}

func (f *facts) containerPort(host string) string {
	for p, bindings := range f.e.HostConfig.PortBindings {
		for _, b := range bindings {
			if b.HostPort == host {
				return itoa(p.Num())
			}
		}
	}
	return "PORT"
}
