package container

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"

	"muelle/internal/network"
)

// A link ("--link NAME:ALIAS") of a container on the default bridge tells it in
// /etc/hosts and in its environment where another is. In the record it names that one
// by its id, so that both may be renamed. On networks with names a link is an alias,
// which the resolver knows.

// parseLink reads "name", "name:alias", and "/name:/self/alias", which is what inspect shows.
func parseLink(text string) (name, alias string, err error) {
	name, alias, ok := strings.Cut(text, ":")
	switch {
	case text == "":
		return "", "", invalid("empty string specified for links")
	case strings.Contains(alias, ":"):
		return "", "", invalid("bad format for links: %s", text)
	case strings.HasPrefix(name, "/"):
		name, alias = name[1:], path.Base(alias)
	case !ok:
		alias = name
	}
	if name == "" || alias == "" || strings.ContainsAny(alias, " \t\n\x00#/") {
		return "", "", invalid("bad format for links: %s", text)
	}
	return name, alias, nil
}

// linksOf are a container's links of this kind.
func linksOf(hc *ctypes.HostConfig) []string {
	if hc.NetworkMode.IsUserDefined() {
		return nil
	}
	return hc.Links
}

// resolveLinks finds who is linked to.
func (s *Service) resolveLinks(hc *ctypes.HostConfig) error {
	switch {
	case len(hc.Links) == 0:
		return nil
	case hc.NetworkMode.IsContainer():
		return invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case hc.NetworkMode.IsHost():
		return invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	var resolved []string
	for _, text := range hc.Links {
		name, alias, err := parseLink(text)
		if err != nil {
			return err
		}
		if hc.NetworkMode.IsUserDefined() {
			continue
		}
		c, err := s.find(name)
		for err == nil {
			c.mu.Lock()
			mode := c.rec.HostConfig.NetworkMode
			c.mu.Unlock()
			if mode.IsHost() {
				return invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
			}
			if !mode.IsContainer() {
				break
			}
			c, err = s.find(mode.ConnectedContainer())
		}
		if err != nil {
			// Not found would make a client look for the image elsewhere.
			return invalid("could not get container for %s: %s", name, err)
		}
		if slices.ContainsFunc(resolved, func(l string) bool { return strings.HasSuffix(l, ":"+alias) }) {
			return conflict("conflict: the link alias %q is given twice", alias)
		}
		resolved = append(resolved, c.id+":"+alias)
	}
	if resolved != nil {
		hc.Links = resolved
	}
	return nil
}

// link is what a container is told of another.
type link struct {
	alias   string
	name    string // the other's
	names   []string
	running bool
	address netip.Addr
	config  *ctypes.Config
}

// eachLink gives the links of a record whose other end exists.
func (s *Service) eachLink(rec *record) (list []link) {
	for _, text := range linksOf(rec.HostConfig) {
		cid, alias, _ := strings.Cut(text, ":")
		c, err := s.find(cid)
		if err != nil {
			continue // removed since
		}
		c.mu.Lock()
		list = append(list, linkTo(alias, &c.rec, &c.st))
		c.mu.Unlock()
	}
	return list
}

func linkTo(alias string, rec *record, st *state) link {
	l := link{alias: alias, name: rec.Name, running: st.alive(), config: rec.Config, names: []string{alias}}
	for _, name := range []string{rec.Config.Hostname, rec.Name} {
		if !slices.Contains(l.names, name) && name != "" {
			l.names = append(l.names, name)
		}
	}
	if e := st.Endpoints[mnet.NetworkBridge]; e != nil {
		l.address = e.IPAddress
	}
	return l
}

// prepareLinks tells of what is linked to, which must run.
func (n *starting) prepareLinks(spec *network.SandboxSpec) error {
	for _, l := range n.s.eachLink(&n.rec) {
		if !l.running || !l.address.IsValid() {
			return conflict("Cannot link to a non running container: /%s AS /%s/%s", l.name, n.rec.Name, l.alias)
		}
		spec.Linked = append(spec.Linked, network.Linked{Address: l.address, Names: l.names})
		n.linked = append(n.linked, l.env("/"+n.rec.Name+"/"+l.alias)...)
	}
	return nil
}

// env is what Docker tells of a link in the environment; name is the link's own.
func (l link) env(name string) []string {
	prefix := strings.ReplaceAll(strings.ToUpper(l.alias), "-", "_")
	var ports []mnet.Port
	for p := range l.config.ExposedPorts {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b mnet.Port) int {
		if a.Num() != b.Num() {
			return int(a.Num()) - int(b.Num())
		}
		return strings.Compare(order(a), order(b))
	})
	var env []string
	url := func(p mnet.Port) string { return fmt.Sprintf("%s://%s:%d", p.Proto(), l.address, p.Num()) }
	if len(ports) > 0 {
		env = append(env, prefix+"_PORT="+url(ports[0]))
	}
	for i := 0; i < len(ports); i++ {
		j := i
		for j+1 < len(ports) && ports[j+1].Num() == ports[j].Num()+1 && ports[j+1].Proto() == ports[i].Proto() {
			j++
		}
		if j == i {
			continue
		}
		// Ports in a row are told of as a range too.
		key := fmt.Sprintf("%s_PORT_%d_%s", prefix, ports[i].Num(), strings.ToUpper(string(ports[i].Proto())))
		env = append(env, key+"_START="+url(ports[i]), fmt.Sprintf("%s_PORT_START=%d", key, ports[i].Num()),
			key+"_END="+url(ports[j]), fmt.Sprintf("%s_PORT_END=%d", key, ports[j].Num()))
		i = j
	}
	for _, p := range ports {
		key := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.Num(), strings.ToUpper(string(p.Proto())))
		env = append(env, key+"="+url(p), key+"_ADDR="+l.address.String(), fmt.Sprintf("%s_PORT=%d", key, p.Num()), key+"_PROTO="+string(p.Proto()))
	}
	env = append(env, prefix+"_NAME="+name)
	for _, v := range l.config.Env {
		if key, _, ok := strings.Cut(v, "="); ok && key != "HOME" && key != "PATH" {
			env = append(env, prefix+"_ENV_"+v)
		}
	}
	return env
}

