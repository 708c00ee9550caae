package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/store"
)

// unpacker unpacks the layers of the manifest that it meets as they arrive, several
// at once: parents are tied together afterwards.
func (s *Service) unpacker(ctx context.Context, applier diff.Applier, opts ...unpack.UnpackerOpt) (*unpack.Unpacker, error) {
	opts = append([]unpack.UnpackerOpt{
		unpack.WithUnpackPlatform(unpack.Platform{
			// Which manifest is unpacked the caller has chosen.
			Platform:                platforms.All,
			SnapshotterKey:          store.SnapshotterName,
			Snapshotter:             s.store.Snapshotter(),
			SnapshotterCapabilities: []string{snapshots.RebaseCap},
			Applier:                 applier,
		}),
		unpack.WithDuplicationSuppressor(s.locks),
		unpack.WithUnpackLimiter(s.unpacks),
		unpack.WithFetchAllContent(),
	}, opts...)
	u, err := unpack.NewUnpacker(ctx, s.store.Content(), opts...)
	if err != nil {
		return nil, fmt.Errorf("prepare unpacking: %w", err)
	}
	return u, nil
}

// unpack unpacks what is in the content store already: the manifest for the host's
// platform, or the only one.
func (s *Service) unpack(ctx context.Context, manifest ocispec.Descriptor) error {
	u, err := s.unpacker(ctx, s.store.Applier())
	if err != nil {
		return err
	}
	present := images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if _, err := s.store.Content().Info(ctx, desc.Digest); err != nil {
			return nil, fmt.Errorf("find blob %s: %w", desc.Digest, err)
		}
		return s.children(ctx, desc)
	})
	dispatchErr := images.Dispatch(ctx, u.Unpack(present), nil, manifest)
	if _, err := u.Wait(); err != nil {
		return fmt.Errorf("unpack image: %w", err)
	}
	return dispatchErr
}

// unpackMissing unpacks an image whose chain was not found: one that was stored by
// another way than pull and load, or half removed.
func (s *Service) unpackMissing(ctx context.Context, img *Image, cause error) error {
	if !errdefs.IsNotFound(cause) {
		return cause
	}
	ctx, release, err := s.store.WithLease(ctx)
	if err != nil {
		return err
	}
	if err := s.unpack(ctx, img.Manifest); err != nil {
		return fmt.Errorf("%w (%w)", err, release())
	}
	return release()
}

// setChildLabels tells the collector what a manifest or index refers to.
func (s *Service) setChildLabels(next images.HandlerFunc) images.HandlerFunc {
	return images.SetChildrenMappedLabels(s.store.Content(), next, images.ChildGCLabels)
}

// adopt makes target, whose blobs are stored, an image: it labels the tree for the
// collector, unpacks the part for this host, and names it. It is called under a
// lease.
func (s *Service) adopt(ctx context.Context, target ocispec.Descriptor, name string) error {
	children := images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		sub, err := s.children(ctx, desc)
		if errdefs.IsNotFound(err) {
			// Platforms that did not come along.
			return nil, images.ErrSkipDesc
		}
		return sub, err
	})
	if err := images.Walk(ctx, once(s.setChildLabels(children)), target); err != nil {
		return fmt.Errorf("label image %s: %w", target.Digest, err)
	}
	manifest, document, err := s.manifest(ctx, target)
	if err != nil {
		return err
	}
	if len(document.Layers) > 0 {
		if err := s.unpack(ctx, manifest); err != nil {
			return err
		}
	}
	s.retagged.Lock()
	defer s.retagged.Unlock()
	return s.nameAdopted(ctx, target, name)
}

// nameAdopted names a new image, or keeps it as a dangling one where it came without
// a name.
func (s *Service) nameAdopted(ctx context.Context, target ocispec.Descriptor, name string) error {
	if name != "" {
		return s.setName(ctx, name, target)
	}
	_, targets, err := s.index.load(ctx)
	if err != nil {
		return err
	}
	if len(targets[target.Digest].records) > 0 {
		return nil
	}
	return s.makeDangling(ctx, target)
}
