package network

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"muelle/internal/netdriver"
)

// sharing knows the ports that replicas of a service share, and who takes part.
type sharing struct {
	mu    sync.Mutex
	ports map[portKey][]replica // in the order in which they came
	// ready by container
	ready map[string]readiness
}

// portKey is a published port of the host.
type portKey struct {
	protocol string
	host     netip.AddrPort
}

// replica is one container behind a shared port.
type replica struct {
	container string
	target    netip.AddrPort
}

// readiness orders replicas: new connections go to the readiest only.
type readiness int

const (
	leaving readiness = iota - 2
	notReady
	isReady
)

func newSharing() *sharing {
	return &sharing{ports: map[portKey][]replica{}, ready: map[string]readiness{}}
}

// owner is the name under which a container shares ports; empty: it shares none.
func (sb *sandbox) owner() string {
	if sb.spec.Project == "" || sb.spec.Service == "" {
		return ""
	}
	return sb.spec.Project + "/" + sb.spec.Service
}

// lead makes published ports lead to a container; those that it shares to its
// service's other replicas too.
func (s *Service) lead(ctx context.Context, sb *sandbox, list []netdriver.Mapping) error {
	if len(list) == 0 {
		return nil
	}
	if sb.owner() == "" {
		return s.bridge.Publish(ctx, list)
	}
	sh := s.sharing
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, m := range list {
		key := portKey{m.Protocol, m.Host}
		sh.ports[key] = append(sh.ports[key], replica{sb.id, m.Targets[0]})
	}
	err := s.bridge.Publish(ctx, sh.spread(list))
	if err != nil {
		sh.remove(sb.id, list)
	}
	return err
}

// unlead ends that. In cut, the container goes on: when it returns no connection
// through the ports leads to it any more.
func (s *Service) unlead(ctx context.Context, sb *sandbox, list []netdriver.Mapping, cut bool) {
	rest := list
	if sb.owner() != "" && len(list) > 0 {
		sh := s.sharing
		sh.mu.Lock()
		defer sh.mu.Unlock()
		last := sh.targets(list)
		sh.remove(sb.id, list)
		left := sh.spread(list)
		if err := s.bridge.Publish(ctx, left); err != nil {
			s.log.Error("shared ports still lead to a container that has left", "container", sb.id, "err", err)
		}
		rest = nil
		for i, m := range list {
			if !slices.ContainsFunc(left, m.Same) {
				m.Targets = last[i]
				rest = append(rest, m)
			} else if cut {
				s.bridge.Cut([]netdriver.Mapping{m})
			}
		}
	}
	if cut {
		s.bridge.Withdraw(rest)
	} else {
		s.bridge.Unpublish(rest)
	}
}

// spread gives those of the mappings that have a replica, with all targets that new
// connections go to. The order of a list is kept. Called with the lock held.
func (sh *sharing) spread(list []netdriver.Mapping) (out []netdriver.Mapping) {
	for i, targets := range sh.targets(list) {
		if len(targets) > 0 {
			out = append(out, netdriver.Mapping{Protocol: list[i].Protocol, Host: list[i].Host, Targets: targets})
		}
	}
	return out
}

// targets are the readiest replicas of each mapping: where none is healthy, all are
// asked rather than none.
func (sh *sharing) targets(list []netdriver.Mapping) [][]netip.AddrPort {
	out := make([][]netip.AddrPort, len(list))
	for i, m := range list {
		best := leaving
		for _, r := range sh.ports[portKey{m.Protocol, m.Host}] {
			switch ready := sh.ready[r.container]; {
			case ready > best:
				best, out[i] = ready, []netip.AddrPort{r.target}
			case ready == best:
				out[i] = append(out[i], r.target)
			}
		}
	}
	return out
}

func (sh *sharing) remove(container string, list []netdriver.Mapping) {
	for _, m := range list {
		key := portKey{m.Protocol, m.Host}
		rest := slices.DeleteFunc(slices.Clone(sh.ports[key]), func(r replica) bool {
			return r.container == container && r.target == m.Targets[0]
		})
		if sh.ports[key] = rest; len(rest) == 0 {
			delete(sh.ports, key)
		}
	}
}

// SetReady says whether a container can take new connections by a name or through a port
// that it shares with others: one that runs and has no health check, or is healthy. While
// none of them is, all get their share. Until the first call the container is what its
// SandboxSpec said; after Drain, none counts.
func (s *Service) SetReady(containerID string, ready bool) error {
	if ready {
		return s.setReadiness(containerID, isReady)
	}
	return s.setReadiness(containerID, notReady)
}

// Drain gives a container that is about to be stopped no new connections through shared
// ports, as long as there are other replicas.
func (s *Service) Drain(containerID string) error { return s.setReadiness(containerID, leaving) }

func (s *Service) setReadiness(containerID string, to readiness) error {
	s.mu.RLock()
	if sb := s.sandboxes[containerID]; sb != nil && readiness(sb.readiness.Load()) != leaving {
		sb.readiness.Store(int32(to))
	}
	s.mu.RUnlock()
	sh := s.sharing
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before, shares := sh.ready[containerID]
	if !shares || before == to || before == leaving {
		return nil
	}
	sh.ready[containerID] = to
	var list []netdriver.Mapping
	for key, replicas := range sh.ports {
		if len(replicas) > 1 && slices.ContainsFunc(replicas, func(r replica) bool { return r.container == containerID }) {
			list = append(list, netdriver.Mapping{Protocol: key.protocol, Host: key.host})
		}
	}
	return s.bridge.Publish(context.Background(), sh.spread(list))
}

// join takes note of a container that may share ports, leave forgets it.
func (sh *sharing) join(sb *sandbox) {
	if sb.owner() == "" {
		return
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.ready[sb.id] = notReady
	if sb.spec.Ready {
		sh.ready[sb.id] = isReady
	}
}

func (sh *sharing) leave(sb *sandbox) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.ready, sb.id)
}
