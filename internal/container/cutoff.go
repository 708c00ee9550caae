package container

import (
	"context"
	"errors"

	mnet "github.com/moby/moby/api/types/network"

	"muelle/internal/network"
	"muelle/internal/runtime"
)

// changing notes that what a running container is attached to, or publishes, is not
// what its record says, until the function that it returns is called: a daemon that is
// killed in between leaves the note to the next.
func (s *Service) changing(c *entry) (done func()) {
	note := func(on bool) {
		c.mu.Lock()
		c.st.Changing = on
		s.save(c)
		c.mu.Unlock()
	}
	note(true)
	return func() { note(false) }
}

// settled divides the endpoints of a run that was being changed: those of the networks
// that the record names, and the rest.
func (st *state) settled(rec *record) (kept, gone endpointMap) {
	kept, gone = endpointMap{}, endpointMap{}
	for name, e := range st.Endpoints {
		if _, ok := rec.Endpoints[name]; ok {
			kept[name] = e
		} else {
			gone[name] = e
		}
	}
	return kept, gone
}

// mendNetwork makes a running container's networks and ports what its record says: the
// daemon before was killed while it changed them.
func (s *Service) mendNetwork(ctx context.Context, c *entry, task runtime.Task) error {
	kept, gone := c.st.settled(&c.rec)
	if task.Pid() == 0 || c.rec.HostConfig.NetworkMode.IsContainer() {
		return nil // it has ended since, and its networks with it
	}
	ch, err := s.o.Networks.Mend(ctx, c.id, gone, task)
	if ch != nil {
		err = errors.Join(err, s.connected(c, ch))
	}
	for name, settings := range c.rec.Endpoints {
		if kept[name] != nil || name == mnet.NetworkNone || name == mnet.NetworkHost {
			continue
		}
		var further *network.Change
		var e error
		if further, e = s.o.Networks.Connect(ctx, name, c.id, settings, task); e == nil {
			e = s.connected(c, further)
		}
		err = errors.Join(err, e)
	}
	return err
}
