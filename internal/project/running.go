package project

import (
	"context"
	"fmt"
	"sync"

	"github.com/containerd/errdefs"
)

// running are the ups under way. A stop or down of what an up is starting ends that
// up first: else it would start containers behind the stop's back.
type running struct {
	mu  sync.Mutex
	ups map[*upUnderWay]struct{}
}

type upUnderWay struct {
	project  string
	services map[string]bool
	cancel   context.CancelCauseFunc
	done     chan struct{}
}

// begin registers an up until end is called.
func (r *running) begin(ctx context.Context, project string, services map[string]bool) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	u := &upUnderWay{project: project, services: services, cancel: cancel, done: make(chan struct{})}
	r.mu.Lock()
	if r.ups == nil {
		r.ups = map[*upUnderWay]struct{}{}
	}
	r.ups[u] = struct{}{}
	r.mu.Unlock()
	return ctx, func() {
		r.mu.Lock()
		delete(r.ups, u)
		r.mu.Unlock()
		cancel(nil)
		close(u.done)
	}
}

// end ends the ups of which every service is among those given (none given: all),
// and waits for them.
func (r *running) end(ctx context.Context, project, verb string, services []string) error {
	r.mu.Lock()
	var ended []*upUnderWay
	for u := range r.ups {
		covered := u.project == project
		for name := range u.services {
			covered = covered && selected(services, name)
		}
		if covered {
			u.cancel(errdefs.ErrAborted.WithMessage(fmt.Sprintf("up of project %s was ended by %s", project, verb)))
			ended = append(ended, u)
		}
	}
	r.mu.Unlock()
	for _, u := range ended {
		select {
		case <-u.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
