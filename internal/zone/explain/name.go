package explain

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"muelle/api"
	"muelle/internal/network"
	"muelle/internal/policy"
)

// nameHop tells what the source is answered when it asks for the target's name.
func (f *facts) nameHop() *hop {
	l := f.lookup
	switch {
	case f.Target.Kind == Itself && f.Source.Kind == Container && (f.src == nil || !f.src.Host):
		return fine("name", "localhost inside %s is %s itself, not this host and no other container.", f.Source.Text, f.Source.Text)
	case l == nil && f.Source.Kind == Host && f.Target.Kind == Container && len(f.to) > 0:
		return fine("name", "This host does not know containers by name: its address is %s.", f.to[0])
	case l == nil, len(l.addrs) == 0 && f.Target.Kind == Container && !f.Target.running():
		return nil // a container has its name while it runs
	case len(l.addrs) > 0:
		h := fine("name", "%s is %s.", l.name, join(l.addrs))
		if l.from == "/etc/hosts" {
			return h.because("/etc/hosts", "inside %s", f.Source.Text)
		}
		return h.because(l.from, "answered in %s", short(l.took))
	case f.Target.Kind == Container:
		return f.containerNameHop()
	}
	return f.outsideNameHop()
}

// containerNameHop tells why a container's name is not resolved.
func (f *facts) containerNameHop() *hop {
	l := f.lookup
	h := broken("name", "%s cannot be resolved by %s.", l.name, f.Source.Text).because(l.told())
	if l.without {
		return f.join(f.nobodyToAsk())
	}
	switch {
	case f.resolving() && l.from != embedded.String():
		h.What = fmt.Sprintf("%s asks the name server %s, and not Muelle's at %s, which knows containers.", f.Source.Text, l.from, embedded)
		return h.because("/etc/resolv.conf", "nameserver %s", l.from).
			do("Leave /etc/resolv.conf of %s as it was made: for other name servers there is --dns (dns: in Compose)", f.Source.Text)
	case f.Target.Sandbox != "" && f.Target.Sandbox != f.Target.ID && f.dst != nil:
		return f.guest(h)
	case f.dst != nil && f.dst.Host:
		h.What = fmt.Sprintf("%s uses the host's network, and has no name there.", f.Target.Text)
		return h.do("Ask for %s", withPort("host.docker.internal", f.Port))
	case f.src != nil && f.src.Host:
		h.What = fmt.Sprintf("%s uses the host's network, where containers have no names.", f.Source.Text)
		return f.join(f.byPublished(h))
	case len(f.shared) == 0:
		h.What = fmt.Sprintf("%s cannot resolve %s: they share no network.", f.Source.Text, l.name)
		h.Evidence = nil
		h.because(l.from, "%s", l.code).
			because("networks", "%s is on %s", f.Source.Text, f.networksOf(f.src, &f.Source)).
			because("networks", "%s is on %s", f.Target.Text, f.networksOf(f.dst, &f.Target))
		return f.join(h)
	case !f.resolving():
		h.What = fmt.Sprintf("%s cannot resolve %s: on the default bridge containers have no names.", f.Source.Text, l.name)
		return f.join(h)
	}
	h.What = fmt.Sprintf("%s shares %s with %s, and is not called %s there.", f.Target.Text, names(f.shared), f.Source.Text, l.name)
	if known := f.knownNames(); len(known) > 0 {
		h.because("its names", "%s", strings.Join(known, ", ")).do("Ask for %s", known[0])
	}
	return h
}

// nobodyToAsk is a source without a name server.
func (f *facts) nobodyToAsk() *hop {
	if !f.hasOnlyLoopback() {
		return broken("name", "%s cannot resolve %s: its /etc/resolv.conf names no name server.", f.Source.Text, f.lookup.name).
			do("Leave /etc/resolv.conf as it was made, or name one there: --dns")
	}
	h := broken("name", "%s cannot resolve %s: it is on no network, so there is nobody to ask.", f.Source.Text, f.lookup.name)
	if f.Source.Mode == "none" {
		return h.because("network mode", "none")
	}
	return h.because("networks", "%s is on none", f.Source.Text)
}

// told is a lookup that failed, as evidence.
func (l *lookup) told() (source, format string, args any) {
	text := l.code
	switch {
	case l.err != nil:
		text = l.err.Error()
	case l.reason != "":
		text += ": " + l.reason
	}
	return l.from, "%s", text
}

// resolving tells whether our resolver is in the source.
func (f *facts) resolving() bool {
	return f.src != nil && !f.src.Host && slices.ContainsFunc(f.src.Endpoints, func(e network.EndpointView) bool {
		n := f.network(e.Network)
		return n != nil && n.Driver != "host" && n.Driver != "null" && !n.Predefined
	})
}

// knownNames are those of the target on the shared networks.
func (f *facts) knownNames() (list []string) {
	for _, n := range f.shared {
		for _, name := range on(f.dst, n.ID).Names {
			if !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return list
}

// outsideNameHop tells why a name of the world, or one that nobody has, is not resolved.
func (f *facts) outsideNameHop() *hop {
	l := f.lookup
	if l.without {
		h := f.nobodyToAsk()
		if f.hasOnlyLoopback() {
			h.do("muelle network connect NETWORK %s", f.Source.ref())
		}
		return h
	}
	h := broken("name", "%s cannot be resolved by %s.", l.name, f.Source.Text).because(l.told())
	switch {
	case l.err != nil:
		return h.do("Look at the name server %s, or give the container another one: --dns", l.from)
	case l.code == "NOERROR":
		h.What = fmt.Sprintf("%s exists, and has no address.", l.name)
	case f.src != nil && !f.leadsOut():
		return f.leadOut(h)
	case f.src != nil && !f.src.Host && policy.Restricted(f.way().Zone):
		// A name that a zone does not list is not even asked for.
		if p := f.toOutside(); p.State == api.HopBroken {
			h.YAML, h.File, h.Do = p.YAML, p.File, p.Do
			h.Evidence = append(h.Evidence, p.Evidence...)
		}
	case l.code == "SERVFAIL":
		if f.src != nil && !strings.Contains(l.name, ".") {
			f.nearest(h)
		}
		return h.do("Look at that name server, or give the container another one: --dns (dns: in Compose)")
	case strings.Contains(l.name, ".") || f.src == nil:
		return h.do("Look at how it is written: the name servers know no such name")
	default:
		return f.nearest(h)
	}
	return h
}

// networksOf names a party's networks in a sentence.
func (f *facts) networksOf(sb *network.SandboxView, p *Party) string {
	var list []string
	if sb != nil {
		for _, e := range sb.Endpoints {
			if n := f.network(e.Network); n != nil {
				list = append(list, f.title(n))
			}
		}
	} else {
		list = p.Networks
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// title is a network's name, with what is to be known of it.
func (f *facts) title(n *network.NetworkView) string {
	switch {
	case n.Driver == "null":
		return "none"
	case n.Driver == "host":
		return "the host's"
	case n.Predefined:
		return n.Name + " (the default one)"
	case n.Internal:
		return n.Name + " (internal)"
	}
	return n.Name
}

func names(list []network.NetworkView) string {
	var out []string
	for _, n := range list {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

// short is a duration for people.
func short(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
