package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"muelle/internal/linux/du"
)

// Usage is what the store occupies on disk, in bytes. Every file of it is in one of
// the numbers.
type Usage struct {
	// Blobs by digest; Layers by the snapshot's name, which for an image's layer is its
	// chain ID.
	Blobs  map[digest.Digest]int64
	Layers map[string]int64
	// Open is what builds write to, and keep for the next one: folders of contexts, cache
	// mounts.
	Open int64
	// Unfinished is what is being downloaded or unpacked.
	Unfinished int64
	// Orphans are directories of snapshots that no record knows.
	Orphans int64
	// Metadata is the rest: databases and the folders themselves.
	Metadata int64
}

// Total is the sum.
func (u *Usage) Total() int64 {
	total := u.Open + u.Unfinished + u.Orphans + u.Metadata
	for _, n := range u.Blobs {
		total += n
	}
	for _, n := range u.Layers {
		total += n
	}
	return total
}

// measured remembers what committed snapshots take: they never change, and walking
// through all layers takes seconds.
type measured struct {
	mu    sync.Mutex
	sizes map[string]du.Size // by directory
}

// Usage measures the store. Layers are walked through once.
func (s *Store) Usage(ctx context.Context, c *du.Counter) (*Usage, error) {
	u := &Usage{Blobs: map[digest.Digest]int64{}, Layers: map[string]int64{}}
	own, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fmt.Errorf("measure store: %w", err)
	}
	if err := s.folderAlone(s.root, u); err != nil {
		return nil, err
	}
	for _, e := range own {
		path := filepath.Join(s.root, e.Name())
		switch e.Name() {
		case "content":
			err = s.blobUsage(ctx, c, path, u)
		case "snapshots":
			err = s.layerUsage(ctx, c, path, u)
		default:
			err = metadataUsage(ctx, c, path, u)
		}
		if err != nil {
			return nil, err
		}
	}
	return u, nil
}

func metadataUsage(ctx context.Context, c *du.Counter, path string, u *Usage) error {
	size, err := c.Tree(ctx, path)
	u.Metadata += size.Total()
	return err
}

// folderAlone counts a folder without what is in it.
func (s *Store) folderAlone(path string, u *Usage) error {
	n, err := du.Alone(path)
	u.Metadata += n
	return err
}

// blobUsage: content/blobs/ALGORITHM/HEX and content/ingest.
func (s *Store) blobUsage(ctx context.Context, c *du.Counter, root string, u *Usage) error {
	if err := s.folderAlone(root, u); err != nil {
		return err
	}
	for _, e := range entries(root) {
		path := filepath.Join(root, e)
		if e != "blobs" {
			size, err := c.Tree(ctx, path)
			if err != nil {
				return err
			}
			u.Unfinished += size.Files
			u.Metadata += size.Dirs
			continue
		}
		if err := s.folderAlone(path, u); err != nil {
			return err
		}
		for _, algorithm := range entries(path) {
			if err := s.folderAlone(filepath.Join(path, algorithm), u); err != nil {
				return err
			}
			for _, hex := range entries(filepath.Join(path, algorithm)) {
				size, err := c.Tree(ctx, filepath.Join(path, algorithm, hex))
				if err != nil {
					return err
				}
				u.Blobs[digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)] += size.Total()
			}
		}
	}
	return nil
}

func entries(dir string) (names []string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil // it vanished
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// layerUsage: snapshots/metadata.db and snapshots/snapshots/NUMBER. The directories
// are listed before the records: one that is new meanwhile is not taken for an orphan.
func (s *Store) layerUsage(ctx context.Context, c *du.Counter, root string, u *Usage) error {
	if err := s.folderAlone(root, u); err != nil {
		return err
	}
	// The first question makes the database, which is to be measured too.
	if _, err := s.snapshotDirs(ctx); err != nil {
		return err
	}
	for _, e := range entries(root) {
		path := filepath.Join(root, e)
		if e != "snapshots" {
			if err := metadataUsage(ctx, c, path, u); err != nil {
				return err
			}
			continue
		}
		if err := s.folderAlone(path, u); err != nil {
			return err
		}
		dirs := entries(path)
		known, err := s.snapshotDirs(ctx)
		if err != nil {
			return err
		}
		if err := s.eachLayer(ctx, c, path, dirs, known, u); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) eachLayer(ctx context.Context, c *du.Counter, path string, dirs []string, known map[string]snapshots.Info, u *Usage) error {
	for _, d := range dirs {
		dir := filepath.Join(path, d)
		info, ok := known[dir]
		size, err := s.layerSize(ctx, dir, ok && info.Kind == snapshots.KindCommitted)
		if err != nil {
			return err
		}
		total := c.Add(size).Total()
		switch {
		case ok && info.Kind == snapshots.KindCommitted:
			u.Layers[info.Name] += total
		case ok && !strings.HasPrefix(info.Name, snapshots.UnpackKeyPrefix+"-"):
			u.Open += total
		case ok || strings.HasPrefix(d, "new-"):
			u.Unfinished += total
		default:
			u.Orphans += total
		}
	}
	s.measured.mu.Lock()
	defer s.measured.mu.Unlock()
	for dir := range s.measured.sizes {
		if _, ok := known[dir]; !ok {
			delete(s.measured.sizes, dir)
		}
	}
	return nil
}

func (s *Store) layerSize(ctx context.Context, dir string, committed bool) (du.Size, error) {
	if committed {
		s.measured.mu.Lock()
		size, ok := s.measured.sizes[dir]
		s.measured.mu.Unlock()
		if ok {
			return size, nil
		}
	}
	size, err := du.Measure(ctx, dir)
	if err == nil && committed {
		s.measured.mu.Lock()
		defer s.measured.mu.Unlock()
		if s.measured.sizes == nil {
			s.measured.sizes = map[string]du.Size{}
		}
		s.measured.sizes[dir] = size
	}
	return size, err
}

// snapshotDirs gives the snapshots of every namespace by their directory, named as
// in their namespace.
func (s *Store) snapshotDirs(ctx context.Context) (map[string]snapshots.Info, error) {
	known := map[string]snapshots.Info{}
	err := s.overlay.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		// The metadata's database keeps them as NAMESPACE/NUMBER/NAME.
		if parts := strings.SplitN(info.Name, "/", 3); len(parts) == 3 {
			info.Name = parts[2]
		}
		known[filepath.Dir(info.Labels[labelUpperdir])] = info
		return nil
	})
	// Not found: nothing was ever unpacked.
	if err != nil && !errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("list layers: %w", err)
	}
	return known, nil
}

// Chains gives the chains that somebody retains, each with its parents.
func (s *Store) Chains(ctx context.Context) (map[string]bool, error) {
	s.chains.mu.Lock()
	var tops []string
	for chainID := range s.chains.users {
		tops = append(tops, chainID.String())
	}
	s.chains.mu.Unlock()
	used := map[string]bool{}
	for _, key := range tops {
		if err := s.chainAbove(ctx, key, used); err != nil {
			return nil, err
		}
	}
	return used, nil
}

// chainAbove adds a snapshot and its parents, as far as they are there.
func (s *Store) chainAbove(ctx context.Context, key string, used map[string]bool) error {
	for key != "" && !used[key] {
		info, err := s.snapshotter.Stat(ctx, key)
		if errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find layer %s: %w", key, err)
		}
		used[key] = true
		key = info.Parent
	}
	return nil
}
