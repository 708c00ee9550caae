package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDocument bounds manifests, indexes and configurations, which come from
// strangers.
const maxDocument = 8 << 20

// describe reads manifest and configuration of an image for the host's platform, or
// where it has none for the first that is here; once for each target.
func (s *Service) describe(ctx context.Context, e entry) (*Image, error) {
	s.index.mu.Lock()
	known := s.index.described[e.target.Digest]
	s.index.mu.Unlock()
	if known == nil {
		var err error
		if known, err = s.read(ctx, e.target); err != nil {
			return nil, fmt.Errorf("read image %s: %w", e.target.Digest, err)
		}
		s.index.mu.Lock()
		s.index.described[e.target.Digest] = known
		s.index.mu.Unlock()
	}
	img := *known
	img.Names = slices.Clone(e.names)
	return &img, nil
}

func (s *Service) read(ctx context.Context, target ocispec.Descriptor) (*Image, error) {
	desc, manifest, err := s.manifest(ctx, target)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: target.Digest, Target: target, Manifest: desc, layers: manifest.Layers, configDigest: manifest.Config.Digest}
	if err := s.readDocument(ctx, manifest.Config, &img.Config); err != nil {
		return nil, err
	}
	diffIDs := img.Config.RootFS.DiffIDs
	img.ChainID = chainOf(diffIDs)
	img.Size, err = s.size(ctx, target, diffIDs)
	return img, err
}

// chainOf names the unpacked layers; nothing where there are none.
func chainOf(diffIDs []digest.Digest) digest.Digest {
	if len(diffIDs) == 0 {
		return ""
	}
	return identity.ChainID(diffIDs)
}

// diffIDs reads the layers of the manifest for a platform.
func (s *Service) diffIDs(ctx context.Context, target ocispec.Descriptor, matcher platforms.MatchComparer) ([]digest.Digest, error) {
	config, err := images.Config(ctx, s.store.Content(), target, matcher)
	if err != nil {
		return nil, fmt.Errorf("find configuration of %s: %w", target.Digest, err)
	}
	return images.RootFS(ctx, s.store.Content(), config)
}

// manifest picks the manifest to run of an index, or takes the manifest that the
// target is.
func (s *Service) manifest(ctx context.Context, target ocispec.Descriptor) (ocispec.Descriptor, ocispec.Manifest, error) {
	candidates, err := s.manifests(ctx, target)
	if err != nil {
		return ocispec.Descriptor{}, ocispec.Manifest{}, err
	}
	var best *candidate
	for i := range candidates {
		c := &candidates[i]
		if best == nil || s.better(c, best) {
			best = c
		}
	}
	if best == nil {
		return ocispec.Descriptor{}, ocispec.Manifest{}, errdefs.ErrNotFound.WithMessage("no image manifest is present locally")
	}
	return best.desc, best.manifest, nil
}

// candidate is a manifest whose configuration is here too.
type candidate struct {
	desc     ocispec.Descriptor
	manifest ocispec.Manifest
	platform ocispec.Platform
}

func (s *Service) better(c, than *candidate) bool {
	matches, other := s.platform.Match(c.platform), s.platform.Match(than.platform)
	if matches != other {
		return matches
	}
	return matches && s.platform.Less(c.platform, than.platform)
}

// manifests lists the images below target whose manifest and configuration are
// here; attestations are no images.
func (s *Service) manifests(ctx context.Context, target ocispec.Descriptor) ([]candidate, error) {
	return s.manifestsBelow(ctx, target, 0, map[digest.Digest]bool{})
}

