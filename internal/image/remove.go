package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/opencontainers/go-digest"
)

// RemoveOptions are those of DELETE /images/{name}.
type RemoveOptions struct {
	Force   bool
	NoPrune bool // images have no parents here, so there is nothing to prune
}

// Remove takes a name from an image, and the image away with its last name; by ID it
// takes all names. What containers use is not removed unless forced, what running
// ones use never. Blobs and layers go soon after.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) ([]image.DeleteResponse, error) {
	s.retagged.Lock()
	defer s.retagged.Unlock()
	e, err := s.index.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	if isIDPrefix(e.target.Digest, ref) {
		return s.removeAll(ctx, e, o.Force)
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	same := sameName(e, named)
	if len(same) < len(e.records) {
		return s.untag(ctx, e, same)
	}
	if users := s.holders(e.target.Digest); len(users) > 0 {
		if !o.Force {
			return nil, conflict(reference.FamiliarString(reference.TagNameOnly(named)), false, fmt.Sprintf("container %s is using its referenced image %s",
				short(users[0].containerID), shortID(e.target.Digest)))
		}
		if err := s.makeDangling(ctx, e.target); err != nil {
			return nil, err
		}
		return s.untag(ctx, e, same)
	}
	return s.delete(ctx, e)
}

// removeAll removes an image that was named by its ID.
func (s *Service) removeAll(ctx context.Context, e entry, force bool) ([]image.DeleteResponse, error) {
	id := shortID(e.target.Digest)
	users := s.holders(e.target.Digest)
	if len(users) > 0 && users[0].running {
		return nil, conflict(id, true, "image is being used by running container "+short(users[0].containerID))
	}
	if !force && len(users) > 0 {
		return nil, conflict(id, false, "image is being used by stopped container "+short(users[0].containerID))
	}
	if !force && len(repositories(e)) > 1 {
		return nil, conflict(id, false, "image is referenced in multiple repositories")
	}
	return s.delete(ctx, e)
}

func (s *Service) delete(ctx context.Context, e entry) ([]image.DeleteResponse, error) {
	img := s.known(ctx, e)
	deleted, err := s.untag(ctx, e, e.records)
	if err != nil {
		return deleted, err
	}
	s.publish(events.ActionDelete, img, e.target.Digest.String(), e.target.Digest.String())
	return append(deleted, image.DeleteResponse{Deleted: e.target.Digest.String()}), nil
}

// known describes an image for an event; nil where it is broken, for it can be removed
// all the same.
func (s *Service) known(ctx context.Context, e entry) *Image {
	img, err := s.describe(ctx, e)
	if err != nil {
		s.log.Debug("describe image for event", "image", e.target.Digest, "err", err)
		return nil
	}
	return img
}

// untag deletes records of e.
func (s *Service) untag(ctx context.Context, e entry, records []images.Image) ([]image.DeleteResponse, error) {
	img := s.known(ctx, e)
	var out []image.DeleteResponse
	for _, record := range records {
		if err := s.store.Images().Delete(ctx, record.Name); err != nil && !errdefs.IsNotFound(err) {
			return out, fmt.Errorf("delete image name %s: %w", record.Name, err)
		}
		if isDangling(record.Name) {
			continue
		}
		name := record.Name
		if named, err := reference.ParseNormalizedNamed(record.Name); err == nil {
			name = reference.FamiliarString(named)
		}
		s.publish(events.ActionUnTag, img, e.target.Digest.String(), name)
		out = append(out, image.DeleteResponse{Untagged: name})
	}
	return out, nil
}

// sameName picks the records that a reference names: one tag, or all of a
// repository's where it names a digest.
func sameName(e entry, named reference.Named) []images.Image {
	if _, ok := named.(reference.Digested); !ok {
		want := reference.TagNameOnly(named).String()
		return slices.Collect(func(yield func(images.Image) bool) {
			for _, record := range e.records {
				if record.Name == want && !yield(record) {
					return
				}
			}
		})
	}
	var same []images.Image
	for _, record := range e.records {
		if n, err := reference.ParseNormalizedNamed(record.Name); err == nil && n.Name() == named.Name() {
			same = append(same, record)
		}
	}
	return same
}

// repositories lists the repositories that have a name of the image.
func repositories(e entry) map[string]bool {
	found := map[string]bool{}
	for _, name := range e.names {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			found[named.Name()] = true
		}
	}
	return found
}

func isIDPrefix(id digest.Digest, ref string) bool {
	return idPattern.MatchString(ref) && (strings.HasPrefix(id.String(), ref) || strings.HasPrefix(id.Encoded(), ref))
}

func conflict(ref string, hard bool, message string) error {
	force := "must be forced"
	if hard {
		force = "cannot be forced"
	}
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf("conflict: unable to delete %s (%s) - %s", ref, force, message))
}

func shortID(id digest.Digest) string { return short(id.Encoded()) }

func short(id string) string { return id[:min(12, len(id))] }
