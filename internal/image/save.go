package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Save writes images as an archive that every Docker loads: an OCI layout with
// manifest.json beside it. Images named by ID are saved without a name.
func (s *Service) Save(ctx context.Context, refs []string, w io.Writer) (err error) {
	ctx, release, err := s.store.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	opts := []archive.ExportOpt{archive.WithPlatform(s.platform), archive.WithSkipMissing(s.store.Content())}
	var saved []*Image
	for _, ref := range refs {
		e, err := s.index.resolve(ctx, ref)
		if err != nil {
			return err
		}
		img, err := s.describe(ctx, e)
		if err != nil {
			return err
		}
		if err := s.holdWhole(ctx, img); err != nil {
			return err
		}
		opts = append(opts, archive.WithManifest(img.Target, savedNames(e, ref)...))
		saved = append(saved, img)
	}
	if err := archive.Export(ctx, s.store.Content(), w, opts...); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	for i, img := range saved {
		s.publish(events.ActionSave, img, img.ID.String(), refs[i])
	}
	return nil
}

// savedNames gives the name that ref means: itself, or none for an ID.
func savedNames(e entry, ref string) []string {
	if isIDPrefix(e.target.Digest, ref) {
		return nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	if _, ok := named.(reference.Digested); ok {
		return nil
	}
	return []string{reference.TagNameOnly(named).String()}
}

// holdWhole makes sure that every blob of the image for this host is here, rather
// than leave a hole in an archive.
func (s *Service) holdWhole(ctx context.Context, img *Image) error {
	err := images.Walk(ctx, once(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if _, err := s.store.Content().Info(ctx, d.Digest); err != nil {
			return nil, err
		}
		return s.children(ctx, d)
	}), img.Manifest)
	if errdefs.IsNotFound(err) {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("image %s is incomplete: %v", img.ID, err))
	}
	return err
}
