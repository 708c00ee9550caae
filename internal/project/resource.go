package project

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/filter"
	"muelle/internal/policy"
)

// ensureNetworks makes what is missing, checks what is external, and makes anew
// what differs from its definition; the containers on such a network are taken away
// first and count as to be recreated.
func (u *up) ensureNetworks(ctx context.Context) error {
	all, err := u.networks.List(ctx, filter.Args{})
	if err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	eg, ctx := errgroup.WithContext(ctx)
	ids := make([]string, len(u.spec.Networks))
	for i, n := range u.spec.Networks {
		u.network[n.Key] = n.Name
		eg.Go(func() (err error) {
			ids[i], err = u.ensureNetwork(ctx, n, all)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	for i, n := range u.spec.Networks {
		u.networkID[n.Key] = ids[i]
	}
	return nil
}

func (u *up) ensureNetwork(ctx context.Context, n api.ProjectNetwork, all []network.Summary) (string, error) {
	if n.External {
		for _, have := range all {
			if have.Name == n.Name || have.ID == n.Name {
				return have.ID, nil
			}
		}
		return "", own(errdefs.ErrNotFound, "network %s declared as external, but could not be found", n.Name)
	}
	have := findNetwork(all, u.spec.Name, n)
	if have == nil {
		return u.createNetwork(ctx, n)
	}
	if have.Labels[api.LabelProject] != u.spec.Name {
		u.report.warn(foreign("a network with name "+n.Name+" exists but was not created", have.Labels[api.LabelProject], u.spec.Name) +
			".\nSet `external: true` to use an existing network")
		return have.ID, nil
	}
	if hash := have.Labels[api.LabelConfigHash]; hash == "" || hash == n.ConfigHash {
		return have.ID, u.ensureZone(ctx, n, have.Network)
	}
	if err := u.vacate(ctx, have.Network); err != nil {
		return "", err
	}
	return u.createNetwork(ctx, n)
}

// findNetwork prefers the project's network of that key and name, then any of that
// name, then the project's of that key under an older name.
func findNetwork(all []network.Summary, project string, n api.ProjectNetwork) *network.Summary {
	var byName, byKey *network.Summary
	for i, have := range all {
		ours := have.Labels[api.LabelProject] == project && have.Labels[api.LabelNetwork] == n.Key
		switch {
		case ours && have.Name == n.Name:
			return &all[i]
		case have.Name == n.Name:
			byName = &all[i]
		case ours && (byKey == nil || have.Name < byKey.Name):
			byKey = &all[i]
		}
	}
	if byName != nil {
		return byName
	}
	return byKey
}

func foreign(what, owner, project string) string {
	if owner == "" {
		return what + " by compose"
	}
	return fmt.Sprintf("%s for project %q", what, project)
}

func (u *up) createNetwork(ctx context.Context, n api.ProjectNetwork) (id string, err error) {
	err = u.report.around("Network "+n.Name, "Creating", "Created", func() error {
		req := n.Create
		req.Name = n.Name
		if n.Zone != nil {
			req.Options = policy.ToOptions(req.Options, *n.Zone)
		}
		req.Labels = merge(n.Create.Labels, map[string]string{
			api.LabelNetwork:        n.Key,
			api.LabelProject:        u.spec.Name,
			api.LabelComposeVersion: api.ComposeVersion,
			api.LabelConfigHash:     n.ConfigHash,
		})
		res, err := u.networks.Create(ctx, req)
		id = res.ID
		if err != nil {
			return fmt.Errorf("failed to create network %s: %w", n.Name, err)
		}
		return nil
	})
	return id, err
}

// vacate removes a network whose definition changed, after the project's containers
// on it.
func (u *up) vacate(ctx context.Context, n network.Network) error {
	var on []member
	for _, ms := range u.have {
		for _, m := range ms {
			if m.NetworkSettings != nil && m.NetworkSettings.Networks[n.Name] != nil {
				on = append(on, m)
			}
		}
	}
	eg, egctx := errgroup.WithContext(ctx)
	for _, m := range on {
		eg.Go(func() error {
			u.mu.Lock()
			taken := u.gone[m.ID]
			u.gone[m.ID] = true
			u.mu.Unlock()
			if taken {
				return nil
			}
			return u.stopAndRemove(egctx, m, u.o.Timeout, false, u.report)
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	return u.report.around("Network "+n.Name, "Removing", "Removed", func() error { return u.networks.Remove(ctx, n.ID) })
}

// ensureVolumes makes what is missing and checks what is external. A volume whose
// definition changed stays: it holds data.
func (u *up) ensureVolumes(ctx context.Context) error {
	if len(u.spec.Volumes) == 0 {
		return nil
	}
	all, err := u.volumes.List(ctx, filter.Args{})
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	eg, ctx := errgroup.WithContext(ctx)
	for _, v := range u.spec.Volumes {
		eg.Go(func() error { return u.ensureVolume(ctx, v, all) })
	}
	return eg.Wait()
}

func (u *up) ensureVolume(ctx context.Context, v api.ProjectVolume, all []volume.Volume) error {
	i := slices.IndexFunc(all, func(have volume.Volume) bool { return have.Name == v.Name })
	if i < 0 {
		if v.External {
			return own(errdefs.ErrNotFound, "external volume %q not found", v.Name)
		}
		return u.createVolume(ctx, v)
	}
	if v.External {
		return nil
	}
	labels := all[i].Labels
	owner := labels[api.LabelProject]
	switch {
	case owner == "":
		u.report.warn(fmt.Sprintf("volume %q already exists but was not created by Docker Compose. Use `external: true` to use an existing volume", v.Name))
	case owner != u.spec.Name:
		u.report.warn(fmt.Sprintf("volume %q already exists but was created for project %q (expected %q). Use `external: true` to use an existing volume", v.Name, owner, u.spec.Name))
	case labels[api.LabelConfigHash] != "" && labels[api.LabelConfigHash] != v.ConfigHash:
		u.report.warn(fmt.Sprintf("Volume %q exists but doesn't match configuration in compose file. It is used as it is: remove it (down -v; its data will be lost) to apply the new one", v.Name))
	}
	return nil
}

func (u *up) createVolume(ctx context.Context, v api.ProjectVolume) error {
	return u.report.around("Volume "+v.Name, "Creating", "Created", func() error {
		_, err := u.volumes.Create(ctx, volume.CreateRequest{
			Name: v.Name, Driver: v.Driver, DriverOpts: v.DriverOpts,
			Labels: merge(v.Labels, map[string]string{
				api.LabelVolume:         v.Key,
				api.LabelProject:        u.spec.Name,
				api.LabelComposeVersion: api.ComposeVersion,
				api.LabelConfigHash:     v.ConfigHash,
			}),
		})
		return err
	})
}

// volumesOf are the project's named volumes that a service mounts.
func (u *up) volumesOf(svc *api.ProjectService) []string {
	var names []string
	for _, v := range u.spec.Volumes {
		mounted := slices.ContainsFunc(svc.HostConfig.Binds, func(b string) bool { return strings.HasPrefix(b, v.Name+":") })
		for _, m := range svc.HostConfig.Mounts {
			mounted = mounted || m.Source == v.Name
		}
		if mounted {
			names = append(names, v.Name)
		}
	}
	return names
}

// stopAndRemove takes one container away.
func (s *Service) stopAndRemove(ctx context.Context, m member, timeout *int, volumes bool, r *reporter) error {
	if m.State == "running" || m.State == "paused" || m.State == "restarting" {
		r.working(m.id(), "Stopping")
		err := s.containers.Stop(ctx, m.ID, container.StopOptions{Timeout: timeout})
		if errdefs.IsNotFound(err) {
			r.done(m.id(), "Removed")
			return nil
		}
		if err != nil && !errdefs.IsNotModified(err) {
			r.failed(m.id(), err)
			return err
		}
		r.done(m.id(), "Stopped")
	}
	return r.around(m.id(), "Removing", "Removed", func() error {
		err := s.containers.Remove(ctx, m.ID, container.RemoveOptions{Force: true, Volumes: volumes})
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

func merge(ms ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		maps.Copy(out, m)
	}
	return out
}
