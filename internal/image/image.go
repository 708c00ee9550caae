// Package image is the noun "image": names and what they point to, loading, saving,
// importing, pulling and pushing, and the unpacked layers that containers start
// from. An image's ID is the digest of its target, an index or a manifest, as
// Docker's is with its containerd store. What it was asked once it answers from
// memory.
package image

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"muelle/internal/event"
	"muelle/internal/remote"
	"muelle/internal/store"
)

const (
	// DanglingPrefix begins the names of images that have no name:
	// moby-dangling@sha256:…, as Docker calls them in containerd's store. It is also
	// BuildKit's exporter option dangling-name-prefix.
	DanglingPrefix = "moby-dangling"
)

// Options are the parts of a Service.
type Options struct {
	Store  *store.Store
	Remote *remote.Resolver
	Bus    *event.Bus
	Log    *slog.Logger
	// MaxDownloads is how many layers one pull fetches at once, 3 by default, and
	// MaxUploads how many one push sends, 5 by default.
	MaxDownloads, MaxUploads int
	// MaxAttempts is how often the download of a layer is begun, 5 by default; RetryDelay
	// the pause before the second, which grows by itself for each further one, 1 s by default.
	MaxAttempts int
	RetryDelay  time.Duration
}

// Service keeps the images of one store. It is safe for concurrent use.
type Service struct {
	store     *store.Store
	remote    *remote.Resolver
	bus       *event.Bus
	log       *slog.Logger
	platform  platforms.MatchComparer
	downloads atomic.Int64
	uploads   atomic.Int64
	attempts  atomic.Int64
	delay     time.Duration

	index    *index
	locks    *keyLocker          // one fetch of a blob, one unpack of a chain at a time
	unpacks  *semaphore.Weighted // layers unpacked at once, over all pulls
	holdMu   sync.Mutex
	holds    map[string]hold // by container id
	retagged sync.Mutex      // one change of names at a time
}

// Image is one image for the platform that it was asked for. It is not changed
// after it was handed out.
type Image struct {
	ID       digest.Digest // of Target
	Target   ocispec.Descriptor
	Manifest ocispec.Descriptor
	Config   dockerspec.DockerOCIImage
	ChainID  digest.Digest // of the unpacked layers; empty where there are none
	Names    []string      // familiar: busybox:latest
	Size     int64         // blobs and unpacked layers

	layers       []ocispec.Descriptor
	configDigest digest.Digest
}

// SetLimits says how many layers one pull fetches at once, how often it begins each,
// and how many one push sends, from the next of them on.
func (s *Service) SetLimits(downloads, attempts, uploads int) {
	s.attempts.Store(int64(attempts))
	s.downloads.Store(int64(downloads))
	s.uploads.Store(int64(uploads))
}

// New gives the Service of a store. It reads nothing before it is first asked.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxDownloads <= 0 {
		o.MaxDownloads = 3
	}
	if o.MaxUploads <= 0 {
		o.MaxUploads = 5
	}
	s := &Service{
		store: o.Store, remote: o.Remote, bus: o.Bus, log: o.Log,
		delay:    cmp.Or(o.RetryDelay, time.Second),
		platform: platforms.Default(),
		index:    newIndex(o.Store),
		locks:    newKeyLocker(),
		unpacks:  semaphore.NewWeighted(3),
		holds:    map[string]hold{},
	}
	s.SetLimits(o.MaxDownloads, cmp.Or(o.MaxAttempts, 5), o.MaxUploads)
	o.Store.OnImageChange(s.index.changed)
	o.Store.OnImageReplace(s.keepDangling)
	return s
}

// Get finds an image by name, ID, unique ID prefix or name@digest.
func (s *Service) Get(ctx context.Context, ref string) (*Image, error) {
	e, err := s.index.resolve(ctx, ref)
	if err != nil {
		return nil, err
	}
	return s.describe(ctx, e)
}

// Lower gives the directories of an image's unpacked layers for overlay, top first,
// and retains them for user, a container's id, until Release. Layers that are not
// unpacked yet are unpacked now.
func (s *Service) Lower(ctx context.Context, img *Image, user string) ([]string, error) {
	s.store.Retain(img.ChainID, user)
	dirs, err := s.store.Lower(ctx, img.ChainID)
	if err == nil {
		return dirs, nil
	}
	if err := s.unpackMissing(ctx, img, err); err != nil {
		return nil, err
	}
	return s.store.Lower(ctx, img.ChainID)
}

// Release ends what Lower retained for user.
func (s *Service) Release(user string) { s.store.ReleaseChain(user) }

// publish tells of an image as Docker does, with its labels as attributes; img may be
// nil. Pull and push are events of a name, the others of an ID.
func (s *Service) publish(action events.Action, img *Image, actor, name string) {
	if s.bus == nil {
		return
	}
	attributes := map[string]string{}
	if img != nil {
		maps.Copy(attributes, img.Config.Config.Labels)
	}
	attributes["name"] = name
	s.bus.Publish(events.ImageEventType, action, actor, attributes)
}
