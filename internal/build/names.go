package build

import (
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/buildkit/snapshot"
	"github.com/opencontainers/go-digest"
)

// BuildKit calls the snapshot of an unpacked layer
// "buildkit-layer-snapshot-v1-sha256-…"; everybody else on the same store calls it
// by its chain id. The wrappers below translate, so that a base image that was
// pulled is not unpacked a second time by a build, and the other way round.

// chainName is the store's name for one of BuildKit's.
func chainName(key string) string {
	if chain, ok := snapshot.ParseLayerSnapshotID(key); ok {
		return chain.String()
	}
	return key
}

// layerName is BuildKit's name for one of the store's.
func layerName(key string) string {
	if chain, err := digest.Parse(key); err == nil {
		return snapshot.LayerSnapshotID(chain)
	}
	return key
}

// namedSnapshots is the store's snapshotter under BuildKit's names.
type namedSnapshots struct{ snapshots.Snapshotter }

func (s namedSnapshots) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	info, err := s.Snapshotter.Stat(ctx, chainName(key))
	return translated(info, key), err
}

func (s namedSnapshots) Update(ctx context.Context, info snapshots.Info, fieldpaths ...string) (snapshots.Info, error) {
	key := info.Name
	info.Name, info.Parent = chainName(info.Name), chainName(info.Parent)
	info, err := s.Snapshotter.Update(ctx, info, fieldpaths...)
	return translated(info, key), err
}

func (s namedSnapshots) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	return s.Snapshotter.Usage(ctx, chainName(key))
}

func (s namedSnapshots) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.Snapshotter.Mounts(ctx, chainName(key))
}

func (s namedSnapshots) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.Prepare(ctx, chainName(key), chainName(parent), opts...)
}

func (s namedSnapshots) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.Snapshotter.View(ctx, chainName(key), chainName(parent), opts...)
}

func (s namedSnapshots) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	return s.Snapshotter.Commit(ctx, chainName(name), chainName(key), opts...)
}

func (s namedSnapshots) Remove(ctx context.Context, key string) error {
	return s.Snapshotter.Remove(ctx, chainName(key))
}

func (s namedSnapshots) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.Snapshotter.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		return fn(ctx, translated(info, layerName(info.Name)))
	}, filters...)
}

func translated(info snapshots.Info, name string) snapshots.Info {
	info.Name, info.Parent = name, layerName(info.Parent)
	return info
}

// namedLeases is the store's lease manager under BuildKit's names.
type namedLeases struct{ leases.Manager }

func (l namedLeases) AddResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	return l.Manager.AddResource(ctx, lease, resource(r, chainName))
}

func (l namedLeases) DeleteResource(ctx context.Context, lease leases.Lease, r leases.Resource) error {
	return l.Manager.DeleteResource(ctx, lease, resource(r, chainName))
}

func (l namedLeases) ListResources(ctx context.Context, lease leases.Lease) ([]leases.Resource, error) {
	rs, err := l.Manager.ListResources(ctx, lease)
	for i, r := range rs {
		rs[i] = resource(r, layerName)
	}
	return rs, err
}

func resource(r leases.Resource, name func(string) string) leases.Resource {
	if strings.HasPrefix(r.Type, "snapshots/") {
		r.ID = name(r.ID)
	}
	return r
}
