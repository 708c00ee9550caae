package project

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/internal/linux/rtnl"
	"muelle/internal/policy"
)

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// up is one reconciliation. Maps are written before the services are visited, or
// under mu.
type up struct {
	*Service
	spec     api.ProjectSpec
	o        api.ProjectUpOptions
	report   *reporter
	graph    *graph
	services map[string]*api.ProjectService

	network   map[string]string // key → name
	networkID map[string]string // key → id

	mu   sync.Mutex
	have map[string][]member // containers by service, as they come and go
	gone map[string]bool     // ids removed with a network that changed: to be made anew
	// recreated are the services of which a container was replaced.
	recreated map[string]bool
}

// Up makes the project's objects what the document says, and starts its services in
// the order of their dependencies, each behind the gates of its own. Progress is
// called from one goroutine at a time. When it fails or ctx ends, what was created
// properly stays, started or not; nothing half-made does.
func (s *Service) Up(ctx context.Context, spec api.ProjectSpec, o api.ProjectUpOptions, progress func(api.ProjectProgress)) error {
	r := newReporter(progress)
	u, err := s.newUp(spec, o, r)
	if err != nil {
		return r.finish(err)
	}
	names := map[string]bool{}
	for name := range u.services {
		names[name] = true
	}
	ctx, end := s.running.begin(ctx, spec.Name, names)
	defer end()
	if err = u.run(ctx); err != nil && ctx.Err() != nil {
		// Where a stop ended it, the cause says so.
		err = context.Cause(ctx)
	}
	return r.finish(err)
}

func (u *up) run(ctx context.Context) error {
	if err := u.reconcile(ctx); err != nil {
		return err
	}
	u.report.done(api.ProgressCreated, "")
	if u.o.NoStart {
		return nil
	}
	if err := u.start(ctx); err != nil || !u.o.Wait {
		return err
	}
	return u.waitAll(ctx, u.graph, u.have, u.o.WaitTimeout, u.report)
}

func (s *Service) newUp(spec api.ProjectSpec, o api.ProjectUpOptions, r *reporter) (*up, error) {
	if err := check(&spec, &o); err != nil {
		return nil, err
	}
	addresses, err := rtnl.GlobalAddresses()
	if err != nil {
		return nil, err
	}
	if err := policy.CheckSpec(&spec, &policy.Engine{Network: s.knownNetwork, Addresses: addresses}); err != nil {
		return nil, own(errdefs.ErrInvalidArgument, "%v", err)
	}
	u := &up{
		Service: s, spec: spec, o: o, report: r,
		services:  map[string]*api.ProjectService{},
		network:   map[string]string{},
		networkID: map[string]string{},
		gone:      map[string]bool{},
		recreated: map[string]bool{},
	}
	deps := map[string]map[string]api.ProjectDependency{}
	for i := range u.spec.Services {
		svc := &u.spec.Services[i]
		u.services[svc.Name] = svc
		deps[svc.Name] = svc.DependsOn
	}
	u.graph, err = newGraph(deps)
	return u, err
}

// check refuses documents that could not have come from a sound client.
func check(spec *api.ProjectSpec, o *api.ProjectUpOptions) error {
	invalid := func(format string, args ...any) error {
		return own(errdefs.ErrInvalidArgument, format, args...)
	}
	if spec.Version > api.ProjectSpecVersion {
		return invalid("the project document has version %d, this daemon knows %d at most: update it", spec.Version, api.ProjectSpecVersion)
	}
	if !validName.MatchString(spec.Name) {
		return invalid("invalid project name %q: must consist only of lowercase alphanumeric characters, hyphens, and underscores as well as start with a letter or number", spec.Name)
	}
	keys := map[string]bool{}
	for _, n := range spec.Networks {
		keys[n.Key] = true
	}
	seen := map[string]bool{}
	for _, svc := range spec.Services {
		switch {
		case svc.Name == "" || seen[svc.Name]:
			return invalid("service %q is declared twice or has no name", svc.Name)
		case svc.Config == nil || svc.HostConfig == nil:
			return invalid("service %q has no configuration", svc.Name)
		case svc.Scale < 0:
			return invalid("service %q: scale %d is negative", svc.Name, svc.Scale)
		case svc.Scale > 1 && svc.ContainerName != "":
			return invalid("WARNING: The %q service is using the custom container name %q. Docker requires each container to have a unique name. Remove the custom name to scale the service", svc.Name, svc.ContainerName)
		}
		seen[svc.Name] = true
		for key := range svc.Endpoints {
			if !keys[key] {
				return invalid("service %q refers to undefined network %s", svc.Name, key)
			}
		}
	}
	for _, name := range o.Services {
		if !seen[name] {
			return own(errdefs.ErrNotFound, "no such service: %s", name)
		}
	}
	if o.ForceRecreate && o.NoRecreate {
		return invalid("--force-recreate and --no-recreate are incompatible")
	}
	return nil
}

// reconcile does everything but start.
func (u *up) reconcile(ctx context.Context) error {
	release, err := u.locks.acquire(ctx, u.spec.Name)
	if err != nil {
		return err
	}
	defer release()
	if err := u.keep(u.spec); err != nil {
		return fmt.Errorf("keep project: %w", err)
	}
	err = u.reconcileLocked(ctx)
	if err != nil {
		// A project that never got an object leaves no record.
		if dropErr := u.dropRecord(context.WithoutCancel(ctx), u.spec.Name); dropErr != nil {
			u.log.Error("drop project record", "project", u.spec.Name, "err", dropErr)
		}
	}
	return err
}

func (u *up) reconcileLocked(ctx context.Context) error {
	all, err := u.members(ctx, u.spec.Name)
	if err != nil {
		return err
	}
	u.have = byService(all)
	eg, egctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return u.ensureNetworks(egctx) })
	eg.Go(func() error { return u.ensureVolumes(egctx) })
	if err := eg.Wait(); err != nil {
		return err
	}
	if err := u.orphans(ctx, all); err != nil {
		return err
	}
	refs := map[string]map[string]api.ProjectDependency{}
	for name, svc := range u.services {
		refs[name] = map[string]api.ProjectDependency{}
		for _, ref := range references(svc) {
			refs[name][ref] = api.ProjectDependency{}
		}
	}
	// Creation needs no order but where one container's configuration names another.
	g, err := newGraph(refs)
	if err != nil {
		return err
	}
	return g.up(ctx, u.reconcileService)
}

// orphans removes the containers of services that the project no longer declares,
// or warns of them.
func (u *up) orphans(ctx context.Context, all []member) error {
	var found []member
	var names []string
	for _, m := range all {
		known := u.services[m.service] != nil || slices.Contains(u.spec.Disabled, m.service)
		if m.oneOff {
			known = m.State != "exited" && m.State != "dead"
		}
		if !known {
			found = append(found, m)
			names = append(names, m.name)
		}
	}
	if len(found) == 0 || u.o.IgnoreOrphans {
		return nil
	}
	if !u.o.RemoveOrphans {
		u.report.warn(fmt.Sprintf("Found orphan containers (%s) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.", strings.Join(names, ", ")))
		return nil
	}
	eg, ctx := errgroup.WithContext(ctx)
	for _, m := range found {
		eg.Go(func() error { return u.stopAndRemove(ctx, m, u.o.Timeout, false, u.report) })
	}
	return eg.Wait()
}
