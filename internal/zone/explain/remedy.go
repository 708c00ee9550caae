package explain

import (
	"fmt"
	"slices"
	"strings"

	"muelle/internal/network"
)

// join says how the source gets onto a network of the target's: in lines of the
// Compose file where it is a service, and by the command that does it at once.
func (f *facts) join(h *hop) *hop {
	n := f.best()
	if n == nil {
		return f.joinNew(h)
	}
	src := &f.Source
	if src.Service != "" {
		h.YAML, h.File = f.lines(n), src.ComposeFile
		if src.Mode == "none" || src.Mode == "host" || strings.HasPrefix(src.Mode, "container:") {
			h.do("In the Compose file, take network_mode of %s away: it stands in the way of networks", src.Service)
		}
	}
	switch {
	case src.ID == "" || !src.running():
	case src.Mode == "host":
		h.do("%s is in the host's network namespace: it can join no other network", src.Text)
	case src.Sandbox != "" && src.Sandbox != src.ID:
		h.do("%s is in another's network namespace: it can join no network by itself", src.Text)
	case src.Service != "":
		h.do("At once, until it is made anew: muelle network connect %s %s", n.Name, src.Name)
	default:
		h.do("muelle network connect %s %s", n.Name, src.Name)
	}
	if others := f.others(n); len(others) > 0 {
		h.because(n.Name, "also on it: %s", strings.Join(others, ", "))
	}
	return h
}

// best is the target's network that gives the source the least beside the target: one
// that leads out before an internal one, for what is internal is meant to be apart;
// then the one with the fewest others.
func (f *facts) best() (best *network.NetworkView) {
	var rank int
	consider := func(n *network.NetworkView) {
		if n == nil || n.Predefined || n.Driver == "host" || n.Driver == "null" {
			return
		}
		r := len(f.others(n))
		if n.Internal {
			r += 1 << 16
		}
		if best == nil || r < rank {
			best, rank = n, r
		}
	}
	if f.dst != nil {
		for _, e := range f.dst.Endpoints {
			consider(f.network(e.Network))
		}
		return best
	}
	for _, name := range f.Target.Networks {
		for i := range f.all.Networks {
			if f.all.Networks[i].Name == name {
				consider(&f.all.Networks[i])
			}
		}
	}
	return best
}

// others are who else is on a network.
func (f *facts) others(n *network.NetworkView) (list []string) {
	for i := range f.all.Sandboxes {
		sb := &f.all.Sandboxes[i]
		if sb == f.src || sb == f.dst || on(sb, n.ID) == nil || f.dst != nil && sb.Service != "" && sb.Service == f.dst.Service && sb.Project == f.dst.Project {
			continue
		}
		name := sb.Name
		if sb.Service != "" && sb.Project == f.Source.Project {
			name = sb.Service
		}
		if !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// joinNew is for a target on no network that anybody could join.
func (f *facts) joinNew(h *hop) *hop {
	if f.dst != nil && f.dst.Host {
		return h.do("%s is in the host's network: ask for host.docker.internal", f.Target.Text)
	}
	if f.dst == nil || f.Source.Name == "" {
		return h
	}
	return h.do("Make a network and put both on it: muelle network create NET && muelle network connect NET %s && muelle network connect NET %s", f.Source.Name, f.Target.Name)
}

// lines of the Compose file that put the source onto a network, beside those that it is on.
func (f *facts) lines(n *network.NetworkView) string {
	var keys []string
	for _, own := range f.ownNetworks() {
		// Where nobody else is, it was only there because nothing was said.
		if own.Key != "" && own.Project == f.Source.Project && (own.Key != "default" || len(f.others(own)) > 0) {
			keys = append(keys, own.Key)
		}
	}
	key := n.Key
	if n.Project != f.Source.Project || key == "" {
		key = n.Name
	}
	keys = append(keys, key)
	text := fmt.Sprintf("services:\n  %s:\n    networks: [%s]\n", f.Source.Service, strings.Join(keys, ", "))
	if key != n.Key || n.Project != f.Source.Project {
		text += fmt.Sprintf("networks:\n  %s:\n    external: true\n", key)
	}
	return text
}

func (f *facts) ownNetworks() (list []*network.NetworkView) {
	for i := range f.all.Networks {
		n := &f.all.Networks[i]
		if f.src != nil && on(f.src, n.ID) != nil || f.src == nil && slices.Contains(f.Source.Networks, n.Name) {
			list = append(list, n)
		}
	}
	return list
}

// leadOut says how the source gets a way to the world.
func (f *facts) leadOut(h *hop) *hop {
	for _, n := range f.ownNetworks() {
		if n.Internal {
			h.because("network "+n.Name, "internal: nothing of it leads out of this machine")
		}
	}
	src := &f.Source
	if src.Service != "" {
		for _, n := range f.ownNetworks() {
			if n.Internal && n.Key != "" {
				h.YAML = fmt.Sprintf("services:\n  %s:\n    networks: [%s, outward]\nnetworks:\n  outward:\n", src.Service, n.Key)
				h.File = src.ComposeFile
				break
			}
		}
	}
	if src.Name != "" && src.running() {
		h.do("If it shall have a way out: muelle network create outward && muelle network connect outward %s", src.Name)
	}
	return h
}
