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
	return errors.Join(errs...)
}
