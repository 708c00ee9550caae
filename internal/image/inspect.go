package image

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/storage"
	"github.com/opencontainers/image-spec/identity"
)

// Inspect gives what `image inspect` shows.
func (s *Service) Inspect(ctx context.Context, ref string) (*image.InspectResponse, error) {
	e, err := s.index.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	img, err := s.describe(ctx, e)
	if err != nil {
		return nil, err
	}
	target := img.Target
	config := img.Config.Config
	out := &image.InspectResponse{
		ID: img.ID.String(), RepoTags: append([]string{}, tags(e)...), RepoDigests: repoDigests(e),
		Author: img.Config.Author, Config: &config,
		Architecture: img.Config.Architecture, Variant: img.Config.Variant,
		Os: img.Config.OS, OsVersion: img.Config.OSVersion,
		Size: img.Size, Descriptor: &target,
		GraphDriver: &storage.DriverData{Name: "overlayfs"},
		RootFS:      image.RootFS{Type: img.Config.RootFS.Type},
	}
	if img.Config.Created != nil {
		out.Created = img.Config.Created.Format(time.RFC3339Nano)
	}
	if n := len(img.Config.History); n > 0 {
		out.Comment = img.Config.History[n-1].Comment
	}
	for _, id := range img.Config.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, id.String())
	}
	for _, record := range e.records {
		if record.UpdatedAt.After(out.Metadata.LastTagTime) && !isDangling(record.Name) {
			out.Metadata.LastTagTime = record.UpdatedAt
		}
	}
	return out, nil
}

// History gives the steps that an image was made of, last first.
func (s *Service) History(ctx context.Context, ref string) ([]image.HistoryResponseItem, error) {
	e, err := s.index.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	img, err := s.describe(ctx, e)
	if err != nil {
		return nil, err
	}
	sizes, err := s.unpackedSizes(ctx, img.Config.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	items := []image.HistoryResponseItem{}
	layer := 0
	for _, step := range img.Config.History {
		item := image.HistoryResponseItem{ID: "<missing>", Comment: step.Comment, CreatedBy: step.CreatedBy}
		if step.Created != nil {
			item.Created = step.Created.Unix()
		}
		if !step.EmptyLayer {
			if layer >= len(sizes) {
				return nil, fmt.Errorf("image %s has more history than layers", img.ID)
			}
			item.Size = sizes[layer]
			layer++
		}
		items = append([]image.HistoryResponseItem{item}, items...)
	}
	if len(items) > 0 {
		items[0].ID = img.ID.String()
		items[0].Tags = tags(e)
	}
	return items, nil
}

// layerSizes gives the unpacked size of every layer of an image by its chain ID.
func (s *Service) layerSizes(ctx context.Context, id string) (map[string]int64, error) {
	img, err := s.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	sizes, err := s.unpackedSizes(ctx, img.Config.RootFS.DiffIDs)
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for i, chainID := range identity.ChainIDs(append(img.Config.RootFS.DiffIDs[:0:0], img.Config.RootFS.DiffIDs...)) {
		out[chainID.String()] = sizes[i]
	}
	return out, nil
}

// parseTime reads what Docker takes for a moment: seconds since the epoch, a
// duration before now, or a date.
func parseTime(value string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(value); err == nil {
		return now.Add(-d), nil
	}
	whole, fraction, _ := strings.Cut(value, ".")
	if seconds, err := strconv.ParseInt(whole, 10, 64); err == nil {
		nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		if err == nil {
			return time.Unix(seconds, nanos), nil
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, value, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter 'until=%s'", value))
}
