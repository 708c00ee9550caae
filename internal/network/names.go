package network

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/id"
	"muelle/internal/network/resolver"
)

// directory is the Service as the resolver sees it.
type directory struct{ *Service }

// Upstream implements resolver.Directory.
func (d directory) Upstream(asker string) resolver.Upstream {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if sb := d.sandboxes[asker]; sb != nil {
		return d.upstream(sb)
	}
	return resolver.Upstream{}
}

// Lookup implements resolver.Directory. The first network, in the asker's order, on
// which a name is known says whose it is; the same containers' addresses on further
// networks in common follow.
func (d directory) Lookup(asker, name string) resolver.Answer {
	d.mu.RLock()
	defer d.mu.RUnlock()
	sb := d.sandboxes[asker]
	if sb == nil {
		return resolver.Answer{}
	}
	if found := sb.lookup(name); len(found) > 0 {
		return answerOf(found)
	}
	if slices.Contains(hostNames[:], name) {
		if addrs := d.hostAddresses(sb); len(addrs) > 0 {
			return resolver.Answer{Known: true, Addrs: addrs, From: "host"}
		}
		return resolver.Answer{Hidden: true, Reason: "the host has no address on the container's networks"}
	}
	reason := d.hidden(sb, name)
	if reason == "" {
		reason = sb.unlisted(name)
	}
	return resolver.Answer{Hidden: reason != "", Reason: reason}
}

// lookup gives the endpoints that have a name for the asker, in its order of networks.
func (sb *sandbox) lookup(name string) (found []*endpoint) {
	own := sb.preferred()
	for i, e := range own {
		if found = e.lookup(name); len(found) > 0 {
			own = own[i+1:]
			break
		}
	}
	if len(found) == 0 {
		return nil
	}
	first := found
	for _, e := range own {
		for _, other := range e.lookup(name) {
			if slices.ContainsFunc(first, other.sameOwner) {
				found = append(found[:len(found):len(found)], other)
			}
		}
	}
	return sb.inService(sameProject(found, sb, name))
}

// inService leaves out those of several containers of one name that are unhealthy or
// about to be stopped, unless all are. A service's own containers see each other in any
// state: that is how those find each other that are not healthy before they have.
func (sb *sandbox) inService(found []*endpoint) []*endpoint {
	out := slices.DeleteFunc(slices.Clone(found), func(e *endpoint) bool { return readiness(e.sandbox.readiness.Load()) != isReady })
	if len(out) == 0 || sb.owner() != "" && slices.ContainsFunc(found, func(e *endpoint) bool { return e.sandbox.owner() == sb.owner() }) {
		return found
	}
	return out
}

// lookup gives the endpoints of that name on the network; "web.front" is web on the
// network front, which may be a project's own name for it.
func (e *endpoint) lookup(name string) []*endpoint {
	if !e.net.resolves() {
		return nil
	}
	if found := e.linked(name); len(found) > 0 {
		return found
	}
	if found := e.net.names[name]; len(found) > 0 {
		return found
	}
	short, ok := strings.CutSuffix(name, "."+strings.ToLower(e.net.Name))
	if label := e.net.Labels[api.LabelNetwork]; !ok && label != "" && e.net.Labels[api.LabelProject] == e.sandbox.spec.Project {
		short, ok = strings.CutSuffix(name, "."+strings.ToLower(label))
	}
	if !ok {
		return nil
	}
	return e.net.names[short]
}

// sameOwner tells whether two endpoints are one container's, or one service's.
func (e *endpoint) sameOwner(o *endpoint) bool {
	a, b := &e.sandbox.spec, &o.sandbox.spec
	return e.sandbox == o.sandbox || a.Service != "" && a.Service == b.Service && a.Project == b.Project
}

// preferred are the endpoints in the order in which names are looked for: of the
// highest gw-priority first, then as the interfaces.
func (sb *sandbox) preferred() []*endpoint {
	higher := func(a, b *endpoint) int { return b.settings.GwPriority - a.settings.GwPriority }
	if slices.IsSortedFunc(sb.endpoints, higher) {
		return sb.endpoints
	}
	list := slices.Clone(sb.endpoints)
	slices.SortStableFunc(list, higher)
	return list
}

// answerOf lists one address of every container and family first, that of the network
// that the asker prefers, and then the others.
func answerOf(found []*endpoint) resolver.Answer {
	a := resolver.Answer{Known: true, From: "network " + found[0].net.Name}
	var four, six, further []netip.Addr
	for i, e := range found {
		known := slices.ContainsFunc(found[:i], func(o *endpoint) bool { return o.sandbox == e.sandbox })
		for _, addr := range []netip.Addr{e.settings.IPAddress, e.settings.GlobalIPv6Address} {
			switch {
			case !addr.IsValid():
			case known:
				further = append(further, addr)
			case addr.Is4():
				four = append(four, addr)
			default:
				six = append(six, addr)
			}
		}
	}
	a.Equal = len(four) + len(six)
	a.Addrs = append(append(four, six...), further...)
	return a
}

// linked follows the asker's own links, "target:alias", of which several may have one
// alias: a target is a container, or a service with all of its replicas.
func (e *endpoint) linked(name string) (found []*endpoint) {
	for _, l := range e.settings.Links {
		target, alias, ok := strings.Cut(l, ":")
		if !ok || !strings.EqualFold(path.Base(alias), name) {
			continue
		}
		target = strings.ToLower(strings.TrimPrefix(target, "/"))
		for _, other := range sameProject(e.net.names[target], e.sandbox, target) {
			if !slices.Contains(found, other) {
				found = append(found, other)
			}
		}
	}
	return found
}

