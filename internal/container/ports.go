package container

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	mnet "github.com/moby/moby/api/types/network"
)

// UpdatePorts publishes ports of a container and takes others back: at once where
// it runs, without a restart, and for its next starts. A binding in drop without a
// host port means all of that container port; one without an address, those of any
// address. The answer is what inspect shows as NetworkSettings.Ports. After an error
// nothing has changed.
func (s *Service) UpdatePorts(ctx context.Context, ref string, add, drop mnet.PortMap) (mnet.PortMap, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	if err := s.acquire(ctx, c); err != nil {
		return nil, err
	}
	defer c.op.release()
	rec, st := c.snapshot()
	c.mu.Lock()
	task, removing := c.task, c.removing || c.removed
	c.mu.Unlock()
	if removing {
		return nil, conflict("Cannot update container %s: container is marked for removal and cannot be \"update\".", c.id)
	}
	if mode := rec.HostConfig.NetworkMode; mode.IsHost() || mode.IsNone() || mode.IsContainer() {
		return nil, invalid("container %s has the network mode %s: it has no ports of its own to publish", rec.Name, mode)
	}
	live := st.alive() && task != nil
	change, err := newPortChange(&rec, st.Ports, live, add, drop)
	if err != nil {
		return nil, err
	}
	if !live {
		return nil, s.savePorts(c, change)
	}
	defer s.changing(c)()
	shown, err := s.o.Networks.ChangePorts(ctx, c.id, add, change.dropped, task)
	if err != nil {
		return nil, err
	}
	if err := s.savePorts(c, change); err != nil {
		return nil, s.revertPorts(ctx, c, st.Ports, shown, err)
	}
	c.mu.Lock()
	c.st.Ports = shown
	s.save(c)
	c.mu.Unlock()
	return shown, nil
}

// savePorts writes the record and tells of it.
func (s *Service) savePorts(c *entry, change *portChange) error {
	c.mu.Lock()
	rec := c.rec
	c.mu.Unlock()
	cfg, hc := *rec.Config, *rec.HostConfig
	cfg.ExposedPorts, hc.PortBindings, hc.PublishAllPorts = change.exposed, change.bindings, change.all
	rec.Config, rec.HostConfig = &cfg, &hc
	if err := s.writeRecord(c, &rec); err != nil {
		return err
	}
	c.mu.Lock()
	c.rec = rec
	c.mu.Unlock()
	s.o.Networks.Asked(c.id, hc.PortBindings, cfg.ExposedPorts, hc.PublishAllPorts)
	s.event(c, events.ActionUpdate, nil)
	return nil
}

// revertPorts puts back what could not be recorded.
func (s *Service) revertPorts(ctx context.Context, c *entry, before, after mnet.PortMap, cause error) error {
	c.mu.Lock()
	task := c.task
	c.mu.Unlock()
	add, drop := difference(before, after), difference(after, before)
	if _, err := s.o.Networks.ChangePorts(context.WithoutCancel(ctx), c.id, add, drop, task); err != nil {
		s.log.Error("put published ports back", "container", c.id, "err", err)
	}
	return cause
}

// difference is what a has and b has not.
func difference(a, b mnet.PortMap) mnet.PortMap {
	m := mnet.PortMap{}
	for p, bindings := range a {
		for _, x := range bindings {
			if !slices.Contains(b[p], x) {
				m[p] = append(m[p], x)
			}
		}
	}
	return m
}

// portChange is what a container's record says afterwards, and which of the
// bindings that are in force go.
type portChange struct {
	exposed  mnet.PortSet
	bindings mnet.PortMap
	all      bool
	dropped  mnet.PortMap
}

