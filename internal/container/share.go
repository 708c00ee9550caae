package container

import (
	ctypes "github.com/moby/moby/api/types/container"
)

// ready tells whether a container can take its share of new connections: it runs, and
// is healthy where that is checked. mu is held.
func (c *entry) ready() bool {
	return c.st.Status == ctypes.StateRunning && (c.st.Health == nil || c.st.Health.Status == ctypes.Healthy)
}

// tellReady says so to the network, for ports that replicas share. mu is not held: the
// kernel's rules are written.
func (s *Service) tellReady(c *entry) {
	c.mu.Lock()
	ready := c.ready()
	c.mu.Unlock()
	if err := s.o.Networks.SetReady(c.id, ready); err != nil {
		s.log.Error("spread shared ports", "container", c.id, "ready", ready, "err", err)
	}
}

// drain leaves a container that is about to end to the connections that it has.
func (s *Service) drain(c *entry) {
	if err := s.o.Networks.Drain(c.id); err != nil {
		s.log.Error("spread shared ports", "container", c.id, "err", err)
	}
}
