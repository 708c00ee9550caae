package image

import (
	"context"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/linux/du"
)

// Reach is what the names of images and the containers' use of layers lead to.
type Reach struct {
	Blobs  map[digest.Digest]bool
	Layers map[string]bool // chain IDs
	// Names of the images that a blob belongs to, as a user sees them.
	Names map[digest.Digest][]string
}

// Reach follows every name, and every chain that a container holds.
func (s *Service) Reach(ctx context.Context) (*Reach, error) {
	_, targets, err := s.index.load(ctx)
	if err != nil {
		return nil, err
	}
	r := &Reach{Blobs: map[digest.Digest]bool{}, Names: map[digest.Digest][]string{}}
	if r.Layers, err = s.store.Chains(ctx); err != nil {
		return nil, err
	}
	for _, e := range targets {
		// What cannot be read of an image hides neither the rest of it nor the others.
		err := s.walkPresent(ctx, e.target, func(desc ocispec.Descriptor, _ int64) {
			r.Blobs[desc.Digest] = true
			r.Names[desc.Digest] = append(r.Names[desc.Digest], e.names...)
		})
		if err == nil {
			err = s.reachLayers(ctx, e.target, r)
		}
		if err != nil {
			s.log.Debug("follow image", "image", e.target.Digest, "err", err)
		}
	}
	return r, nil
}

func (s *Service) reachLayers(ctx context.Context, target ocispec.Descriptor, r *Reach) error {
	candidates, err := s.manifests(ctx, target)
	if err != nil {
		return err
	}
	for _, c := range candidates {
		var config ocispec.Image
		if err := s.readDocument(ctx, c.manifest.Config, &config); err != nil {
			return err
		}
		for _, id := range identity.ChainIDs(append([]digest.Digest(nil), config.RootFS.DiffIDs...)) {
			r.Layers[id.String()] = true
		}
	}
	return nil
}

// StoreUsage is what the store occupies, told apart.
type StoreUsage struct {
	Images int64 // of names, and layers that containers hold
	Cache  int64 // every other blob and layer, and what builds write to: the build cache
	// Unfinished, Orphans and Metadata are the store's own.
	Unfinished, Orphans, Metadata int64
}

// StoreUsage measures the store on disk.
func (s *Service) StoreUsage(ctx context.Context, c *du.Counter) (StoreUsage, error) {
	u, err := s.store.Usage(ctx, c)
	if err != nil {
		return StoreUsage{}, err
	}
	r, err := s.Reach(ctx)
	if err != nil {
		return StoreUsage{}, err
	}
	out := StoreUsage{Cache: u.Open, Unfinished: u.Unfinished, Orphans: u.Orphans, Metadata: u.Metadata}
	for dgst, n := range u.Blobs {
		*choose(r.Blobs[dgst], &out.Images, &out.Cache) += n
	}
	for name, n := range u.Layers {
		*choose(r.Layers[name], &out.Images, &out.Cache) += n
	}
	return out, nil
}

func choose(first bool, a, b *int64) *int64 {
	if first {
		return a
	}
	return b
}

// diskUsage is what all blobs and layers take.
func (s *Service) diskUsage(ctx context.Context) (int64, error) {
	u, err := s.StoreUsage(ctx, du.New())
	return u.Images + u.Cache, err
}
