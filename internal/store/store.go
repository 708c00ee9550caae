// Package store keeps images on disk with containerd's libraries, in process: a
// content store for blobs, overlay snapshots for unpacked layers, one bolt file of
// metadata with leases and garbage collection. Snapshots of layers are named by
// their chain ID. Everything it hands out works without a containerd namespace in
// the context.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// Namespace is the containerd namespace of everything in the store, unless a
// context names another.
const Namespace = "muelle"

// SnapshotterName is the snapshotter's name in labels such as
// containerd.io/gc.ref.snapshot.overlayfs; the unpacker knows it too.
const SnapshotterName = "overlayfs"

// Store is open from Open to Close. It is safe for concurrent use.
type Store struct {
	root        string
	session     string // of this Open, on its leases
	log         *slog.Logger
	db          *metadata.DB
	content     content.Store
	images      *imageStore
	leases      leases.Manager
	snapshotter snapshots.Snapshotter
	overlay     snapshots.Snapshotter
	applier     diff.Applier
	differ      diff.Comparer
	chains      *chains
	collector   *collector
	measured    measured
}

// Open opens the store below root, made if absent. The garbage collector runs for
// the first time soon after, so that what a crash left is removed.
func Open(ctx context.Context, root string, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make store: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(root, "empty"), 0o755); err != nil {
		return nil, fmt.Errorf("make store: %w", err)
	}
	bridgeLogrus(log)
	if err := decompressInProcess(); err != nil {
		return nil, err
	}
	blobs, err := local.NewStore(filepath.Join(root, "content"))
	if err != nil {
		return nil, fmt.Errorf("open content store: %w", err)
	}
	layers, err := overlay.NewSnapshotter(filepath.Join(root, "snapshots"), overlay.WithUpperdirLabel, overlay.AsynchronousRemove)
	if err != nil {
		return nil, fmt.Errorf("open overlay snapshotter: %w", err)
	}
	file, err := openBolt(filepath.Join(root, "metadata.db"))
	if err != nil {
		return nil, errors.Join(err, layers.Close())
	}
	db := metadata.NewDB(file, blobs, map[string]snapshots.Snapshotter{SnapshotterName: layers})
	if err := db.Init(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("initialise metadata: %w", err), file.Close(), layers.Close())
	}
	s := &Store{root: root, session: rand.Text(), log: log, db: db, overlay: layers}
	s.content = namespacedContent{db.ContentStore()}
	s.images = newImageStore(metadata.NewImageStore(db))
	s.leases = namespacedLeases{metadata.NewLeaseManager(db)}
	s.snapshotter = namespacedSnapshotter{db.Snapshotter(SnapshotterName)}
	s.applier = newApplier(s.content)
	s.differ = namespacedDiffer{walking.NewWalkingDiff(s.content)}
	s.chains = newChains(s.snapshotter)
	db.RegisterCollectibleResource(resourceChain, s.chains)
	crashed, err := s.markOpen()
	if err != nil {
		return nil, errors.Join(err, s.db.Close(), layers.Close())
	}
	s.collector = startCollector(db, log)
	if crashed {
		s.collector.before(s.recoverSession)
	}
	return s, nil
}

// openBolt waits only briefly for the file's lock: it is held by another daemon.
func openBolt(path string) (*bolt.DB, error) {
	options := *bolt.DefaultOptions
	options.Timeout = time.Second
	options.NoFreelistSync = true
	options.FreelistType = bolt.FreelistMapType
	options.NoStatistics = true
	db, err := bolt.Open(path, 0o600, &options)
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: in use by another daemon", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// Close waits for a running collection and closes the files.
func (s *Store) Close() error {
	s.collector.stop()
	err := errors.Join(s.db.Close(), s.overlay.Close())
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return s.markClosed()
}

// Root is the store's directory.
func (s *Store) Root() string { return s.root }

// Content is the store of blobs.
func (s *Store) Content() content.Store { return s.content }

// Images is the store of image names. Writers of every kind use it, so that
// OnImageChange and OnImageReplace see all changes.
func (s *Store) Images() images.Store { return s.images }

// Leases protects what is being written from the garbage collector.
func (s *Store) Leases() leases.Manager { return s.leases }

// Snapshotter holds unpacked layers, committed under their chain ID.
func (s *Store) Snapshotter() snapshots.Snapshotter { return s.snapshotter }

// DB is the metadata database, for who must register with its collector.
func (s *Store) DB() *metadata.DB { return s.db }

// Applier unpacks a layer's blob into a snapshot's mounts.
func (s *Store) Applier() diff.Applier { return s.applier }

// Differ makes a layer's blob of the difference between two sets of mounts.
func (s *Store) Differ() diff.Comparer { return s.differ }

// CollectGarbage runs the collector now and returns when what nothing refers to is
// gone from disk.
func (s *Store) CollectGarbage(ctx context.Context) error {
	return s.collector.run(ctx)
}

// OnImageChange has changed called after a name was created, updated or deleted.
// Set it before the store is used by others.
func (s *Store) OnImageChange(changed func(name string)) { s.images.changed = changed }

// OnImageReplace has replace called before name, which points to old, is made to
// point to target. Set it before the store is used by others.
func (s *Store) OnImageReplace(replace func(ctx context.Context, old images.Image, target images.Image) error) {
	s.images.replace = replace
}

// labelTransfer marks a lease of WithLease with the session that it belongs to.
const labelTransfer = "muelle.io/transfer"

// WithLease gives a context whose writes the collector spares until release is
// called, or a day has passed in case the process dies before.
func (s *Store) WithLease(ctx context.Context) (_ context.Context, release func() error, _ error) {
	lease, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithExpiration(24*time.Hour), leases.WithLabel(labelTransfer, s.session))
	if err != nil {
		return nil, nil, fmt.Errorf("create lease: %w", err)
	}
	release = func() error { return s.leases.Delete(context.WithoutCancel(ctx), lease) }
	return leases.WithLease(ctx, lease.ID), release, nil
}
