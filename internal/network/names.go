package network

import (
	"net/netip"
	"slices"
	"strings"

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

// Lookup implements resolver.Directory: the first network of the asker on which
// the name is known answers.
func (d directory) Lookup(asker, name string) resolver.Answer {
	d.mu.RLock()
	defer d.mu.RUnlock()
	sb := d.sandboxes[asker]
	if sb == nil {
		return resolver.Answer{}
	}
	for _, own := range sb.endpoints {
		if !own.net.resolves() {
			continue
		}
		found := own.net.names[own.linked(name)]
		if len(found) == 0 {
			// "web.front" is web on the network front.
			short, ok := strings.CutSuffix(name, "."+strings.ToLower(own.net.Name))
			if ok {
				found = own.net.names[short]
			}
		}
		if found = sameProject(found, sb, name); len(found) > 0 {
			return resolver.Answer{Known: true, Addrs: addresses(found)}
		}
	}
	hidden := d.hidden(sb, name)
	return resolver.Answer{Hidden: hidden}
}

// linked follows the asker's own links, "container:alias".
func (e *endpoint) linked(name string) string {
	for _, l := range e.settings.Links {
		target, alias, ok := strings.Cut(l, ":")
		if ok && strings.EqualFold(alias, name) {
			return strings.ToLower(target)
		}
	}
	return name
}

// sameProject: where two projects share a network, a service's name means the
// asker's own project's, if it has one of that name there.
func sameProject(found []*endpoint, asker *sandbox, name string) []*endpoint {
	if asker.spec.Project == "" {
		return found
	}
	var own []*endpoint
	for _, e := range found {
		if e.sandbox.spec.Project == asker.spec.Project && strings.EqualFold(e.sandbox.spec.Service, name) {
			own = append(own, e)
		}
	}
	if len(own) > 0 {
		return own
	}
	return found
}

func addresses(found []*endpoint) (addrs []netip.Addr) {
	for _, e := range found {
		for _, a := range []netip.Addr{e.settings.IPAddress, e.settings.GlobalIPv6Address} {
			if a.IsValid() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// hidden tells whether a name exists in the asker's project on networks that it is
// not on. The first time it is asked for, the log says why it gets no answer.
func (s *Service) hidden(asker *sandbox, name string) bool {
	if asker.spec.Project == "" {
		return false
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
		return true
	}
	return false
}

// Reverse implements resolver.Directory.
func (d directory) Reverse(asker string, a netip.Addr) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	sb := d.sandboxes[asker]
	if sb == nil {
		return "", false
	}
	for _, own := range sb.endpoints {
		if !own.net.resolves() {
			continue
		}
		for _, e := range own.net.endpoints {
			if e.settings.IPAddress == a || e.settings.GlobalIPv6Address == a {
				return e.sandbox.name + "." + own.net.Name, true
			}
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
	for _, name := range list {
		if !slices.Contains(e.settings.DNSNames, name) {
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
