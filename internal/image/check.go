package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"muelle/api"
	"muelle/internal/check"
	"muelle/internal/store"
)

// Leaks tells of what is wrong with the unpacked layers.
func (s *Service) Leaks(ctx context.Context) ([]check.Leak, error) { return s.store.Leaks(ctx) }

// CorruptBlobs reads every blob and tells of those that are not what their digest
// says, with the images that they belong to. It gives how many were read, too.
func (s *Service) CorruptBlobs(ctx context.Context) ([]check.Leak, int, error) {
	bad, read, err := s.store.VerifyBlobs(ctx)
	if err != nil || len(bad) == 0 {
		return nil, read, err
	}
	r, err := s.Reach(ctx)
	if err != nil {
		return nil, read, err
	}
	var leaks []check.Leak
	for _, b := range bad {
		leaks = append(leaks, s.blobLeak(b, r))
	}
	return leaks, read, nil
}

func (s *Service) blobLeak(b store.BadBlob, r *Reach) check.Leak {
	names := slices.Compact(slices.Sorted(slices.Values(r.Names[b.Digest])))
	f := api.Finding{Kind: "blob", Name: b.Digest.String(), Problem: fmt.Sprintf("its %d bytes are not what the digest says", b.Size)}
	if b.Is == "" {
		f.Problem = "it cannot be read from the disk"
	}
	switch {
	case len(names) > 0:
		f.Problem += ", in " + strings.Join(names, ", ")
		var pulls []string
		for _, n := range names {
			pulls = append(pulls, "muelle pull "+n)
		}
		f.Remedy = "once it is removed: " + strings.Join(pulls, "; ")
	case r.Blobs[b.Digest]:
		f.Problem += ", in an image without a name"
		f.Remedy = "once it is removed, the image has to be loaded or built again"
	default:
		f.Remedy = "it is of the build cache, which makes it again"
	}
	return check.Leak{Finding: f, Mend: func(ctx context.Context) error {
		if err := s.store.DropBlob(ctx, b.Digest); err != nil {
			return err
		}
		s.index.changed("")
		s.index.forgetAll()
		return nil
	}}
}
