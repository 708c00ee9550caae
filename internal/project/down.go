package project

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
)

// Down stops and removes the project's containers, dependents before what they
// depend on and unrelated ones together, then its networks and, if asked, volumes.
func (s *Service) Down(ctx context.Context, name string, o api.ProjectDownOptions, progress func(api.ProjectProgress)) error {
	if !validName.MatchString(name) {
		return own(errdefs.ErrInvalidArgument, "invalid project name %q", name)
	}
	if err := s.running.end(ctx, name, "down", o.Services); err != nil {
		return err
	}
	release, err := s.locks.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	r := newReporter(progress)
	all, err := s.members(ctx, name)
	if err != nil {
		return err
	}
	found, err := s.downContainers(ctx, all, o, r)
	if err != nil {
		return err
	}
	if len(o.Services) == 0 {
		n, err := s.downResources(ctx, name, o.Volumes, r)
		if err != nil {
			return err
		}
		found += n
	}
	if found == 0 {
		r.warn(fmt.Sprintf("No resource found to remove for project %q.", name))
	}
	return s.dropRecord(ctx, name)
}

func (s *Service) downContainers(ctx context.Context, all []member, o api.ProjectDownOptions, r *reporter) (int, error) {
	groups := map[string][]member{}
	var orphans []member
	found := 0
	for _, m := range all {
		known := o.Known == nil || slices.Contains(o.Known, m.service)
		switch {
		case m.oneOff && !o.RemoveOrphans:
		case !known && o.RemoveOrphans:
			orphans = append(orphans, m)
		case known && selected(o.Services, m.service):
			groups[m.service] = append(groups[m.service], m)
			found++
		}
	}
	g, err := labelGraph(groups)
	if err != nil {
		return 0, err
	}
	err = g.down(ctx, func(ctx context.Context, service string) error {
		return s.removeAll(ctx, groups[service], o, r)
	})
	if err != nil {
		return 0, err
	}
	return found + len(orphans), s.removeAll(ctx, orphans, o, r)
}

func (s *Service) removeAll(ctx context.Context, ms []member, o api.ProjectDownOptions, r *reporter) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, m := range ms {
		eg.Go(func() error { return s.stopAndRemove(ctx, m, o.Timeout, o.Volumes, r) })
	}
	return eg.Wait()
}

// downResources removes networks and volumes that carry the project's label. One
// that somebody else still uses is told and left.
func (s *Service) downResources(ctx context.Context, name string, volumes bool, r *reporter) (int, error) {
	label := filter.Args{"label": {api.LabelProject + "=" + name}}
	nets, err := s.networks.List(ctx, label)
	if err != nil {
		return 0, fmt.Errorf("list networks: %w", err)
	}
	found := len(nets)
	eg, ctx := errgroup.WithContext(ctx)
	for _, n := range nets {
		eg.Go(func() error {
			return removeResource("Network "+n.Name, r, func() error { return s.networks.Remove(ctx, n.ID) })
		})
	}
	if volumes {
		vols, err := s.volumes.List(ctx, label)
		if err != nil {
			return 0, errors.Join(fmt.Errorf("list volumes: %w", err), eg.Wait())
		}
		found += len(vols)
		for _, v := range vols {
			eg.Go(func() error {
				return removeResource("Volume "+v.Name, r, func() error { return s.volumes.Remove(ctx, v.Name, true) })
			})
		}
	}
	return found, eg.Wait()
}

func removeResource(id string, r *reporter, remove func() error) error {
	r.working(id, "Removing")
	err := remove()
	switch {
	case err == nil, errdefs.IsNotFound(err):
		r.done(id, "Removed")
		return nil
	case errdefs.IsConflict(err), errdefs.IsFailedPrecondition(err), errdefs.IsPermissionDenied(err):
		// Docker answers 403 for a network with active endpoints.
		r.done(id, "Resource is still in use")
		return nil
	default:
		r.failed(id, err)
		return err
	}
}

