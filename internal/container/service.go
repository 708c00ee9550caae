// Package container is the noun "container": creating, starting, watching,
// restarting and removing containers, their mounts, health checks, execs and
// listings. A container is data guarded by its Service; processes belong to the
// runtime, names and addresses to the networks, layers to the images, and data that
// outlives a container to the volumes.
package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	mnet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/opencontainers/go-digest"

	"muelle/api"
	"muelle/internal/id"
	"muelle/internal/image"
	"muelle/internal/meta"
	"muelle/internal/network"
	"muelle/internal/probe/check"
)

// images is what containers need of the image service.
type images interface {
	Get(ctx context.Context, ref string) (*image.Image, error)
	Lower(ctx context.Context, img *image.Image, user string) ([]string, error)
	Release(user string)
	Hold(ref digest.Digest, containerID, containerName string, running bool)
	Unhold(containerID string)
	Commit(ctx context.Context, o image.CommitOptions) (digest.Digest, error)
}

// networks is what containers need of the network service.
type networks interface {
	Get(ref string) (mnet.Summary, error)
	Prepare(ctx context.Context, spec network.SandboxSpec) (*network.Sandbox, error)
	Release(ctx context.Context, containerID string) error
	Adopt(ctx context.Context, spec network.SandboxSpec, held map[string]*os.File, netns *os.File) error
	Spare(endpoints map[string]*mnet.EndpointSettings)
	Adopted(ctx context.Context) error
	Mend(ctx context.Context, containerID string, gone map[string]*mnet.EndpointSettings, keeper network.Keeper) (*network.Change, error)
	Renamed(containerID, name string)
	ChangePorts(ctx context.Context, containerID string, add, drop mnet.PortMap, keeper network.Keeper) (mnet.PortMap, error)
	SetReady(containerID string, ready bool) error
	Drain(containerID string) error
	Asked(containerID string, ports mnet.PortMap, exposed mnet.PortSet, all bool)
	Kernel(ctx context.Context, containerID string, ns *os.File) (*api.KernelNetwork, error)
	Capture(ctx context.Context, containerID string, ns *os.File, o network.CaptureOptions, begin func(names map[netip.Addr]string) io.Writer) (api.CaptureSummary, error)
	Connect(ctx context.Context, ref, containerID string, settings *mnet.EndpointSettings, keeper network.Keeper) (*network.Change, error)
	Disconnect(ctx context.Context, ref, containerID string, keeper network.Keeper) (*network.Change, error)
	// Displaced are the containers that Republish is for, after a change of a zone.
	Displaced() []string
	// Unfollowed are those for which a change of a zone was perhaps not finished;
	// ZonesFollowed says that it is.
	Unfollowed() []string
	ZonesFollowed() error
	Republish(ctx context.Context, containerID string, keeper network.Keeper) (*network.Change, error)
}

// volumes is what containers need of the volume service.
type volumes interface {
	Create(ctx context.Context, r volume.CreateRequest) (*volume.Volume, error)
	Acquire(ctx context.Context, name, user string) (*volume.Volume, error)
	Release(ctx context.Context, name, user string)
	Remove(ctx context.Context, name string, force bool) error
	Mount(ctx context.Context, name, user string) error
	Unmount(name, user string) error
	Settle() error
}

// Service keeps the containers of one instance. It is safe for concurrent use.
type Service struct {
	o   Options
	log *slog.Logger

	mu      sync.RWMutex
	byID    map[string]*entry
	byName  map[string]string // id by name
	execs   map[string]*exec
	pending []string // ids that somebody else starts after boot
	broken  []string // ids whose record cannot be read: left alone

	defaults atomic.Pointer[Defaults]
	timers   Timers
	logged   logged

	occupied map[string]int // ids whose files come or go

	stopping atomic.Bool // the daemon is ending: no more restarts by policy

	probes  *check.Thread // nil until the first probe; guarded by mu
	copyUps keyed         // one copy-up per volume at a time

	remapped sharedUser
	// apart is that of containers with the host's ids: see standsApart.
	apart sharedUser

	// ctx is the life of background work, wg counts it.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Open reads the records of containers, adopts those that run, handles the end of
// those that ended meanwhile, finishes removals that were cut off, and starts in the
// background what restart policies ask for.
func Open(ctx context.Context, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{o.Root, o.ExecRoot} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make folder of containers: %w", err)
		}
	}
	s := &Service{
		o: o, log: o.Log,
		byID: map[string]*entry{}, byName: map[string]string{}, execs: map[string]*exec{},
	}
	s.SetDefaults(o.Defaults)
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.load(ctx); err != nil {
		s.cancel()
		s.wg.Wait()
		return nil, err
	}
	s.background(s.compressLogs)
	return s, nil
}

