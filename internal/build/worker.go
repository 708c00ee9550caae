package build

import (
	"context"
	"path/filepath"
	"runtime/debug"
	"sync"

	ctdmetadata "github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/client"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker/base"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/network"
	"muelle/internal/store"
)

// workerOptions gives BuildKit the store's parts, each with the store's namespace
// and, where layers are named, BuildKit's names for them.
func workerOptions(ctx context.Context, o Options, steps *stepExecutor) (opt base.WorkerOpt, err error) {
	db := o.Store.DB()
	content := containerdsnapshot.NewContentStore(db.ContentStore(), store.Namespace)
	snapshotter := namedSnapshots{db.Snapshotter(store.SnapshotterName)}
	policy, err := o.Keep.policy(o.Root)
	if err != nil {
		return opt, err
	}
	id, err := base.ID(o.Root)
	if err != nil {
		return opt, err
	}
	md, err := metadata.NewStore(filepath.Join(o.Root, "metadata_v2.db"))
	if err != nil {
		return opt, err
	}
	return base.WorkerOpt{
		ID:              id,
		Root:            o.Root,
		Labels:          labels(ctx, o),
		Platforms:       []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())},
		GCPolicy:        policy,
		BuildkitVersion: client.BuildkitVersion{Package: version.Package, Version: version.Version, Revision: version.Revision},
		Executor:        steps,
		Snapshotter:     containerdsnapshot.NewSnapshotter(store.SnapshotterName, snapshotter, store.Namespace, nil),
		ContentStore:    content,
		Applier:         o.Store.Applier(),
		Differ:          walking.NewWalkingDiff(content),
		ImageStore:      o.Store.Images(),
		RegistryHosts:   o.Remote.Hosts(nil),
		LeaseManager:    leaseutil.WithNamespace(namedLeases{ctdmetadata.NewLeaseManager(db)}, store.Namespace),
		// By the store's collector: two collections must not run at the same time.
		GarbageCollect: func(ctx context.Context) (gc.Stats, error) { return nil, o.Store.CollectGarbage(ctx) },
		MetadataStore:  md,
		MountPoolRoot:  filepath.Join(o.Root, "cachemounts"),
	}, nil
}

// nameVersion sets what BuildKit tells clients of its version, which is meant to be
// filled at linking time; this program knows it from its own module list.
var nameVersion = sync.OnceFunc(func() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, m := range info.Deps {
		if m.Path == version.Package {
			version.Version = m.Version
		}
	}
})

// labels describe the worker. The host's address is what clients put for
// "host-gateway", as with Docker's builder.
func labels(ctx context.Context, o Options) map[string]string {
	l := map[string]string{
		"org.mobyproject.buildkit.worker.executor":    "muelle",
		"org.mobyproject.buildkit.worker.snapshotter": store.SnapshotterName,
	}
	if a := hostGateway(ctx, o.Networks); a != "" {
		l["org.mobyproject.buildkit.worker.moby.host-gateway-ip"] = a
	}
	return l
}

// hostGateway is the host's address on the default bridge, or empty.
func hostGateway(ctx context.Context, n *network.Service) string {
	if n == nil {
		return ""
	}
	bridge, err := n.Inspect(ctx, "bridge", false)
	if err != nil {
		return ""
	}
	for _, c := range bridge.IPAM.Config {
		if c.Gateway.IsValid() {
			return c.Gateway.String()
		}
	}
	return ""
}