// Start starts the project's containers in order, through the gates.
func (s *Service) Start(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error {
	r := newReporter(progress)
	return r.finish(s.startProject(ctx, name, o, r))
}

func (s *Service) startProject(ctx context.Context, name string, o api.ProjectActionOptions, r *reporter) error {
	groups, g, err := s.groups(ctx, name, o.Services)
	if err != nil {
		return err
	}
	wanted := func(service string) bool { return selected(o.Services, service) }
	if !o.NoDeps && len(o.Services) > 0 {
		closure := g.closure(o.Services)
		wanted = func(service string) bool { return closure[service] }
	}
	if err := s.startGraph(ctx, g, groups, wanted, r); err != nil || !o.Wait {
		return err
	}
	for service := range groups {
		if !wanted(service) {
			delete(groups, service)
		}
	}
	return s.waitAll(ctx, g, groups, o.WaitTimeout, r)
}

// Stop stops them, dependents first.
func (s *Service) Stop(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error {
	r := newReporter(progress)
	return r.finish(s.stopProject(ctx, name, o, r))
}

func (s *Service) stopProject(ctx context.Context, name string, o api.ProjectActionOptions, r *reporter) error {
	if err := s.running.end(ctx, name, "stop", o.Services); err != nil {
		return err
	}
	groups, g, err := s.groups(ctx, name, o.Services)
	if err != nil {
		return err
	}
	return g.down(ctx, func(ctx context.Context, service string) error {
		if !selected(o.Services, service) {
			return nil
		}
		return s.stopAll(ctx, groups[service], o.Timeout, r)
	})
}

// Restart restarts them in order, and with them what depends on one of them with
// restart: true, unless NoDeps.
func (s *Service) Restart(ctx context.Context, name string, o api.ProjectActionOptions, progress func(api.ProjectProgress)) error {
	r := newReporter(progress)
	return r.finish(s.restartProject(ctx, name, o, r))
}

func (s *Service) restartProject(ctx context.Context, name string, o api.ProjectActionOptions, r *reporter) error {
	groups, g, err := s.groups(ctx, name, o.Services)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, service := range g.order() {
		wanted[service] = selected(o.Services, service)
		for dep, how := range g.deps[service] {
			wanted[service] = wanted[service] || !o.NoDeps && how.Restart && wanted[dep]
		}
	}
	return g.up(ctx, func(ctx context.Context, service string) error {
		if !wanted[service] {
			return nil
		}
		eg, ctx := errgroup.WithContext(ctx)
		for _, m := range groups[service] {
			eg.Go(func() error {
				return r.around(m.id(), "Restarting", "Started", func() error {
					return s.containers.Restart(ctx, m.ID, container.StopOptions{Timeout: o.Timeout})
				})
			})
		}
		return eg.Wait()
	})
}

// groups are the project's containers by service; an unknown project or service is
// NotFound.
func (s *Service) groups(ctx context.Context, name string, services []string) (map[string][]member, *graph, error) {
	all, err := s.members(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	groups := byService(all)
	if len(groups) == 0 {
		return nil, nil, own(errdefs.ErrNotFound, "no container found for project %q: not found", name)
	}
	for _, want := range services {
		if len(groups[want]) == 0 {
			return nil, nil, own(errdefs.ErrNotFound, "service %q has no container to start", want)
		}
	}
	g, err := labelGraph(groups)
	return groups, g, err
}

func (s *Service) stopAll(ctx context.Context, ms []member, timeout *int, r *reporter) error {
	eg, ctx := errgroup.WithContext(ctx)
	for _, m := range ms {
		if m.State == "exited" || m.State == "created" || m.State == "dead" {
			continue
		}
		eg.Go(func() error {
			return r.around(m.id(), "Stopping", "Stopped", func() error { return s.stopQuietly(ctx, m, timeout) })
		})
	}
	return eg.Wait()
}

// stopQuietly takes a container that is stopped or gone already as stopped.
func (s *Service) stopQuietly(ctx context.Context, m member, timeout *int) error {
	err := s.containers.Stop(ctx, m.ID, container.StopOptions{Timeout: timeout})
	if errdefs.IsNotModified(err) || errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
