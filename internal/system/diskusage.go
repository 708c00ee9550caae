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
)

// DiskUsage measures the named kinds of objects, all of them if none is named.
func (s *Service) DiskUsage(ctx context.Context, objects []system.DiskUsageObject) (*system.DiskUsage, error) {
	du := &system.DiskUsage{}
	for _, kind := range []struct {
		object  system.DiskUsageObject
		measure func(context.Context, *system.DiskUsage) error
	}{
		{system.ImageObject, s.imageUsage},
		{system.ContainerObject, s.containerUsage},
		{system.VolumeObject, s.volumeUsage},
		{system.BuildCacheObject, s.buildUsage},
	} {
		if len(objects) > 0 && !slices.Contains(objects, kind.object) {
			continue
		}
		if err := kind.measure(ctx, du); err != nil {
			return nil, fmt.Errorf("measure %ss: %w", kind.object, err)
		}
	}
	return du, nil
}

func (s *Service) imageUsage(ctx context.Context, du *system.DiskUsage) error {
	u, err := s.o.Images.DiskUsage(ctx)
	du.ImageUsage = &u
	return err
}

func (s *Service) containerUsage(ctx context.Context, du *system.DiskUsage) error {
	list, err := s.o.Containers.List(ctx, container.ListOptions{All: true, Size: true})
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
	du.ContainerUsage = u
	return nil
}

func (s *Service) volumeUsage(ctx context.Context, du *system.DiskUsage) error {
	list, err := s.o.Volumes.Usage(ctx)
	if err != nil {
		return err
	}
	u := &volumetypes.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, v := range list {
		u.TotalSize += v.UsageData.Size
		if v.UsageData.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += v.UsageData.Size
		}
	}
	du.VolumeUsage = u
	return nil
}

func (s *Service) buildUsage(ctx context.Context, du *system.DiskUsage) error {
	list, err := s.o.Builds.DiskUsage(ctx)
	if err != nil {
		return err
	}
	u := &buildtypes.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, r := range list {
		// What is shared with an image is counted there.
		if r.Shared {
			continue
		}
		u.TotalSize += r.Size
		if !r.InUse {
			u.Reclaimable += r.Size
		}
	}
	for _, r := range list {
		if r.InUse {
			u.ActiveCount++
		}
	}
	du.BuildCacheUsage = u
	return nil
}
