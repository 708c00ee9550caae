package explain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/socket"
	"muelle/internal/network"
)

// listenerHop tells who listens on the port, and where.
func (f *facts) listenerHop() *hop {
	if !f.listened || f.Target.Kind == Outside || f.sentOn != nil {
		return nil
	}
	who := f.server()
	var here, elsewhere []socket.Listener
	for _, l := range f.listeners {
		if l.Proto != f.Proto || internalPort(l) {
			continue
		}
		if l.Addr.Port() == f.serving {
			here = append(here, l)
		} else {
			elsewhere = append(elsewhere, l)
		}
	}
	switch {
	case f.serving == 0:
		return f.alternatives(broken("listener", "%s listens on no port.", who), nil)
	case len(here) == 0:
		h := f.alternatives(broken("listener", "Nothing listens on %s of %s.", f.servingName(), who), elsewhere)
		h.sometimes = f.mapping != nil && len(f.mapping.others) > 0
		return h
	}
	at := f.bound(here)
	if slices.ContainsFunc(here, f.hears) {
		if h := f.deafSharer(); h != nil {
			return h
		}
		if f.refused() && (f.mapping == nil || !f.mapping.missed) && f.to[0].Is4() && !slices.ContainsFunc(here, func(l socket.Listener) bool { return l.Addr.Addr().Is4() }) {
			return broken("listener", "%s listens for IPv6 only, at %s.", f.program(who), at).because("sockets", "%s, and %s refuses", at, f.to[0]).
				do("Let it listen on 0.0.0.0, or on :: without IPV6_V6ONLY; or give the network IPv6 (enable_ipv6: true)")
		}
		h := fine("listener", "%s listens at %s.", f.program(who), at).because("sockets", "of %s", who)
		if others := f.othersToo(); others != "" {
			h.because("listen too", "%s", others)
		}
		return h
	}
	if slices.ContainsFunc(here, func(l socket.Listener) bool { return l.Addr.Addr().IsLoopback() }) {
		return broken("listener", "%s listens at %s only: that is %s itself, and nobody else gets there.", f.program(who), at, who).because("sockets", "%s", at).
			do("Let it listen on 0.0.0.0:%d: often an option --host or --bind 0.0.0.0, HOST=0.0.0.0 or listen(%d, '0.0.0.0')", f.serving, f.serving)
	}
	return broken("listener", "%s listens at %s, and not at %s.", f.program(who), at, join(f.to)).because("sockets", "%s", at).
		do("Let it listen on 0.0.0.0:%d", f.serving)
}

// server is whose sockets were read.
func (f *facts) server() string {
	switch {
	case f.mapping != nil && f.mapping.sandbox != nil:
		return f.mapping.sandbox.Name
	case f.dst != nil && f.Target.Kind == Container:
		return f.Target.Text
	case f.Target.Kind == Itself:
		return f.Source.Text
	}
	return thisHost
}

const thisHost = "this host"

// serverRef is its name in a command.
func (f *facts) serverRef() string {
	switch {
	case f.mapping != nil && f.mapping.sandbox != nil:
		return f.mapping.sandbox.Name
	case f.Target.Kind == Itself:
		return f.Source.ref()
	}
	return f.Target.ref()
}

func (f *facts) program(who string) string {
	if f.holder == "" {
		return who
	}
	return f.holder
}

func (f *facts) servingName() string {
	return fmt.Sprintf("port %d%s", f.serving, f.protoSuffix())
}

// protoSuffix is "/udp" or "/sctp", and nothing for TCP, which needs no word.
func (f *facts) protoSuffix() string {
	if f.Proto == "tcp" {
		return ""
	}
	return "/" + f.Proto
}

func (f *facts) bound(list []socket.Listener) string {
	var at []string
	for _, l := range list {
		if s := l.Addr.String(); !slices.Contains(at, s) {
			at = append(at, s)
		}
	}
	return strings.Join(at, ", ")
}

// hears tells whether a socket hears what the source sends.
func (f *facts) hears(l socket.Listener) bool {
	if f.mapping != nil {
		return covers(l.Addr.Addr(), f.mapping.target.Addr())
	}
	if len(f.to) == 0 { // nobody knows by which address it would be asked
		return !l.Addr.Addr().IsLoopback()
	}
	return slices.ContainsFunc(f.to, func(to netip.Addr) bool { return covers(l.Addr.Addr(), to) })
}

func (f *facts) refused() bool {
	return f.attempt != nil && errors.Is(f.attempt.err, unix.ECONNREFUSED)
}