func newPortChange(rec *record, shown mnet.PortMap, live bool, add, drop mnet.PortMap) (*portChange, error) {
	cfg, hc := rec.Config, rec.HostConfig
	ch := &portChange{exposed: maps.Clone(cfg.ExposedPorts), bindings: mnet.PortMap{}, all: hc.PublishAllPorts, dropped: mnet.PortMap{}}
	if ch.exposed == nil {
		ch.exposed = mnet.PortSet{}
	}
	for p, list := range hc.PortBindings {
		ch.bindings[p] = slices.Clone(list)
	}
	if ch.all && len(drop) > 0 {
		// From now on the ports are named one by one: at its next start the image's are
		// not all published again.
		ch.all = false
		for p := range ch.exposed {
			if len(ch.bindings[p]) == 0 {
				ch.bindings[p] = []mnet.PortBinding{{}}
			}
		}
	}
	for p, list := range drop {
		for _, d := range list {
			if err := ch.drop(rec.Name, p, d, shown, live); err != nil {
				return nil, err
			}
		}
	}
	for p, list := range add {
		ch.exposed[p] = struct{}{}
		for _, b := range list {
			if b.HostPort != "" && slices.Contains(ch.bindings[p], b) {
				return nil, conflict("container %s publishes %s already", rec.Name, describe(p, b))
			}
			ch.bindings[p] = append(ch.bindings[p], b)
		}
	}
	return ch, nil
}

// drop takes a binding out of what is asked for at each start, and lists those in
// force that it means.
func (ch *portChange) drop(name string, p mnet.Port, d mnet.PortBinding, shown mnet.PortMap, live bool) error {
	var hit []mnet.PortBinding
	if live {
		for _, b := range shown[p] {
			if means(d, b) {
				hit = append(hit, b)
			}
		}
	}
	before := len(ch.bindings[p])
	ch.bindings[p] = slices.DeleteFunc(ch.bindings[p], func(b mnet.PortBinding) bool { return means(d, b) })
	if len(ch.bindings[p]) == before && len(hit) > 0 {
		// It was chosen by the engine, from a range or from all.
		if i := slices.IndexFunc(ch.bindings[p], func(b mnet.PortBinding) bool { return allows(b, d) }); i >= 0 {
			ch.bindings[p] = slices.Delete(ch.bindings[p], i, i+1)
		}
	}
	if len(hit) == 0 && len(ch.bindings[p]) == before {
		return errdefs.ErrInvalidArgument.WithMessage("container " + name + " does not publish " + describe(p, d) + publishedText(shown, ch.bindings, live))
	}
	if len(ch.bindings[p]) == 0 {
		delete(ch.bindings, p)
	}
	for _, b := range hit {
		if !slices.Contains(ch.dropped[p], b) {
			ch.dropped[p] = append(ch.dropped[p], b)
		}
	}
	return nil
}

// means tells whether a binding is one of those that d names.
func means(d, b mnet.PortBinding) bool {
	if d.HostIP.IsValid() && d.HostIP.Unmap() != b.HostIP.Unmap() {
		return false
	}
	return d.HostPort == "" || d.HostPort == b.HostPort
}

// allows tells whether a request may have been served by the port that d names.
func allows(b, d mnet.PortBinding) bool {
	if b.HostPort == "" || b.HostPort == "0" {
		return true
	}
	first, last, ok := strings.Cut(b.HostPort, "-")
	from, err := strconv.Atoi(first)
	to, err2 := strconv.Atoi(last)
	n, err3 := strconv.Atoi(d.HostPort)
	return ok && err == nil && err2 == nil && err3 == nil && from <= n && n <= to
}

func describe(p mnet.Port, b mnet.PortBinding) string {
	text := p.String()
	if b.HostPort != "" {
		text = b.HostPort + ":" + text
	}
	if b.HostIP.IsValid() {
		text = strings.TrimSuffix(netip.AddrPortFrom(b.HostIP, 0).String(), "0") + text
	}
	return text
}

// publishedText words what there is, for who asked for something else.
func publishedText(shown, bindings mnet.PortMap, live bool) string {
	m := bindings
	if live {
		m = shown
	}
	var list []string
	for p, bs := range m {
		for _, b := range bs {
			list = append(list, describe(p, b))
		}
	}
	if len(list) == 0 {
		return ": it publishes nothing"
	}
	slices.Sort(list)
	return ": it publishes " + strings.Join(list, ", ")
}
