package system

import (
	"context"
	"fmt"
	"slices"

	buildtypes "github.com/moby/moby/api/types/build"
	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/system"
	volumetypes "github.com/moby/moby/api/types/volume"

	"muelle/internal/container"
	"muelle/internal/image"
	"muelle/internal/linux/du"
)

// DiskUsage measures the named kinds of objects, all of them if none is named.
func (s *Service) DiskUsage(ctx context.Context, objects []system.DiskUsageObject) (*system.DiskUsage, error) {
	m := &measurement{Service: s}
	return m.docker(ctx, objects)
}

// measurement is one answer: the store, which several rows are about, is measured once.
type measurement struct {
	*Service
	c     *du.Counter
	store *image.StoreUsage
}

func (m *measurement) storeUsage(ctx context.Context) (image.StoreUsage, error) {
	if m.store != nil {
		return *m.store, nil
	}
	if m.c == nil {
		m.c = du.New()
	}
	u, err := m.o.Images.StoreUsage(ctx, m.c)
	m.store = &u
	return u, err
}

func (m *measurement) docker(ctx context.Context, objects []system.DiskUsageObject) (*system.DiskUsage, error) {
	out := &system.DiskUsage{}
	for _, kind := range []struct {
		object  system.DiskUsageObject
		measure func(context.Context, *system.DiskUsage) error
	}{
		{system.ImageObject, m.imageUsage},
		{system.ContainerObject, m.containerUsage},
		{system.VolumeObject, m.volumeUsage},
		{system.BuildCacheObject, m.buildUsage},
	} {
		if len(objects) > 0 && !slices.Contains(objects, kind.object) {
			continue
		}
		if err := kind.measure(ctx, out); err != nil {
			return nil, fmt.Errorf("measure %ss: %w", kind.object, err)
		}
	}
	return out, nil
}

func (m *measurement) imageUsage(ctx context.Context, out *system.DiskUsage) error {
	u, err := m.o.Images.DiskUsage(ctx)
	if err != nil {
		return err
	}
	disk, err := m.storeUsage(ctx)
	u.TotalSize = disk.Images
	u.Reclaimable = min(u.Reclaimable, u.TotalSize)
	out.ImageUsage = &u
	return err
}

func (m *measurement) containerUsage(ctx context.Context, out *system.DiskUsage) error {
	list, err := m.o.Containers.List(ctx, container.ListOptions{All: true, Size: true})
	if err != nil {
		return err
	}
	u := &containertypes.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, c := range list {
		u.TotalSize += c.SizeRw
		switch c.State {
		case containertypes.StateRunning, containertypes.StatePaused, containertypes.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
	}
	out.ContainerUsage = u
	return nil
}

func (m *measurement) volumeUsage(ctx context.Context, out *system.DiskUsage) error {
	list, err := m.o.Volumes.Usage(ctx)
	if err != nil {
		return err
	}
	u := &volumetypes.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, v := range list {
		size := max(v.UsageData.Size, 0) // -1: what is elsewhere is not measured
		u.TotalSize += size
		if v.UsageData.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += size
		}
	}
	out.VolumeUsage = u
	return nil
}

func (m *measurement) buildUsage(ctx context.Context, out *system.DiskUsage) error {
	list, err := m.o.Builds.DiskUsage(ctx)
	if err != nil {
		return err
	}
	u := &buildtypes.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, r := range list {
		if r.InUse {
			u.ActiveCount++
		}
		// What is shared with an image is counted there.
		if !r.InUse && !r.Shared {
			u.Reclaimable += r.Size
		}
	}
	disk, err := m.storeUsage(ctx)
	if err != nil {
		return err
	}
	u.TotalSize = disk.Cache
	u.Reclaimable = min(u.Reclaimable, u.TotalSize)
	out.BuildCacheUsage = u
	return nil
}
