package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"muelle/api"
	"muelle/internal/network"
)

// judge makes the hops out of the facts. It asks nobody.
func judge(f *facts) *api.Explanation {
	e := &api.Explanation{Source: f.Source.Text, Target: f.Target.Text, Port: f.Port, Proto: f.Proto}
	answered := f.attempt != nil && f.attempt.err == nil && f.Source.Kind != World
	for _, step := range []func(*facts) *hop{
		(*facts).sourceHop, (*facts).targetHop, (*facts).nameHop, (*facts).addressHop, (*facts).networkHop,
		(*facts).policyHop, (*facts).portHop, (*facts).routeHop, (*facts).listenerHop, (*facts).answerHop,
	} {
		h := step(f)
		if h == nil {
			continue
		}
		// What was tried and worked is not forbidden, whatever the model says.
		if behindName[h.Hop] && h.State == api.HopBroken && answered && !f.attempt.unheard && !h.sometimes {
			h.State = api.HopWarning
		}
		e.Hops = append(e.Hops, h.ExplainHop)
	}
	e.Reachable = e.Broken() == nil && e.Open() == nil
	e.Depends = e.Broken() == nil && e.Open() != nil
	return e
}

var behindName = map[string]bool{"network": true, "policy": true, "port": true, "route": true, "listener": true}

// hop builds one.
type hop struct {
	api.ExplainHop
	// sometimes: other connections than the one that was tried are concerned.
	sometimes bool
}

func newHop(name, state, format string, args ...any) *hop {
	return &hop{ExplainHop: api.ExplainHop{Hop: name, State: state, What: fmt.Sprintf(format, args...)}}
}

func fine(name, format string, args ...any) *hop { return newHop(name, api.HopOK, format, args...) }
func broken(name, format string, args ...any) *hop {
	return newHop(name, api.HopBroken, format, args...)
}
func warn(name, format string, args ...any) *hop {
	return newHop(name, api.HopWarning, format, args...)
}

func (h *hop) because(source, format string, args ...any) *hop {
	h.Evidence = append(h.Evidence, api.WhyEvidence{Source: source, Text: fmt.Sprintf(format, args...)})
	return h
}

func (h *hop) do(format string, args ...any) *hop {
	h.Do = append(h.Do, fmt.Sprintf(format, args...))
	return h
}

// sourceHop tells of a source that does not run; one that does is not worth a line.
func (f *facts) sourceHop() *hop { return state("source", &f.Source) }

func (f *facts) targetHop() *hop {
	if h := state("target", &f.Target); h != nil {
		return h
	}
	p := &f.Target
	if p.Kind != Container {
		return nil
	}
	switch p.Health {
	case "unhealthy":
		return warn("target", "%s is unhealthy: what answers may be an error.", p.Text).because("health check", "unhealthy").do("muelle why %s", p.ref())
	case "starting":
		return warn("target", "%s has just been started, and its health check has not passed yet.", p.Text).because("health check", "starting")
	}
	return nil
}

// state tells of a container that cannot take part.
func state(name string, p *Party) *hop {
	if p.Kind != Container {
		return nil
	}
	switch p.State {
	case "running":
		return nil
	case "":
		return broken(name, "Service %s of project %s has no container.", p.Service, p.Project).because("project", "no container is labelled as its").
			do("muelle compose up -d %s", p.Service)
	case "paused":
		return broken(name, "%s is paused: the kernel still takes connections for it, and nobody answers.", p.Text).because("state", "paused").do("muelle unpause %s", p.ref())
	case "created":
		if p.ExitCode != 0 {
			return broken(name, "%s was created, and its start failed.", p.Text).because("state", "created (%d)", p.ExitCode).do("muelle why %s", p.ref())
		}
		return broken(name, "%s was created and has never been started.", p.Text).because("state", "created").do("muelle start %s", p.ref())
	case "restarting":
		return broken(name, "%s ends again and again: it is restarting, the last exit code was %d.", p.Text, p.ExitCode).
			because("state", "restarting (%d)", p.ExitCode).do("muelle why %s", p.ref())
	}
	h := broken(name, "%s does not run: it has ended with exit code %d.", p.Text, p.ExitCode).because("state", "%s (%d)", p.State, p.ExitCode)
	if p.ExitCode != 0 {
		h.do("muelle why %s", p.ref())
	}
	return h.do("muelle start %s", p.ref())
}

