package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"muelle/api"
	"muelle/internal/check"
)

// BadBlob is a blob whose content is not what its digest says.
type BadBlob struct {
	Digest digest.Digest
	Path   string
	Is     digest.Digest // what it is
	Size   int64
}

// VerifyBlobs reads every blob and compares it with its digest. What is removed
// meanwhile is passed over.
func (s *Store) VerifyBlobs(ctx context.Context) (bad []BadBlob, read int, err error) {
	root := filepath.Join(s.root, "content", "blobs")
	for _, algorithm := range entries(root) {
		if !digest.Algorithm(algorithm).Available() {
			continue
		}
		for _, hex := range entries(filepath.Join(root, algorithm)) {
			if err := ctx.Err(); err != nil {
				return nil, read, err
			}
			b := BadBlob{Digest: digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex), Path: filepath.Join(root, algorithm, hex)}
			if b.Digest.Validate() != nil {
				continue
			}
			ok, err := b.verify()
			if err != nil {
				return nil, read, err
			}
			read++
			if !ok {
				bad = append(bad, b)
			}
		}
	}
	return bad, read, nil
}

func (b *BadBlob) verify() (ok bool, err error) {
	f, err := os.Open(b.Path)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("verify blob %s: %w", b.Digest, err)
	}
	defer f.Close()
	d := b.Digest.Algorithm().Digester()
	// An error of the disk is a corrupted blob too.
	if b.Size, err = io.Copy(d.Hash(), f); err == nil {
		b.Is = d.Digest()
	}
	return b.Is == b.Digest, nil
}

// DropBlob removes a blob with its records, so that it can be fetched again: where the
// file stayed, the next download would take it for what it had asked for.
func (s *Store) DropBlob(ctx context.Context, dgst digest.Digest) error {
	spaces, err := s.namespaces(ctx)
	if err != nil {
		return err
	}
	for _, ns := range spaces {
		err := s.db.ContentStore().Delete(namespaces.WithNamespace(ctx, ns), dgst)
		if err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("drop blob %s: %w", dgst, err)
		}
	}
	path := filepath.Join(s.root, "content", "blobs", dgst.Algorithm().String(), dgst.Encoded())
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("drop blob %s: %w", dgst, err)
	}
	return nil
}

func (s *Store) namespaces(ctx context.Context) ([]string, error) {
	var list []string
	err := s.db.View(func(tx *bolt.Tx) error {
		var err error
		list, err = metadata.NewNamespaceStore(tx).List(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	return list, nil
}

// Leaks tells of unpacked layers that no record knows, and of records whose layers are
// not there.
func (s *Store) Leaks(ctx context.Context) ([]check.Leak, error) {
	root := filepath.Join(s.root, "snapshots", "snapshots")
	dirs := entries(root)
	known, err := s.snapshotDirs(ctx)
	if err != nil {
		return nil, err
	}
	var leaks []check.Leak
	for _, d := range dirs {
		if _, ok := known[filepath.Join(root, d)]; !ok {
			leaks = append(leaks, s.directoryLeak(filepath.Join(root, d)))
		}
	}
	for dir, info := range known {
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			leaks = append(leaks, s.missingLeak(dir, info))
		}
	}
	unknown, err := s.unknownSnapshots(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range unknown {
		leaks = append(leaks, s.snapshotLeak(key))
	}
	return leaks, nil
}

func (s *Store) directoryLeak(dir string) check.Leak {
	return check.Leak{
		Finding: api.Finding{Kind: "layer", Name: dir, Problem: "the directory of a layer that no record knows"},
		There:   func() bool { _, err := os.Lstat(dir); return err == nil },
		Owned: func() bool {
			known, err := s.snapshotDirs(context.Background())
			_, ok := known[dir]
			return err != nil || ok
		},
		// It takes the snapshotter's lock: nothing is being made meanwhile.
		Mend: func(ctx context.Context) error {
			if err := s.overlay.(snapshots.Cleaner).Cleanup(ctx); err != nil {
				return err
			}
			if _, err := os.Lstat(dir); err == nil {
				return errors.New("it could not be removed")
			}
			return nil
		},
	}
}

// missingLeak: without its record an image's layer is unpacked again when it is used.
func (s *Store) missingLeak(dir string, info snapshots.Info) check.Leak {
	return check.Leak{
		Finding: api.Finding{Kind: "layer", Name: info.Name, Problem: "the layer's directory " + dir + " is missing", Remedy: "a layer with others on top stays: remove the images that have it and pull them again"},
		There: func() bool {
			_, err := os.Lstat(dir)
			return errors.Is(err, os.ErrNotExist)
		},
		Owned: func() bool {
			known, err := s.snapshotDirs(context.Background())
			_, ok := known[dir]
			return err != nil || !ok
		},
		Mend: func(ctx context.Context) error {
			if err := s.snapshotter.Remove(ctx, info.Name); err != nil {
				return err
			}
			s.chains.forget()
			return nil
		},
	}
}

// unknownSnapshots are those of the snapshotter that the metadata does not have.
func (s *Store) unknownSnapshots(ctx context.Context) ([]string, error) {
	var all []string // before the records: what is made meanwhile is in these first
	err := s.overlay.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		all = append(all, info.Name)
		return nil
	})
	if errdefs.IsNotFound(err) {
		return nil, nil // nothing was ever unpacked
	}
	if err != nil {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	spaces, err := s.namespaces(ctx)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, ns := range spaces {
		err := s.db.Snapshotter(SnapshotterName).Walk(namespaces.WithNamespace(ctx, ns), func(_ context.Context, info snapshots.Info) error {
			named[ns+"/"+info.Name] = true
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list layers of %s: %w", ns, err)
		}
	}
	var unknown []string
	for _, key := range all {
		if parts := strings.SplitN(key, "/", 3); len(parts) != 3 || !named[parts[0]+"/"+parts[2]] {
			unknown = append(unknown, key)
		}
	}
	return unknown, nil
}

func (s *Store) snapshotLeak(key string) check.Leak {
	unknown := func() bool {
		list, err := s.unknownSnapshots(context.Background())
		return err == nil && slices.Contains(list, key)
	}
	return check.Leak{
		Finding: api.Finding{Kind: "layer", Name: key, Problem: "an unpacked layer that nothing refers to"},
		There:   unknown,
		Mend: func(ctx context.Context) error {
			if err := s.dirtyAll(ctx); err != nil {
				return err
			}
			if err := s.CollectGarbage(ctx); err != nil {
				return err
			}
			if unknown() {
				return errors.New("the collector left it: something that is under way may use it")
			}
			return nil
		},
	}
}
