package container

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/events"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
)

// watchOOM tells of kills for lack of memory when they happen, also of processes
// without which the container goes on. Only a container with a limit has them.
func (s *Service) watchOOM(c *entry, task runtime.Task) {
	rec, _ := c.snapshot()
	if rec.HostConfig.Memory == 0 {
		return
	}
	s.background(func() {
		ctx, cancel := context.WithCancel(s.ctx)
		waited := make(chan struct{})
		go func() {
			defer close(waited)
			_, _ = task.Wait(ctx)
			cancel()
		}()
		defer func() { cancel(); <-waited }()
		g, err := cgroup.Open(s.group(c))
		if err == nil {
			err = g.WatchOOM(ctx, func() { s.oomKilled(c, task) })
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			s.log.Debug("watch for lack of memory", "container", c.id, "err", err)
		}
	})
}

// oomKilled records and tells that a process of the run was killed. Once the run has
// ended that is its end's business.
func (s *Service) oomKilled(c *entry, task runtime.Task) {
	c.mu.Lock()
	if c.task != task || c.ending == task {
		c.mu.Unlock()
		return
	}
	c.st.OOMKilled = true
	s.save(c)
	c.mu.Unlock()
	s.event(c, events.ActionOOM, nil)
}