// addressHop tells whose addresses the name gave.
func (f *facts) addressHop() *hop {
	if f.lookup == nil || len(f.lookup.addrs) == 0 || f.Target.Kind != Container {
		return nil
	}
	var right, wrong []string
	for _, a := range f.lookup.addrs {
		owner := f.holding(a)
		switch {
		case f.dst != nil && owner != nil && (owner.ID == f.dst.ID || owner.Service != "" && owner.Service == f.dst.Service && owner.Project == f.dst.Project):
			right = append(right, fmt.Sprintf("%s is %s", a, owner.Name))
		case f.dst != nil && f.dst.Host:
			right = append(right, fmt.Sprintf("%s is this host", a))
		case owner != nil:
			wrong = append(wrong, fmt.Sprintf("%s is %s", a, owner.Name))
		default:
			wrong = append(wrong, fmt.Sprintf("%s is no container's", a))
		}
	}
	if len(wrong) == 0 {
		return fine("address", "%s.", strings.Join(right, ", "))
	}
	h := broken("address", "%s is not %s: %s.", f.lookup.name, f.Target.Text, strings.Join(wrong, ", ")).because(f.lookup.from, "%s", join(f.lookup.addrs))
	if f.lookup.from == "/etc/hosts" {
		return h.do("Take %s out of extra_hosts (--add-host) of %s: what is written there is asked before Muelle is", f.lookup.name, f.Source.Text)
	}
	return h.do("Ask for %s by its container's name, %s", f.Target.Text, f.Target.Name)
}

// routeHop tells which way the packets take inside the source.
func (f *facts) routeHop() *hop {
	r := f.route
	switch {
	case f.astray != nil:
		return f.astrayHop()
	case r == nil || f.itself:
		return nil
	case r.err != nil:
		h := broken("route", "%s has no route to %s.", f.Source.Text, f.to[0]).because("routes", "%v", r.err)
		if f.to[0].Is6() {
			return f.giveIPv6(h)
		}
		return h
	case r.via.IsValid():
		return fine("route", "Through %s, by the gateway %s.", r.iface, r.via).because("routes", "of %s", f.Source.Text)
	}
	return fine("route", "Directly, through %s.", r.iface).because("routes", "of %s", f.Source.Text)
}

// giveIPv6 tells of a container that is to reach an address of IPv6 and has none.
func (f *facts) giveIPv6(h *hop) *hop {
	if f.src == nil || f.src.Host || slices.ContainsFunc(f.src.Endpoints, func(e network.EndpointView) bool {
		n := f.network(e.Network)
		return n != nil && n.IPv6
	}) {
		return h
	}
	h.What = fmt.Sprintf("%s has no address of IPv6, and %s is one.", f.Source.Text, f.to[0])
	n := f.way()
	if n == nil {
		return h
	}
	if n.Key != "" {
		h.YAML, h.File = fmt.Sprintf("networks:\n  %s:\n    enable_ipv6: true\n", n.Key), f.Source.ComposeFile
		return h
	}
	return h.do("Make the network with --ipv6; and this host needs a way out by IPv6")
}

func (f *facts) astrayHop() *hop {
	a := f.astray
	h := broken("route", "This host sends what is for %s on %s to %s.", a.to, a.network, a.iface)
	for _, w := range f.warnings {
		if rest, ok := strings.CutPrefix(w, "network "+a.network+": "); ok {
			problem, remedy, _ := strings.Cut(rest, "; ")
			return h.because("routes", "%s", problem).do("%s", remedy)
		}
	}
	return h.because("routes", "ip route get %s", a.to)
}

func join[T fmt.Stringer](list []T) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return strings.Join(texts, ", ")
}

// covers tells whether a socket bound to an address hears what is sent to another.
func covers(bound, to netip.Addr) bool {
	return bound == to || bound.IsUnspecified() && (bound.Is6() || to.Is4())
}
