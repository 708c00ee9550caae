package project

import (
	"context"
	"errors"
	"fmt"

	ctypes "github.com/moby/moby/api/types/container"
	"golang.org/x/sync/errgroup"

	"muelle/api"
)

// Conditions of a dependency. The last is that of up --wait.
const (
	conditionStarted          = "service_started"
	conditionHealthy          = "service_healthy"
	conditionCompleted        = "service_completed_successfully"
	conditionRunningOrHealthy = "running_or_healthy"
)

// exitError is a container that ended with another code than its dependents need.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

// holds says whether a container's state meets a condition, or never will.
func holds(condition, name string, st *ctypes.State) (bool, error) {
	switch condition {
	case conditionCompleted:
		if st.Status != ctypes.StateExited {
			return false, nil
		}
		if st.ExitCode != 0 {
			return false, &exitError{st.ExitCode}
		}
		return true, nil
	case conditionHealthy, conditionRunningOrHealthy:
		return isHealthy(name, st, condition == conditionRunningOrHealthy)
	default:
		return true, nil
	}
}

func isHealthy(name string, st *ctypes.State, runningWillDo bool) (bool, error) {
	if st.Status == ctypes.StateExited || st.Status == ctypes.StateDead {
		return false, own(nil, "container %s exited (%d)", name, st.ExitCode)
	}
	if st.Health == nil || st.Health.Status == ctypes.NoHealthcheck || st.Health.Status == "" {
		if runningWillDo {
			return st.Status == ctypes.StateRunning, nil
		}
		return false, own(nil, "container %s has no healthcheck configured", name)
	}
	switch st.Health.Status {
	case ctypes.Healthy:
		return st.Status == ctypes.StateRunning, nil
	case ctypes.Unhealthy:
		return false, own(nil, "container %s is unhealthy", name)
	default:
		return false, nil
	}
}

// gate waits until a dependency meets its condition with each of its containers
// (for a completed service: with the first that ended). What an optional
// dependency fails of is a warning.
func (s *Service) gate(ctx context.Context, dependant, dep string, how api.ProjectDependency, ms []member, r *reporter) error {
	if how.Condition == conditionStarted || how.Condition == "" {
		return nil
	}
	if len(ms) == 0 {
		if how.Required {
			return own(nil, "%s is missing dependency %s", dependant, dep)
		}
		r.warn(fmt.Sprintf("%s is missing dependency %s", dependant, dep))
		return nil
	}
	err := s.await(ctx, how.Condition, ms, r)
	if err == nil || ctx.Err() != nil {
		return err
	}
	reason := gateReason(dep, how.Condition, err)
	if !how.Required {
		for _, m := range ms {
			r.done(m.id(), "Skipped optional dependency")
		}
		r.warn(fmt.Sprintf("optional dependency %q failed to start: %s", dep, reason))
		return nil
	}
	for _, m := range ms {
		r.failed(m.id(), errors.New(reason))
	}
	if how.Condition == conditionHealthy {
		return fmt.Errorf("dependency failed to start: %w", err)
	}
	return own(nil, "%s", reason)
}

func gateReason(dep, condition string, err error) string {
	var exit *exitError
	if errors.As(err, &exit) {
		return fmt.Sprintf("service %q didn't complete successfully: exit %d", dep, exit.code)
	}
	if condition == conditionHealthy {
		return fmt.Sprintf("dependency %s failed to start", dep)
	}
	return err.Error()
}

// await reports Waiting and Healthy or Exited while it waits for all of ms.
func (s *Service) await(ctx context.Context, condition string, ms []member, r *reporter) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, m := range ms {
		r.working(m.id(), "Waiting")
		eg.Go(func() error {
			err := s.containers.AwaitState(ctx, m.ID, func(st *ctypes.State) (bool, error) {
				return holds(condition, m.name, st)
			})
			if err != nil {
				return err
			}
			if condition == conditionCompleted {
				r.done(m.id(), "Exited")
			} else {
				r.done(m.id(), "Healthy")
			}
			return nil
		})
	}
	return eg.Wait()
}
