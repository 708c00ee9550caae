package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/moby/api/types/image"
)

// diskUsage is what all blobs and snapshots of the store take.
func (s *Service) diskUsage(ctx context.Context) (int64, error) {
	var total int64
	err := s.store.Content().Walk(ctx, func(info content.Info) error {
		total += info.Size
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure blobs: %w", err)
	}
	err = s.store.Snapshotter().Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		if info.Kind != snapshots.KindCommitted {
			return nil
		}
		usage, err := s.store.Snapshotter().Usage(ctx, info.Name)
		total += usage.Size
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("measure layers: %w", err)
	}
	return total, nil
}

// DiskUsage gives the images part of `system df`.
func (s *Service) DiskUsage(ctx context.Context) (image.DiskUsage, error) {
	items, err := s.List(ctx, ListOptions{SharedSize: true})
	if err != nil {
		return image.DiskUsage{}, err
	}
	out := image.DiskUsage{Items: items, TotalCount: int64(len(items))}
	if out.TotalSize, err = s.diskUsage(ctx); err != nil {
		return image.DiskUsage{}, err
	}
	for _, item := range items {
		if item.Containers > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += item.Size - item.SharedSize
		}
	}
	return out, nil
}
