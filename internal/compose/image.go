package compose

import (
	"context"
	"maps"
	"slices"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"muelle/client"
	"muelle/internal/compose/model"
)

// ensureImages pulls what is missing or must be fresh, and builds what can be built
// and is missing or shall be built.
func (a *app) ensureImages(ctx context.Context, p *types.Project, o *upFlags) error {
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	present, err := presentImages(ctx, c, p)
	if err != nil {
		return err
	}
	var pull, build []types.ServiceConfig
	scheduled := map[string]bool{}
	for _, name := range p.ServiceNames() {
		s := p.Services[name]
		image := model.ImageName(p.Name, s)
		switch {
		case s.GetScale() == 0 && !o.build:
		case mustBuild(s, present[image], o.noBuild):
			build = append(build, s)
		case mustPull(s, present[image]) && !scheduled[image]:
			scheduled[image] = true
			pull = append(pull, s)
		}
		for _, m := range mountedImages(p, s) {
			if s.GetScale() > 0 && mustPull(m, present[m.Image]) && !scheduled[m.Image] {
				scheduled[m.Image] = true
				pull = append(pull, m)
			}
		}
	}
	if err := a.pullAll(ctx, c, p, pull, &build, o); err != nil {
		return err
	}
	if len(build) == 0 {
		return nil
	}
	return a.build(ctx, c, p, build, buildFlags{quiet: o.quietBuild})
}

// mountedImages are those that a service mounts and that none of the project is built
// as, each as a service that has nothing but it.
func mountedImages(p *types.Project, s types.ServiceConfig) (list []types.ServiceConfig) {
	for _, v := range s.Volumes {
		builds := func(o types.ServiceConfig) bool { return o.Build != nil && model.ImageName(p.Name, o) == v.Source }
		if v.Type == types.VolumeTypeImage && !slices.ContainsFunc(slices.Collect(maps.Values(p.Services)), builds) {
			one := types.ServiceConfig{Name: s.Name}
			one.Image, one.Platform, one.PullPolicy = v.Source, s.Platform, s.PullPolicy
			list = append(list, one)
		}
	}
	return list
}

// presentImages says which images of the services are there, and of those they mount.
func presentImages(ctx context.Context, c *client.Client, p *types.Project) (map[string]bool, error) {
	names := []string{}
	for _, s := range p.Services {
		for _, one := range append(mountedImages(p, s), s) {
			if name := model.ImageName(p.Name, one); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	found := make([]bool, len(names))
	eg, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		eg.Go(func() error {
			_, err := c.Images.Inspect(ctx, name)
			if errdefs.IsNotFound(err) {
				return nil
			}
			found[i] = err == nil
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	present := map[string]bool{}
	for i, name := range names {
		present[name] = found[i]
	}
	return present, nil
}

func mustBuild(s types.ServiceConfig, present, noBuild bool) bool {
	if s.Build == nil || noBuild {
		return false
	}
	switch s.PullPolicy {
	case types.PullPolicyBuild:
		return true
	case types.PullPolicyAlways:
		// Pulled where it has a name to pull by; what cannot be is built.
		return s.Image == "" && !present
	case types.PullPolicyNever:
		return !present
	default:
		// A service with a name and a build is built rather than pulled.
		return !present
	}
}

func mustPull(s types.ServiceConfig, present bool) bool {
	if s.Image == "" {
		return false
	}
	switch s.PullPolicy {
	case types.PullPolicyAlways:
		return true
	case types.PullPolicyNever, types.PullPolicyBuild:
		return false
	default:
		return !present
	}
}

// pullAll pulls at the same time. What fails and can be built is added to build.
func (a *app) pullAll(ctx context.Context, c *client.Client, p *types.Project, services []types.ServiceConfig, build *[]types.ServiceConfig, o *upFlags) error {
	if len(services) == 0 {
		return nil
	}
	show := a.progress("pull")
	defer show.Close()
	failed := make([]bool, len(services))
	eg, ctx := errgroup.WithContext(ctx)
	if a.parallel > 0 {
		eg.SetLimit(a.parallel)
	}
	for i, s := range services {
		eg.Go(func() error {
			err := a.pull(ctx, c, s, platform(p, s), show, o.quietPull)
			if err != nil && s.Build != nil && !o.noBuild && ctx.Err() == nil {
				failed[i] = true
				return nil
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	for i, s := range services {
		if failed[i] {
			*build = append(*build, s)
		}
	}
	return nil
}

func platform(p *types.Project, s types.ServiceConfig) string {
	if s.Platform != "" {
		return s.Platform
	}
	return p.Environment["DOCKER_DEFAULT_PLATFORM"]
}