// alternatives says which port was probably meant.
func (f *facts) alternatives(h *hop, elsewhere []socket.Listener) *hop {
	name := f.Target.Text
	if f.Target.DNSName != "" {
		name = f.Target.DNSName
	}
	if f.onHost(&f.Source, f.src) && f.Source.Kind == Host && len(f.to) > 0 && f.mapping == nil {
		name = f.to[0].String() // this host does not ask our name server
	}
	if f.server() == thisHost { // its other ports are not what was meant
		return h.do("Start the program, on an address that %s can ask, as 0.0.0.0; or publish the port of a container: -p %d:PORT", f.Source.Text, f.Port)
	}
	if i := slices.IndexFunc(f.listeners, func(l socket.Listener) bool { return l.Proto != f.Proto && l.Addr.Port() == f.serving }); i >= 0 {
		other := f.listeners[i].Proto
		return h.because("sockets", "it listens on port %d by %s", f.serving, strings.ToUpper(other)).
			do("Ask by %s; here that is %s/%s", strings.ToUpper(other), withPort(name, f.Port), other)
	}
	if len(elsewhere) > 0 {
		h.because("sockets", "it listens at %s", f.bound(elsewhere[:min(len(elsewhere), 8)]))
	} else if f.serving != 0 {
		h.because("sockets", "it listens on no other port either")
	}
	if f.Target.Kind == Itself && f.src != nil && !f.src.Host {
		return f.notItself(h)
	}
	if f.dst != nil && f.mapping == nil {
		for _, m := range f.dst.Mappings {
			if m.Protocol == f.Proto && m.Host.Port() == f.Port && len(m.Targets) > 0 && m.Targets[0].Port() != f.Port {
				h.What += fmt.Sprintf(" %d is the port of this host that it is published at; containers ask for the one inside, %d.", f.Port, m.Targets[0].Port())
				return h.do("Ask for %s:%d", name, m.Targets[0].Port())
			}
		}
	}
	open := slices.DeleteFunc(slices.Clone(elsewhere), func(l socket.Listener) bool { return l.Addr.Addr().IsLoopback() })
	switch {
	case f.mapping != nil && len(open) > 0:
		return h.do("Publish the port that it listens on: -p %d:%d", f.mapping.host.Port(), open[0].Addr.Port())
	case len(open) == 1:
		return h.do("Ask for %s%s", withPort(name, open[0].Addr.Port()), f.protoSuffix())
	case len(open) > 1:
		return h.do("Ask for one of the ports that it listens on: %s", ports(open))
	}
	return h.do("Look at what its program says: muelle logs %s", f.serverRef())
}

func ports(list []socket.Listener) string {
	var out []string
	for _, l := range list {
		if p := strconv.Itoa(int(l.Addr.Port())); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return strings.Join(out, ", ")
}

// notItself names who was probably meant by localhost.
func (f *facts) notItself(h *hop) *hop {
	for _, e := range f.src.Endpoints {
		for i := range f.all.Sandboxes {
			other := &f.all.Sandboxes[i]
			if n := f.network(e.Network); other == f.src || n == nil || n.Predefined || on(other, e.Network) == nil || !serves(other, f.Port, f.Proto) {
				continue
			}
			name := other.Name
			if other.Service != "" && other.Project == f.src.Project {
				name = other.Service
			}
			h.do("If %s is meant: %s", name, withPort(name, f.Port))
		}
	}
	return h.do("If a program of this host is meant: %s", withPort("host.docker.internal", f.Port))
}

// serves tells whether a container exposes or publishes a port.
func serves(sb *network.SandboxView, port uint16, proto string) bool {
	for p := range sb.Ports {
		if p.Num() == port && string(p.Proto()) == proto {
			return true
		}
	}
	return false
}

// answerHop tells what became of the connection that was tried.
func (f *facts) answerHop() *hop {
	a := f.attempt
	switch {
	case f.Source.Kind == World && (f.mapping != nil || f.Target.Kind == Host || f.dst != nil && f.dst.Host) && (a == nil || a.err == nil):
		h := newHop("answer", api.HopUnknown, "From outside nothing can be tried here: this is what the rules say.")
		if a != nil {
			h.because("connection", "%s answers this host itself after %s", a.to, short(a.took))
		}
		return h
	case a == nil && f.Target.Kind == World:
		return newHop("answer", api.HopUnknown, "Nobody was named to be tried: name one, as example.org:443.")
	case a == nil:
		return nil
	case a.err == nil && a.unheard:
		return newHop("answer", api.HopUnknown, "%s took a datagram and did not refuse it: UDP tells no more.", a.to)
	case a.err == nil && len(a.failed) > 0:
		return warn("answer", "%s answers after %s; before that, %s did not.", a.to, short(a.took), join(a.failed))
	case a.err == nil:
		return fine("answer", "%s answers after %s.", a.to, short(a.took)).because("connection", "made by %s", f.Source.Text)
	}
	h := f.unanswered(a)
	if f.Source.Kind == World {
		h.because("connection", "tried from this host itself")
	}
	return h
}

func (f *facts) unanswered(a *attempt) *hop {
	h := broken("answer", "%s does not answer.", a.to)
	switch {
	case errors.Is(a.err, unix.ECONNREFUSED):
		h.What = fmt.Sprintf("%s refuses the connection.", a.to)
		return h.because("connection", "refused after %s", short(a.took))
	case errors.Is(a.err, context.DeadlineExceeded), errors.Is(a.err, os.ErrDeadlineExceeded), errors.Is(a.err, unix.ETIMEDOUT):
		h.because("connection", "no answer within %s: something drops the packets", short(a.took))
	default:
		return h.because("connection", "%v", a.err)
	}
	if f.dropped().Certain() || f.astray != nil {
		return h // the policy, or the route, has told it
	}
	for _, w := range f.warnings {
		h.because("this host", "%s", w)
	}
	if f.unread != nil {
		h.because("this host", "%v", f.unread)
	}
	if len(f.warnings) == 0 {
		h.do("Look for rules in the namespaces and on the host: nft list ruleset")
	}
	return h
}
