package container

import (
	"maps"

	"github.com/moby/moby/api/types/events"
)

// event publishes what happened to a container with Docker's attributes: its
// labels, image and name, and what belongs to the action.
func (s *Service) event(c *entry, action events.Action, extra map[string]string) {
	c.mu.Lock()
	cfg, name := c.rec.Config, c.rec.Name
	c.mu.Unlock()
	attrs := make(map[string]string, len(cfg.Labels)+len(extra)+2)
	maps.Copy(attrs, cfg.Labels)
	attrs["image"], attrs["name"] = cfg.Image, name
	maps.Copy(attrs, extra)
	s.o.Bus.Publish(events.ContainerEventType, action, c.id, attrs)
}