// order puts TCP first among the protocols of one port.
func order(p mnet.Port) string {
	if p.Proto() == "tcp" {
		return ""
	}
	return string(p.Proto())
}

// relink tells those that run and link to a container of its new address.
func (s *Service) relink(c *entry) {
	for _, other := range s.all() {
		other.mu.Lock()
		hc, alive := other.rec.HostConfig, other.st.alive()
		other.mu.Unlock()
		if other == c || !alive {
			continue
		}
		for _, text := range linksOf(hc) {
			alias, ok := strings.CutPrefix(text, c.id+":")
			if !ok {
				continue
			}
			c.mu.Lock()
			l := linkTo(alias, &c.rec, &c.st)
			c.mu.Unlock()
			if err := rewrite(other.files().hosts, l.line); err != nil {
				s.log.Error("a linked container's address is not told", "container", other.id, "linked", c.id, "err", err)
			}
		}
	}
}

// line puts the address into the line of a hosts file that begins with the alias.
func (l link) line(b []byte) []byte {
	if !l.address.IsValid() {
		return b
	}
	var out []byte
	for line := range bytes.Lines(b) {
		_, names, ok := strings.Cut(string(line), "\t")
		if first, _, _ := strings.Cut(strings.TrimSpace(names), " "); ok && first == l.alias {
			line = fmt.Appendf(nil, "%s\t%s\n", l.address, strings.Join(l.names, " "))
		}
		out = append(out, line...)
	}
	return out
}

// shownLinks are a container's links as inspect shows them.
func (s *Service) shownLinks(rec *record) []string {
	if rec.HostConfig.NetworkMode.IsUserDefined() {
		return rec.HostConfig.Links
	}
	var list []string
	for _, l := range s.eachLink(rec) {
		list = append(list, "/"+l.name+":/"+rec.Name+"/"+l.alias)
	}
	return list
}

// removeLink forgets the link PARENT/ALIAS; who runs keeps what it was told.
func (s *Service) removeLink(ref string) error {
	parent, alias := path.Split(strings.TrimPrefix(ref, "/"))
	if parent == "" {
		return conflict("Conflict, cannot remove the default link name of the container")
	}
	notFound := errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	c, err := s.find(strings.TrimSuffix(parent, "/"))
	if err != nil {
		return notFound
	}
	if err := s.acquire(context.Background(), c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	hc := *rec.HostConfig
	hc.Links = slices.DeleteFunc(slices.Clone(linksOf(&hc)), func(l string) bool { return strings.HasSuffix(l, ":"+alias) })
	if len(hc.Links) == len(linksOf(rec.HostConfig)) {
		return notFound
	}
	rec.HostConfig = &hc
	if err := s.writeRecord(c, &rec); err != nil {
		return err
	}
	c.mu.Lock()
	c.rec = rec
	c.mu.Unlock()
	return nil
}

// linkNames are the further names that links give containers, by id.
func linkNames(views []view) map[string][]string {
	names := map[string][]string{}
	for _, v := range views {
		for _, l := range linksOf(v.rec.HostConfig) {
			cid, alias, _ := strings.Cut(l, ":")
			names[cid] = append(names[cid], "/"+v.rec.Name+"/"+alias)
		}
	}
	for _, list := range names {
		slices.Sort(list)
	}
	return names
}
