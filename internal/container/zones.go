package container

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"muelle/internal/network"
	"muelle/internal/runtime"
)

// FollowZones makes the published ports of running containers lead where they would after
// a restart, once the zone of a network has changed.
func (s *Service) FollowZones(ctx context.Context) error {
	var errs []error
	for _, id := range s.o.Networks.Displaced() {
		c, err := s.find(id)
		if err != nil {
			continue // it has just ended
		}
		again := func(ctx context.Context, task runtime.Task) (*network.Change, error) {
			return s.o.Networks.Republish(ctx, c.id, task)
		}
		if err := s.changeEndpoints(ctx, c, func(*record) error { return nil }, again, again); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("move the published ports of container %s: %w", id, err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return s.o.Networks.ZonesFollowed()
}

// finishZones moves the published ports that a daemon was killed before it had moved them.
func (s *Service) finishZones(ctx context.Context, tasks map[*entry]runtime.Task) {
	list := s.o.Networks.Unfollowed()
	for _, id := range list {
		c := s.byID[id]
		if c == nil || tasks[c] == nil {
			continue
		}
		if err := s.mendNetwork(ctx, c, tasks[c]); err != nil {
			s.log.Error("published ports do not follow a changed zone", "container", id, "err", err)
		}
	}
	if err := s.o.Networks.ZonesFollowed(); err != nil {
		s.log.Error("take note that published ports have followed their zones", "err", err)
	}
}