// manifestsBelow looks at each document once: indexes that list each other many
// times over would keep it busy for ever.
func (s *Service) manifestsBelow(ctx context.Context, target ocispec.Descriptor, depth int, seen map[digest.Digest]bool) ([]candidate, error) {
	if seen[target.Digest] {
		return nil, nil
	}
	seen[target.Digest] = true
	switch {
	case images.IsManifestType(target.MediaType):
		c := candidate{desc: target}
		err := s.readDocument(ctx, target, &c.manifest)
		if err != nil {
			return nil, err
		}
		if !images.IsConfigType(c.manifest.Config.MediaType) {
			return nil, nil
		}
		if err := s.readDocument(ctx, c.manifest.Config, &c.platform); err != nil {
			return nil, err
		}
		return []candidate{c}, nil
	case images.IsIndexType(target.MediaType):
		if depth > 3 {
			return nil, errdefs.ErrInvalidArgument.WithMessage("image index is nested too deeply")
		}
		var index ocispec.Index
		if err := s.readDocument(ctx, target, &index); err != nil {
			return nil, err
		}
		var all []candidate
		for _, desc := range index.Manifests {
			if desc.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
				continue
			}
			found, err := s.manifestsBelow(ctx, desc, depth+1, seen)
			if errdefs.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	default:
		return nil, errdefs.ErrInvalidArgument.WithMessage("unsupported media type " + target.MediaType)
	}
}

func (s *Service) readDocument(ctx context.Context, desc ocispec.Descriptor, into any) error {
	if err := s.checkDocument(ctx, desc); err != nil {
		return err
	}
	data, err := content.ReadBlob(ctx, s.store.Content(), desc)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("decode %s: %v", desc.Digest, err))
	}
	return nil
}

// checkDocument refuses a document that is too large to be read into memory. What
// counts is its size in the store: the one in a descriptor is a stranger's claim.
func (s *Service) checkDocument(ctx context.Context, desc ocispec.Descriptor) error {
	info, err := s.store.Content().Info(ctx, desc.Digest)
	if err != nil {
		return err
	}
	if info.Size > maxDocument {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s is too large: %d bytes", desc.Digest, info.Size))
	}
	return nil
}

// children lists what a manifest or an index refers to.
func (s *Service) children(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if images.IsManifestType(desc.MediaType) || images.IsIndexType(desc.MediaType) {
		if err := s.checkDocument(ctx, desc); err != nil {
			return nil, err
		}
	}
	return images.Children(ctx, s.store.Content(), desc)
}

// once passes over what was visited before. It is for walks of one goroutine.
func once(next images.HandlerFunc) images.HandlerFunc {
	seen := map[digest.Digest]bool{}
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if seen[desc.Digest] {
			return nil, images.ErrSkipDesc
		}
		seen[desc.Digest] = true
		return next(ctx, desc)
	}
}

// size is what an image takes on disk: its blobs that are here, and its unpacked
// layers.
func (s *Service) size(ctx context.Context, target ocispec.Descriptor, diffIDs []digest.Digest) (int64, error) {
	blobs, err := s.contentSize(ctx, target)
	if err != nil {
		return 0, err
	}
	unpacked, err := s.unpackedSizes(ctx, diffIDs)
	if err != nil {
		return 0, err
	}
	for _, n := range unpacked {
		blobs += n
	}
	return blobs, nil
}

func (s *Service) contentSize(ctx context.Context, target ocispec.Descriptor) (int64, error) {
	var total int64
	err := s.walkPresent(ctx, target, func(_ ocispec.Descriptor, size int64) { total += size })
	return total, err
}

// walkPresent visits every blob below target that is here, once, with its real size.
func (s *Service) walkPresent(ctx context.Context, target ocispec.Descriptor, visit func(ocispec.Descriptor, int64)) error {
	return images.Walk(ctx, once(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		info, err := s.store.Content().Info(ctx, desc.Digest)
		if errdefs.IsNotFound(err) {
			return nil, images.ErrSkipDesc
		}
		if err != nil {
			return nil, err
		}
		visit(desc, info.Size)
		if info.Size > maxDocument && (images.IsManifestType(desc.MediaType) || images.IsIndexType(desc.MediaType)) {
			return nil, images.ErrSkipDesc
		}
		return images.Children(ctx, s.store.Content(), desc)
	}), target)
}

// unpackedSizes gives what each layer takes on disk unpacked, 0 where it is not.
func (s *Service) unpackedSizes(ctx context.Context, diffIDs []digest.Digest) ([]int64, error) {
	chain := identity.ChainIDs(append([]digest.Digest(nil), diffIDs...))
	sizes := make([]int64, len(chain))
	for i, id := range chain {
		usage, err := s.store.Snapshotter().Usage(ctx, id.String())
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		sizes[i] = usage.Size
	}
	return sizes, nil
}
