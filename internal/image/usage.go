package image

import (
	"context"

	"github.com/moby/moby/api/types/image"
)

// DiskUsage gives the images part of `system df`, but for the sum: that is
// StoreUsage's.
func (s *Service) DiskUsage(ctx context.Context) (image.DiskUsage, error) {
	items, err := s.List(ctx, ListOptions{SharedSize: true})
	if err != nil {
		return image.DiskUsage{}, err
	}
	out := image.DiskUsage{Items: items, TotalCount: int64(len(items))}
	for _, item := range items {
		if item.Containers > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += item.Size - item.SharedSize
		}
	}
	return out, nil
}
