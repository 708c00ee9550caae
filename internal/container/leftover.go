package container

import (
	"context"
	"slices"
)

func (s *Service) clean(ctx context.Context, c *entry) {
	if err := s.o.Runtime.Clean(ctx, c.id, c.execDir, s.group(c)); err != nil {
		s.log.Error("clean up container", "container", c.id, "err", err)
	}
}

// cleanRun cleans up what is left of a run that is not going on.
func (s *Service) cleanRun(ctx context.Context, c *entry) {
	s.clean(ctx, c)
	if err := c.unmountShm(); err != nil {
		s.log.Error("clean up container", "container", c.id, "err", err)
	}
}

// cleanLeftover finishes a creation or a removal that was cut off, or the removal of
// what went with the last boot.
func (s *Service) cleanLeftover(cid string) {
	if slices.Contains(s.broken, cid) {
		return
	}
	c := s.newEntry(cid, false)
	occupied := s.occupy(cid)
	s.background(func() {
		defer occupied()
		s.clean(s.ctx, c)
		for _, name := range c.anonymousNoted() {
			s.removeAnonymous(s.ctx, cid, name)
		}
		if err := c.removeFolders(); err != nil {
			s.log.Error("remove container's folders", "container", cid, "err", err)
		}
	})
}
