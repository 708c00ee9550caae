package network

import (
	"context"
	"slices"

	"github.com/containerd/errdefs"

	"muelle/internal/netdriver"
	"muelle/internal/step"
)

// leading is the endpoint that the published ports lead to at this moment, or nil.
func (sb *sandbox) leading() *endpoint {
	for _, e := range sb.endpoints {
		own := targetsOf(e)
		if slices.ContainsFunc(sb.mappings, func(m netdriver.Mapping) bool {
			return len(m.Targets) > 0 && (m.Targets[0].Addr() == own.v4 || m.Targets[0].Addr() == own.v6)
		}) {
			return e
		}
	}
	return nil
}

// asks tells whether a container asks to publish ports.
func (sb *sandbox) asks() bool {
	return len(sb.spec.Ports) > 0 || sb.spec.PublishAll && len(sb.spec.Exposed) > 0
}

// Displaced are the containers whose published ports lead elsewhere than they would
// after a restart, or are not published although they could be: a zone was changed.
func (s *Service) Displaced() (ids []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, sb := range s.sandboxes {
		if to := sb.publisher(); sb.asks() && sb.ns != nil && sb.leading() != to && (targetsOf(to).valid() || sb.leading() != nil) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Republish makes the published ports of a running container lead where they would after
// a restart: through another network, or nowhere where every zone of it publishes
// nothing. On error nothing has changed.
func (s *Service) Republish(ctx context.Context, containerID string, keeper Keeper) (*Change, error) {
	s.mu.RLock()
	sb := s.sandboxes[containerID]
	s.mu.RUnlock()
	if sb == nil || sb.ns == nil {
		return nil, errdefs.ErrFailedPrecondition.WithMessage("container " + containerID + " has no network of its own")
	}
	c := &connection{s: s, sb: sb, keeper: keeper, out: &Change{}, before: sb.way(), after: sb.way()}
	c.published, c.publishes = sb.leading(), sb.publisher()
	err := step.Run(ctx,
		step.Step{Name: "answers", Do: func(context.Context) error { return s.answerBy(sb, c.publishes, c.after) }},
		step.Step{Name: "ports", Do: c.movePorts, Undo: c.portsBack},
	)
	if err != nil {
		return nil, err
	}
	c.finishPorts()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.settle()
	return c.out, nil
}
