package store

import (
	"context"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// withNamespace keeps a namespace that the caller chose: BuildKit's history has one
// of its own.
func withNamespace(ctx context.Context) context.Context {
	if _, ok := namespaces.Namespace(ctx); ok {
		return ctx
	}
	return namespaces.WithNamespace(ctx, Namespace)
}

type namespacedContent struct{ next content.Store }

func (c namespacedContent) Info(ctx context.Context, dgst digest.Digest) (content.Info, error) {
	return c.next.Info(withNamespace(ctx), dgst)
}

func (c namespacedContent) Update(ctx context.Context, info content.Info, fields ...string) (content.Info, error) {
	return c.next.Update(withNamespace(ctx), info, fields...)
}

func (c namespacedContent) Walk(ctx context.Context, fn content.WalkFunc, filters ...string) error {
	return c.next.Walk(withNamespace(ctx), fn, filters...)
}

func (c namespacedContent) Delete(ctx context.Context, dgst digest.Digest) error {
	return c.next.Delete(withNamespace(ctx), dgst)
}

func (c namespacedContent) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	return c.next.ReaderAt(withNamespace(ctx), desc)
}

func (c namespacedContent) Status(ctx context.Context, ref string) (content.Status, error) {
	return c.next.Status(withNamespace(ctx), ref)
}

func (c namespacedContent) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	return c.next.ListStatuses(withNamespace(ctx), filters...)
}

func (c namespacedContent) Abort(ctx context.Context, ref string) error {
	return c.next.Abort(withNamespace(ctx), ref)
}

func (c namespacedContent) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	w, err := c.next.Writer(withNamespace(ctx), opts...)
	if err != nil {
		return nil, err
	}
	return namespacedWriter{w}, nil
}

type namespacedWriter struct{ content.Writer }

func (w namespacedWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	return w.Writer.Commit(withNamespace(ctx), size, expected, opts...)
}

type namespacedLeases struct{ next leases.Manager }

func (l namespacedLeases) Create(ctx context.Context, opts ...leases.Opt) (leases.Lease, error) {
	return l.next.Create(withNamespace(ctx), opts...)
}

func (l namespacedLeases) Delete(ctx context.Context, lease leases.Lease, opts ...leases.DeleteOpt) error {
	return l.next.Delete(withNamespace(ctx), lease, opts...)
}

func (l namespacedLeases) List(ctx context.Context, filters ...string) ([]leases.Lease, error) {
	return l.next.List(withNamespace(ctx), filters...)
}

func (l namespacedLeases) AddResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	return l.next.AddResource(withNamespace(ctx), lease, r)
}

func (l namespacedLeases) DeleteResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	return l.next.DeleteResource(withNamespace(ctx), lease, r)
}

func (l namespacedLeases) ListResources(ctx context.Context, lease leases.Lease) ([]leases.Resource, error) {
	return l.next.ListResources(withNamespace(ctx), lease)
}

type namespacedSnapshotter struct{ next snapshots.Snapshotter }

func (s namespacedSnapshotter) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	return s.next.Stat(withNamespace(ctx), key)
}

func (s namespacedSnapshotter) Update(ctx context.Context, info snapshots.Info, fields ...string) (snapshots.Info, error) {
	return s.next.Update(withNamespace(ctx), info, fields...)
}

func (s namespacedSnapshotter) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.next.Usage(withNamespace(ctx), key)
}

func (s namespacedSnapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.next.Mounts(withNamespace(ctx), key)
}

func (s namespacedSnapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.next.Prepare(withNamespace(ctx), key, parent, opts...)
}

func (s namespacedSnapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.next.View(withNamespace(ctx), key, parent, opts...)
}

func (s namespacedSnapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return s.next.Commit(withNamespace(ctx), name, key, opts...)
}

func (s namespacedSnapshotter) Remove(ctx context.Context, key string) error {
	return s.next.Remove(withNamespace(ctx), key)
}

func (s namespacedSnapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.next.Walk(withNamespace(ctx), fn, filters...)
}

func (s namespacedSnapshotter) Cleanup(ctx context.Context) error {
	if c, ok := s.next.(snapshots.Cleaner); ok {
		return c.Cleanup(withNamespace(ctx))
	}
	return nil
}

// Close does nothing: the Store owns the snapshotter, its users only borrow it.
func (s namespacedSnapshotter) Close() error { return nil }

type namespacedDiffer struct{ next diff.Comparer }

func (d namespacedDiffer) Compare(ctx context.Context, lower, upper []mount.Mount, opts ...diff.Opt) (ocispec.Descriptor, error) {
	return d.next.Compare(withNamespace(ctx), lower, upper, opts...)
}

// imageStore tells the image service about every change, whoever makes it.
type imageStore struct {
	next    images.Store
	changed func(name string)
	replace func(ctx context.Context, old, target images.Image) error
}

func newImageStore(next images.Store) *imageStore {
	return &imageStore{
		next:    next,
		changed: func(string) {},
		replace: func(context.Context, images.Image, images.Image) error { return nil },
	}
}

func (s *imageStore) Get(ctx context.Context, name string) (images.Image, error) {
	return s.next.Get(withNamespace(ctx), name)
}

func (s *imageStore) List(ctx context.Context, filters ...string) ([]images.Image, error) {
	return s.next.List(withNamespace(ctx), filters...)
}

func (s *imageStore) Create(ctx context.Context, img images.Image) (images.Image, error) {
	created, err := s.next.Create(withNamespace(ctx), img)
	if err == nil {
		s.changed(img.Name)
	}
	return created, err
}

func (s *imageStore) Update(ctx context.Context, img images.Image, fields ...string) (images.Image, error) {
	ctx = withNamespace(ctx)
	if old, err := s.next.Get(ctx, img.Name); err == nil && old.Target.Digest != img.Target.Digest {
		if err := s.replace(ctx, old, img); err != nil {
			return images.Image{}, err
		}
	}
	updated, err := s.next.Update(ctx, img, fields...)
	if err == nil {
		s.changed(img.Name)
	}
	return updated, err
}

func (s *imageStore) Delete(ctx context.Context, name string, opts ...images.DeleteOpt) error {
	err := s.next.Delete(withNamespace(ctx), name, opts...)
	if err == nil {
		s.changed(name)
	}
	return err
}