// Close ends the background work and waits for it. Containers go on running.
func (s *Service) Close(ctx context.Context) error {
	s.cancel()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return errors.Join(s.remapped.close(), s.apart.close())
	case <-ctx.Done():
		return fmt.Errorf("close containers: %w", ctx.Err())
	}
}

// background runs f as work that Close waits for.
func (s *Service) background(f func()) {
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		f()
	}()
}

// newEntry prepares the data of a container; its folders are made by the caller.
func (s *Service) newEntry(cid string, volatile bool) *entry {
	dir := filepath.Join(s.o.Root, cid)
	return &entry{
		id: cid, dir: dir, layers: dir, execDir: filepath.Join(s.o.ExecRoot, cid),
		volatile: volatile, op: newLock(), changed: make(chan struct{}),
	}
}

// recordDir is where records of a container are.
func (c *entry) recordDir() string {
	if c.volatile {
		return c.execDir
	}
	return c.dir
}

// openRecords makes the folder of records.
func (c *entry) openRecords() (err error) {
	if c.records, err = meta.Open[record](c.recordDir(), recordVersion); err != nil {
		return err
	}
	c.states, err = meta.Open[state](c.recordDir(), recordVersion)
	return err
}

// save writes the state. mu is held: the order on disk is that of the changes. An
// error is logged, not returned: the change has happened.
func (s *Service) save(c *entry) {
	if err := c.states.Save(stateName, &c.st, false); err != nil && !c.removed {
		s.log.Error("save state", "container", c.id, "err", err)
	}
}

// find resolves a name, id or unique id prefix.
func (s *Service) find(ref string) (*entry, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.findLocked(ref)
}

func (s *Service) findLocked(ref string) (*entry, error) {
	if ref == "" {
		return nil, invalid("No container name or ID supplied")
	}
	if c, ok := s.byID[ref]; ok {
		return c, nil
	}
	if cid, ok := s.byName[strings.TrimPrefix(ref, "/")]; ok {
		if c, ok := s.byID[cid]; ok {
			return c, nil
		}
	}
	var found *entry
	for cid, c := range s.byID {
		if strings.HasPrefix(cid, ref) {
			if found != nil {
				return nil, invalid("multiple IDs found with provided prefix: %s", ref)
			}
			found = c
		}
	}
	if found == nil {
		return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	return found, nil
}

// ID resolves a name, id or unique id prefix to the full id.
func (s *Service) ID(ref string) (string, error) {
	c, err := s.find(ref)
	if err != nil {
		return "", err
	}
	return c.id, nil
}

// acquire takes the container's operation lock, unless ctx ends first.
func (s *Service) acquire(ctx context.Context, c *entry) error {
	select {
	case c.op <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
	}
}

// reserveName takes a name for a container, or a random one where it is empty.
func (s *Service) reserveName(name, cid string) (string, error) {
	name = strings.TrimPrefix(name, "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" {
		for retry := range 100 {
			name = id.RandomName(retry)
			if _, taken := s.byName[name]; !taken {
				s.byName[name] = cid
				return name, nil
			}
		}
		name = id.Short(cid)
	}
	if !id.ValidName(name) {
		return "", invalid("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	if owner, taken := s.byName[name]; taken {
		return "", conflict("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+name, owner)
	}
	s.byName[name] = cid
	return name, nil
}

func (s *Service) releaseName(name, cid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName[name] == cid {
		delete(s.byName, name)
	}
}

// all gives every container, in no order.
func (s *Service) all() []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*entry, 0, len(s.byID))
	for _, c := range s.byID {
		list = append(list, c)
	}
	return list
}

// errIgnored drops err where it is of the class that is says.
func errIgnored(err error, is func(error) bool) error {
	if err != nil && is(err) {
		return nil
	}
	return err
}

// keyed is a set of locks by name.
type keyed struct {
	mu    sync.Mutex
	locks map[string]*keyedLock
}

type keyedLock struct {
	mu    sync.Mutex
	users int
}

func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*keyedLock{}
	}
	l := k.locks[key]
	if l == nil {
		l = &keyedLock{}
		k.locks[key] = l
	}
	l.users++
	k.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, key)
		}
	}
}
