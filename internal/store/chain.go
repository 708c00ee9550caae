package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/gc"
	"github.com/opencontainers/go-digest"
)

// resourceChain is our type of collectible resource. It has no nodes of its own:
// being a collector is how the chains in use get among the collection's roots.
const resourceChain = gc.ResourceType(0x1e)

// labelUpperdir is set on every snapshot by the overlay snapshotter.
const labelUpperdir = "containerd.io/snapshot/overlay.upperdir"

// Lower gives the directories of an unpacked chain for overlay's lowerdir, top
// first; an empty chain ID gives one empty directory. The error is NotFound where
// the chain is not unpacked. After the first time it reads memory only; a caller
// that goes on to use the directories has called Retain before.
func (s *Store) Lower(ctx context.Context, chainID digest.Digest) ([]string, error) {
	if chainID == "" {
		return []string{filepath.Join(s.root, "empty")}, nil
	}
	return s.chains.lower(ctx, chainID)
}

// Retain keeps an unpacked chain from the garbage collector for user, a container's
// id, until ReleaseChain. It is kept in memory: users say it again after a restart,
// before the first collection ends.
func (s *Store) Retain(chainID digest.Digest, user string) { s.chains.retain(chainID, user) }

// ReleaseChain ends every Retain of user.
func (s *Store) ReleaseChain(user string) {
	if s.chains.release(user) {
		s.collector.schedule()
	}
}

// chains knows which unpacked chains are in use and where their layers lie.
type chains struct {
	snapshotter snapshots.Snapshotter

	mu    sync.Mutex
	dirs  map[digest.Digest][]string
	users map[digest.Digest]map[string]struct{}
	// sweeps are the collections that have not ended: the metadata's lock does not
	// cover their ends, so one may begin before another has ended.
	sweeps map[*collection]struct{}
}

func newChains(s snapshots.Snapshotter) *chains {
	return &chains{
		snapshotter: s, dirs: map[digest.Digest][]string{},
		users: map[digest.Digest]map[string]struct{}{}, sweeps: map[*collection]struct{}{},
	}
}

func (c *chains) lower(ctx context.Context, chainID digest.Digest) ([]string, error) {
	c.mu.Lock()
	dirs, ok := c.dirs[chainID]
	c.mu.Unlock()
	if ok {
		return slices.Clone(dirs), nil
	}
	for key := chainID.String(); key != ""; {
		info, err := c.snapshotter.Stat(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("find layer %s: %w", key, err)
		}
		dir := info.Labels[labelUpperdir]
		if dir == "" || info.Kind != snapshots.KindCommitted {
			return nil, fmt.Errorf("find layer %s: not a committed overlay snapshot", key)
		}
		dirs = append(dirs, dir)
		key = info.Parent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.threat(chainID) == nil {
		c.dirs[chainID] = dirs
	}
	return slices.Clone(dirs), nil
}

// forget has the directories looked up again.
func (c *chains) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.dirs)
}

// threat is a collection that may remove the chain, because it was not in use when
// that began. Called with the lock held.
func (c *chains) threat(chainID digest.Digest) *collection {
	for sweep := range c.sweeps {
		if _, ok := sweep.spared[chainID]; !ok {
			return sweep
		}
	}
	return nil
}

// retain waits for a collection that is deciding, unless it already spares the
// chain: otherwise the chain could go between mark and sweep.
func (c *chains) retain(chainID digest.Digest, user string) {
	if chainID == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for sweep := c.threat(chainID); sweep != nil; sweep = c.threat(chainID) {
		c.mu.Unlock()
		<-sweep.ended
		c.mu.Lock()
	}
	if c.users[chainID] == nil {
		c.users[chainID] = map[string]struct{}{}
	}
	c.users[chainID][user] = struct{}{}
}

// release tells whether a chain lost its last user.
func (c *chains) release(user string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	freed := false
	for chainID, users := range c.users {
		if _, ok := users[user]; !ok {
			continue
		}
		delete(users, user)
		if len(users) == 0 {
			delete(c.users, chainID)
			freed = true
		}
	}
	return freed
}

// StartCollection implements metadata.Collector.
func (c *chains) StartCollection(context.Context) (metadata.CollectionContext, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sweep := &collection{chains: c, spared: make(map[digest.Digest]struct{}, len(c.users)), ended: make(chan struct{})}
	for chainID := range c.users {
		sweep.spared[chainID] = struct{}{}
	}
	c.sweeps[sweep] = struct{}{}
	return sweep, nil
}

// ReferenceLabel implements metadata.Collector: no label refers to a chain's use.
func (c *chains) ReferenceLabel() string { return "" }

// collection is one run of the collector; spared are the chains that it knew to be
// in use when it began.
type collection struct {
	chains *chains
	spared map[digest.Digest]struct{}
	ended  chan struct{}
}

func (c *collection) All(func(gc.Node))                    {}
func (c *collection) Leased(string, string, func(gc.Node)) {}
func (c *collection) Remove(gc.Node)                       {}

// Active names the top snapshots of the chains in use; their parents follow.
func (c *collection) Active(namespace string, fn func(gc.Node)) {
	if namespace != Namespace {
		return
	}
	for chainID := range c.spared {
		fn(gc.Node{Type: metadata.ResourceSnapshot, Namespace: namespace, Key: SnapshotterName + "/" + chainID.String()})
	}
}

func (c *collection) Cancel() error { return c.Finish() }

// Finish forgets the directories of chains that may be gone now.
func (c *collection) Finish() error {
	all := c.chains
	all.mu.Lock()
	defer all.mu.Unlock()
	if _, active := all.sweeps[c]; !active {
		return nil
	}
	delete(all.sweeps, c)
	for chainID := range all.dirs {
		if _, ok := c.spared[chainID]; !ok {
			delete(all.dirs, chainID)
		}
	}
	close(c.ended)
	return nil
}
