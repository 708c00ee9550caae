package project

import (
	"context"
	"errors"
	"slices"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"golang.org/x/sync/errgroup"

	"muelle/api"
)

// boot starts what the daemon's start left to this package: containers of projects
// that their restart policy wants, each project in the order of its dependencies
// and through the gates. Nothing is created or recreated.
func (s *Service) boot(ctx context.Context, pending []string) {
	if len(pending) == 0 {
		return
	}
	all, err := s.members(ctx, "")
	if err != nil {
		s.log.Error("find the projects to start", "err", err)
		return
	}
	projects := map[string][]member{}
	for _, m := range all {
		name := m.Labels[api.LabelProject]
		projects[name] = append(projects[name], m)
	}
	var eg errgroup.Group
	for _, name := range sortedKeys(projects) {
		eg.Go(func() error {
			s.bootProject(ctx, name, projects[name], pending)
			return nil
		})
	}
	_ = eg.Wait()
}

func (s *Service) bootProject(ctx context.Context, name string, ms []member, pending []string) {
	log := s.log.With("project", name)
	isPending := func(m member) bool { return slices.Contains(pending, m.ID) }
	if !slices.ContainsFunc(ms, isPending) {
		return
	}
	groups := byService(ms)
	g, err := labelGraph(groups)
	if err != nil {
		log.Error("start project without order", "err", err)
		g = &graph{names: sortedKeys(groups), deps: map[string]map[string]api.ProjectDependency{}}
	}
	err = g.up(ctx, func(ctx context.Context, service string) error {
		for dep, how := range g.deps[service] {
			comes := slices.DeleteFunc(slices.Clone(groups[dep]), func(m member) bool { return !m.running() && !isPending(m) && how.Condition != conditionCompleted })
			if err := s.bootGate(ctx, how.Condition, comes); err != nil {
				log.Warn("service starts without its dependency", "service", service, "dependency", dep, "err", err)
			}
		}
		for _, m := range groups[service] {
			if !isPending(m) {
				continue
			}
			if err := s.containers.Start(ctx, m.ID); err != nil && !errdefs.IsNotModified(err) {
				// The others of the project come up all the same, as after a reboot with Docker.
				log.Error("start container", "container", m.ID, "err", err)
			}
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Error("start project", "err", err)
	}
}

// bootGate waits until every container meets the condition. Unlike at up, one that
// is unhealthy now may become healthy later; only one that ended or will not be
// started gives up.
func (s *Service) bootGate(ctx context.Context, condition string, ms []member) error {
	if condition == conditionStarted || condition == "" {
		return nil
	}
	eg, ctx := errgroup.WithContext(ctx)
	for _, m := range ms {
		eg.Go(func() error {
			return s.containers.AwaitState(ctx, m.ID, func(st *ctypes.State) (bool, error) {
				ok, err := holds(condition, m.name, st)
				if err != nil && condition == conditionHealthy && st.Health != nil && st.Health.Status == ctypes.Unhealthy {
					return false, nil
				}
				return ok, err
			})
		})
	}
	return eg.Wait()
}
