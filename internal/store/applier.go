package store

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// applier unpacks the lowest layer, for which the snapshotter gives a bind mount,
// straight into its directory instead of mounting that first; everything else is
// containerd's.
type applier struct {
	content content.Provider
	next    diff.Applier
}

func newApplier(cs content.Provider) diff.Applier {
	return &applier{content: cs, next: apply.NewFileSystemApplier(cs)}
}

// Apply implements diff.Applier.
func (a *applier) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	ctx = withNamespace(ctx)
	if len(mounts) != 1 || mounts[0].Type != "bind" || mounts[0].ReadOnly() {
		return a.next.Apply(ctx, desc, mounts, opts...)
	}
	var config diff.ApplyConfig
	for _, opt := range opts {
		if err := opt(ctx, desc, &config); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("apply option: %w", err)
		}
	}
	if len(config.ProcessorPayloads) > 0 || config.SyncFs {
		return a.next.Apply(ctx, desc, mounts, opts...)
	}
	return a.applyDirectory(ctx, desc, mounts[0].Source, config.Progress)
}

func (a *applier) applyDirectory(ctx context.Context, desc ocispec.Descriptor, dir string, progress func(int64)) (ocispec.Descriptor, error) {
	blob, err := a.content.ReaderAt(ctx, desc)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("open layer %s: %w", desc.Digest, err)
	}
	defer blob.Close()
	compressed := &countingReader{next: content.NewReader(blob), progress: progress}
	chain := diff.NewProcessorChain(desc.MediaType, compressed)
	for {
		if chain, err = diff.GetProcessor(ctx, chain, nil); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("find processor for %s: %w", desc.MediaType, err)
		}
		defer chain.Close()
		if chain.MediaType() == ocispec.MediaTypeImageLayer {
			break
		}
	}
	digester := digest.Canonical.Digester()
	plain := &countingReader{next: io.TeeReader(chain, digester.Hash())}
	if _, err := archive.Apply(ctx, dir, plain); err != nil {
		return ocispec.Descriptor{}, err
	}
	// The diff ID covers what follows the archive's end too.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Size: plain.n, Digest: digester.Digest()}, nil
}

type countingReader struct {
	next     io.Reader
	n        int64
	progress func(int64)
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.next.Read(p)
	r.n += int64(n)
	if r.progress != nil {
		r.progress(r.n)
	}
	return n, err
}
