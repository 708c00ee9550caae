package image

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"

	"muelle/internal/filter"
)

// Prune removes the images that no container uses: dangling ones, or all with
// dangling=false. Filters: dangling, label, label!, until.
func (s *Service) Prune(ctx context.Context, f filter.Args) (image.PruneReport, error) {
	report := image.PruneReport{ImagesDeleted: []image.DeleteResponse{}}
	if err := f.Validate("dangling", "label", "label!", "until"); err != nil {
		return report, err
	}
	danglingOnly, err := f.Bool("dangling", true)
	if err != nil {
		return report, err
	}
	matching := filter.Args{}
	for field, values := range f {
		if field != "dangling" {
			matching[field] = values
		}
	}
	keep, err := s.matcher(ctx, matching)
	if err != nil {
		return report, err
	}
	s.retagged.Lock()
	defer s.retagged.Unlock()
	_, targets, err := s.index.load(ctx)
	if err != nil {
		return report, err
	}
	for _, e := range targets {
		img, err := s.describe(ctx, e)
		if err != nil {
			s.log.Warn("skip image in prune", "image", e.target.Digest, "err", err)
			continue
		}
		summary := summarise(img, e)
		if danglingOnly && len(img.Names) > 0 || len(s.holders(img.ID)) > 0 || !keep(img, &summary) {
			continue
		}
		deleted, err := s.delete(ctx, e)
		report.ImagesDeleted = append(report.ImagesDeleted, deleted...)
		if err != nil {
			return report, err
		}
	}
	before, err := s.diskUsage(ctx)
	if err != nil {
		return report, err
	}
	if err := s.store.CollectGarbage(ctx); err != nil {
		return report, err
	}
	after, err := s.diskUsage(ctx)
	if err != nil {
		return report, err
	}
	report.SpaceReclaimed = uint64(max(0, before-after))
	if s.bus != nil {
		s.bus.Publish(events.ImageEventType, events.ActionPrune, "", map[string]string{"reclaimed": fmt.Sprint(report.SpaceReclaimed)})
	}
	return report, nil
}
