// Package project holds Compose projects in the daemon: it reconciles the document
// that a client resolved with what exists, starts services in the order of their
// dependencies and through their health gates, also when the daemon comes up again,
// and takes projects down. What belongs to a project is known by Docker Compose's
// labels alone, so that projects made by Docker Compose are treated the same.
package project

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/event"
	"muelle/internal/filter"
	"muelle/internal/image"
	"muelle/internal/meta"
	"muelle/internal/zone/explain"
)

// containers is what a project asks of the container service.
type containers interface {
	Create(ctx context.Context, o container.CreateOptions) (ctypes.CreateResponse, error)
	Start(ctx context.Context, ref string) error
	Stop(ctx context.Context, ref string, o container.StopOptions) error
	Restart(ctx context.Context, ref string, o container.StopOptions) error
	Rename(ctx context.Context, ref, name string) error
	Remove(ctx context.Context, ref string, o container.RemoveOptions) error
	List(ctx context.Context, o container.ListOptions) ([]ctypes.Summary, error)
	// AwaitState calls until with the state as it is and at every change, and returns
	// when it says true or fails, the container is gone, or ctx ends.
	AwaitState(ctx context.Context, ref string, until func(*ctypes.State) (bool, error)) error
	// Evidence is what is known of a container, for explaining.
	Evidence(ctx context.Context, ref string) (*container.Evidence, error)
	// Pending are the containers that their restart policy wants started since the
	// daemon came up and that were left to this package.
	Pending() []string
	// FollowZones moves published ports after the zone of a network was changed.
	FollowZones(ctx context.Context) error
}

type networks interface {
	Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	List(ctx context.Context, f filter.Args) ([]network.Summary, error)
	Remove(ctx context.Context, ref string) error
	SetZone(ctx context.Context, ref string, z api.Zone) error
	explain.Networks
}

type volumes interface {
	Create(ctx context.Context, r volume.CreateRequest) (*volume.Volume, error)
	List(ctx context.Context, f filter.Args) ([]volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
}

type images interface {
	Get(ctx context.Context, ref string) (*image.Image, error)
}

// Options are the parts that the Service is made of.
type Options struct {
	Root       string     // data-root/projects
	Containers containers // *container.Service
	Networks   networks   // *network.Service
	Volumes    volumes    // *volume.Service
	Images     images     // *image.Service
	Bus        *event.Bus
	Log        *slog.Logger
}

// Service is the noun "project".
type Service struct {
	containers containers
	networks   networks
	volumes    volumes
	images     images
	log        *slog.Logger

	records *meta.Dir[api.ProjectSpec]
	locks   locks
	running running
	stop    context.CancelFunc
	loops   sync.WaitGroup
}

// Open reads the records and, in the background, starts what Pending names in the
// order of its dependencies.
func Open(ctx context.Context, o Options) (*Service, error) {
	records, err := meta.Open[api.ProjectSpec](o.Root, api.ProjectSpecVersion)
	if err != nil {
		return nil, err
	}
	if err := records.Sweep(); err != nil {
		return nil, err
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		containers: o.Containers, networks: o.Networks, volumes: o.Volumes, images: o.Images,
		log: log, records: records,
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	pending := o.Containers.Pending()
	s.loops.Go(func() { s.boot(ctx, pending) })
	if o.Bus != nil {
		s.loops.Go(func() { s.forget(ctx, o.Bus) })
	}
	return s, nil
}

// Close ends the background work. Containers stay as they are.
func (s *Service) Close() {
	s.stop()
	s.loops.Wait()
}

// Get returns the document of the last up of a project.
func (s *Service) Get(name string) (*api.ProjectSpec, error) {
	spec, err := s.records.Load(name)
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil, errdefs.ErrNotFound.WithMessage("no such project: " + name)
	}
	return spec, err
}

// List returns every project that has a container, Docker Compose's included.
func (s *Service) List(ctx context.Context) ([]api.ProjectSummary, error) {
	all, err := s.members(ctx, "")
	if err != nil {
		return nil, err
	}
	byName := map[string][]member{}
	for _, m := range all {
		byName[m.Labels[api.LabelProject]] = append(byName[m.Labels[api.LabelProject]], m)
	}
	out := make([]api.ProjectSummary, 0, len(byName))
	for _, name := range sortedKeys(byName) {
		out = append(out, summarize(name, byName[name]))
	}
	return out, nil
}

// forget removes the record of a project with its last container, network or
// volume, whichever client removed that.
func (s *Service) forget(ctx context.Context, bus *event.Bus) {
	f := filter.Args{"event": {string(events.ActionDestroy)}}
	for ctx.Err() == nil {
		s.forgetOn(ctx, bus.Subscribe(ctx, noTime, noTime, f))
		if ctx.Err() == nil {
			s.forgetEmpty(ctx, "") // it fell behind and was given up
		}
	}
}

func (s *Service) forgetOn(ctx context.Context, destroyed iter.Seq[events.Message]) {
	for m := range destroyed {
		name := m.Actor.Attributes[api.LabelProject]
		switch {
		case m.Type == events.NetworkEventType || m.Type == events.VolumeEventType:
			// Their events carry no labels: look at every record.
			s.forgetEmpty(ctx, "")
		case name != "":
			s.forgetEmpty(ctx, name)
		}
	}
}

// forgetEmpty drops the records (of one project, or of all where name is empty)
// that no object belongs to any more.
func (s *Service) forgetEmpty(ctx context.Context, name string) {
	records, errs := s.records.All()
	for _, err := range errs {
		s.log.Error("read project record", "err", err)
	}
	for _, n := range sortedKeys(records) {
		if name != "" && n != name {
			continue
		}
		if err := s.forgetIfEmpty(ctx, n); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Error("drop project record", "project", n, "err", err)
		}
	}
}

func (s *Service) forgetIfEmpty(ctx context.Context, name string) error {
	// An up that runs has the lock: its record stays.
	release, err := s.locks.acquire(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	return s.dropRecord(ctx, name)
}

// dropRecord removes the record if nothing belongs to the project. The caller
// holds the project's lock.
func (s *Service) dropRecord(ctx context.Context, name string) error {
	members, err := s.members(ctx, name)
	if err != nil || len(members) > 0 {
		return err
	}
	label := filter.Args{"label": {api.LabelProject + "=" + name}}
	nets, err := s.networks.List(ctx, label)
	if err != nil || len(nets) > 0 {
		return err
	}
	vols, err := s.volumes.List(ctx, label)
	if err != nil || len(vols) > 0 {
		return err
	}
	return s.records.Delete(name)
}

// keep writes the record. Services that the document merely names as disabled keep
// their older entry.
func (s *Service) keep(spec api.ProjectSpec) error {
	if old, err := s.records.Load(spec.Name); err == nil {
		for _, svc := range old.Services {
			if slices.Contains(spec.Disabled, svc.Name) {
				spec.Services = append(slices.Clone(spec.Services), svc)
			}
		}
	}
	return s.records.Save(spec.Name, &spec, false)
}
