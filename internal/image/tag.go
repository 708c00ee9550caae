package image

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tag makes target another name of the image ref.
func (s *Service) Tag(ctx context.Context, ref, target string) error {
	e, err := s.index.resolve(ctx, ref)
	if err != nil {
		return err
	}
	name, err := parseTag(target)
	if err != nil {
		return err
	}
	s.retagged.Lock()
	defer s.retagged.Unlock()
	if err := s.setName(ctx, name.String(), e.target); err != nil {
		return err
	}
	// The image has a name now.
	if err := s.store.Images().Delete(ctx, danglingName(e.target.Digest)); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete dangling name: %w", err)
	}
	s.publish(events.ActionTag, s.known(ctx, e), e.target.Digest.String(), reference.FamiliarString(name))
	return nil
}

// parseTag reads a name that is to be given to an image: with a tag, "latest" where
// there is none, and never with a digest.
func parseTag(s string) (reference.NamedTagged, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("refusing to create a tag with a digest reference")
	}
	tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	return tagged, nil
}

// setName points name to target, whether it exists or not.
func (s *Service) setName(ctx context.Context, name string, target ocispec.Descriptor) error {
	// Annotations belong to the place where the descriptor was found.
	target.Annotations = nil
	record := images.Image{Name: name, Target: target, CreatedAt: time.Now(), UpdatedAt: time.Now()}
	_, err := s.store.Images().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.store.Images().Update(ctx, record)
	}
	if err != nil {
		return fmt.Errorf("name image %s: %w", name, err)
	}
	return nil
}

// keepDangling is called by the store before a name is taken from an image: one that
// would have no name left stays, as a dangling image.
func (s *Service) keepDangling(ctx context.Context, old, _ images.Image) error {
	_, targets, err := s.index.load(ctx)
	if err != nil {
		return err
	}
	if len(targets[old.Target.Digest].records) > 1 || isDangling(old.Name) {
		return nil
	}
	return s.makeDangling(ctx, old.Target)
}

func (s *Service) makeDangling(ctx context.Context, target ocispec.Descriptor) error {
	_, err := s.store.Images().Create(ctx, images.Image{Name: danglingName(target.Digest), Target: target, CreatedAt: time.Now(), UpdatedAt: time.Now()})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("keep image %s: %w", target.Digest, err)
	}
	return nil
}