// sameProject: where two projects share a network, a service's name means the
// asker's own project's, if it has one of that name there.
func sameProject(found []*endpoint, asker *sandbox, name string) []*endpoint {
	if asker.spec.Project == "" {
		return found
	}
	var own []*endpoint
	for _, e := range found {
		if e.sandbox.spec.Project == asker.spec.Project && called(e.sandbox.spec.Service, name) {
			own = append(own, e)
		}
	}
	if len(own) > 0 {
		return own
	}
	return found
}

// called tells whether a name is the service's, alone or with a network's.
func called(service, name string) bool {
	head, rest := name[:min(len(service), len(name))], name[min(len(service), len(name)):]
	return service != "" && strings.EqualFold(head, service) && (rest == "" || rest[0] == '.')
}

// hidden says why a name that exists in the asker's project is not answered: nobody
// who has it is on a network of the asker. Empty: there is none. The log tells of
// it the first time.
func (s *Service) hidden(asker *sandbox, name string) string {
	if asker.spec.Project == "" {
		return ""
	}
	for _, other := range s.sandboxes {
		if other == asker || other.spec.Project != asker.spec.Project || !other.called(name) {
			continue
		}
		if asker.explain(name) {
			s.log.Info("a name of the project is not resolved: no network in common",
				"container", asker.name, "networks", asker.networkNames(),
				"name", name, "belongs_to", other.name, "its_networks", other.networkNames())
		}
		return fmt.Sprintf("%s is on %s, %s on %s: they share no network", other.name, other.networks(), asker.name, asker.networks())
	}
	return ""
}

// networks names a sandbox's networks in a sentence.
func (sb *sandbox) networks() string {
	names := sb.networkNames()
	switch len(names) {
	case 0:
		return "no network"
	case 1:
		return "network " + names[0]
	}
	return "networks " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// Services implements resolver.Directory. What a container calls one of its ports goes
// before what everybody calls it.
func (d directory) Services(asker, name string, w resolver.Wanted) (list []resolver.Target) {
	number := w.Number()
	d.mu.RLock()
	defer d.mu.RUnlock()
	sb := d.sandboxes[asker]
	if sb == nil {
		return nil
	}
	seen := map[*sandbox]bool{}
	for _, e := range sb.lookup(name) {
		if seen[e.sandbox] {
			continue
		}
		seen[e.sandbox] = true
		t := resolver.Target{Name: strings.ToLower(e.sandbox.name + "." + e.net.Name)}
		for _, p := range prefixes(e.settings) {
			t.Addrs = append(t.Addrs, p.Addr())
		}
		for _, t.Port = range e.sandbox.serving(w, number) {
			list = append(list, t)
		}
	}
	return list
}

// serving are the ports of a container that a lookup of SRV means.
func (sb *sandbox) serving(w resolver.Wanted, number uint16) []uint16 {
	if own := sb.spec.PortNames[w.Name+"/"+w.Proto]; len(own) > 0 {
		return own
	}
	wanted, ok := network.PortFrom(number, network.IPProtocol(w.Proto))
	_, exposed := sb.spec.Exposed[wanted]
	_, published := sb.ports[wanted]
	if !ok || number == 0 || !exposed && !published {
		return nil
	}
	return []uint16{number}
}

// Reverse implements resolver.Directory.
func (d directory) Reverse(asker string, a netip.Addr) (name string, own bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	sb := d.sandboxes[asker]
	if sb == nil {
		return "", false
	}
	for _, e := range sb.endpoints {
		if !e.net.resolves() || e.net.subnetOf(a) == nil {
			continue
		}
		for _, other := range e.net.endpoints {
			if other.settings.IPAddress == a || other.settings.GlobalIPv6Address == a {
				return other.sandbox.name + "." + e.net.Name, true
			}
		}
		if slices.ContainsFunc(e.net.IPAM.Config, func(c network.IPAMConfig) bool { return c.Gateway == a }) {
			return hostName, true
		}
	}
	for _, n := range d.networks {
		if n.subnetOf(a) != nil {
			return "", true
		}
	}
	return "", false
}

// setNames gives an endpoint its names, as inspect shows them: the container's
// name, aliases, short id and hostname.
func (e *endpoint) setNames() {
	e.settings.DNSNames = nil
	if !e.net.resolves() {
		return
	}
	list := append([]string{e.sandbox.name}, e.settings.Aliases...)
	list = append(list, id.Short(e.sandbox.id))
	if e.sandbox.spec.Hostname != "" {
		list = append(list, e.sandbox.spec.Hostname)
	}
	seen := make(map[string]bool, len(list))
	for _, name := range list {
		if !seen[name] {
			seen[name] = true
			e.settings.DNSNames = append(e.settings.DNSNames, name)
		}
	}
}

// list and unlist keep a network's index of names. Called with the lock held.
func (e *endpoint) list() {
	for _, name := range e.settings.DNSNames {
		name = strings.ToLower(name)
		e.names = append(e.names, name)
		if !slices.Contains(e.net.names[name], e) {
			e.net.names[name] = append(e.net.names[name], e)
		}
	}
}

func (e *endpoint) unlist() {
	for _, name := range e.names {
		left := slices.DeleteFunc(e.net.names[name], func(o *endpoint) bool { return o == e })
		if len(left) == 0 {
			delete(e.net.names, name)
			continue
		}
		e.net.names[name] = left
	}
	e.names = nil
}

// Renamed changes a running container's name for the resolver.
func (s *Service) Renamed(containerID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sb := s.sandboxes[containerID]
	if sb == nil {
		return
	}
	sb.name = strings.TrimPrefix(name, "/")
	for _, e := range sb.endpoints {
		e.unlist()
		e.setNames()
		e.list()
	}
}
