package project

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"
)

// start starts every service behind its gates.
func (u *up) start(ctx context.Context) error {
	return u.startGraph(ctx, u.graph, u.have, func(string) bool { return true }, u.report)
}

// startGraph visits the services in the order of their dependencies: waits for the
// gates, then starts those containers that wanted names.
func (s *Service) startGraph(ctx context.Context, g *graph, have map[string][]member, wanted func(service string) bool, r *reporter) error {
	return g.up(ctx, func(ctx context.Context, name string) error {
		if !wanted(name) {
			return nil
		}
		toStart := slices.DeleteFunc(slices.Clone(have[name]), func(m member) bool {
			return m.State == "running" || m.State == "paused" || m.State == "restarting"
		})
		if len(toStart) == 0 {
			return nil
		}
		eg, egctx := errgroup.WithContext(ctx)
		for dep, how := range g.deps[name] {
			eg.Go(func() error { return s.gate(egctx, name, dep, how, have[dep], r) })
		}
		if err := eg.Wait(); err != nil {
			return err
		}
		return s.startAll(ctx, toStart, r)
	})
}

func (s *Service) startAll(ctx context.Context, ms []member, r *reporter) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, m := range ms {
		eg.Go(func() error {
			return r.around(m.id(), "Starting", "Started", func() error {
				err := s.containers.Start(ctx, m.ID)
				if errdefs.IsNotModified(err) {
					return nil
				}
				return err
			})
		})
	}
	return eg.Wait()
}

// waitAll is up --wait: every service running or healthy, those that others want
// completed, completed.
func (s *Service) waitAll(ctx context.Context, g *graph, have map[string][]member, timeout time.Duration, r *reporter) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	completes := map[string]bool{}
	for _, deps := range g.deps {
		for dep, how := range deps {
			completes[dep] = completes[dep] || how.Condition == conditionCompleted
		}
	}
	eg, egctx := errgroup.WithContext(ctx)
	for _, name := range g.names {
		condition := conditionRunningOrHealthy
		if completes[name] {
			condition = conditionCompleted
		}
		eg.Go(func() error {
			if len(have[name]) == 0 {
				return nil
			}
			return s.gateWait(egctx, name, condition, have[name], r)
		})
	}
	err := eg.Wait()
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return own(nil, "application not healthy after %s", timeout)
	}
	return err
}

func (s *Service) gateWait(ctx context.Context, name, condition string, ms []member, r *reporter) error {
	err := s.await(ctx, condition, ms, r)
	var exit *exitError
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case errors.As(err, &exit):
		return own(nil, "%s", gateReason(name, condition, err))
	default:
		return err
	}
}
