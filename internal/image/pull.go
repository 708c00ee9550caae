package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"muelle/api"
	"muelle/internal/remote"
)

// PullOptions are those of POST /images/create?fromImage.
type PullOptions struct {
	Platform string // "os/arch[/variant]", the host's where empty
	Auth     *registry.AuthConfig
	Progress func(jsonstream.Message) // called by one goroutine at a time; may be nil
}

// Pull fetches an image from its registry, or from a mirror of it, and unpacks its
// layers while others still arrive. What a failed or cancelled pull has stored is
// garbage.
func (s *Service) Pull(ctx context.Context, ref string, o PullOptions) (err error) {
	named, err := parsePull(ref)
	if err != nil {
		return err
	}
	platform, matcher, err := s.pullPlatform(o.Platform)
	if err != nil {
		return err
	}
	ctx, release, err := s.store.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	resolver := s.remote.Resolver(o.Auth, nil)
	name, target, err := resolver.Resolve(ctx, named.String())
	if err != nil {
		return remote.Explain(named, "pull", err)
	}
	report := newPullReport(o.Progress)
	report.status(tagOrDigest(named), "Pulling from "+reference.Path(named))
	fresh, err := s.isComplete(ctx, named, target, matcher)
	if err != nil {
		return err
	}
	if !fresh {
		fetcher, err := resolver.Fetcher(ctx, name)
		if err != nil {
			return remote.Explain(named, "pull", err)
		}
		if err := s.fetch(ctx, fetcher, target, matcher, report); err != nil {
			return explainFetch(named, platform, err)
		}
		if err := s.namePulled(ctx, named, target); err != nil {
			return err
		}
	}
	return s.reportPulled(ctx, named, target, fresh, report)
}

func parsePull(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	named = reference.TagNameOnly(named)
	if digested, ok := named.(reference.Canonical); ok {
		// With both, the digest decides; the tag would be a name for what it may no
		// longer point to.
		if named, err = reference.WithDigest(reference.TrimNamed(named), digested.Digest()); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
		}
	}
	return named, nil
}

func tagOrDigest(named reference.Named) string {
	switch n := named.(type) {
	case reference.Canonical:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	default:
		return ""
	}
}

func (s *Service) pullPlatform(wanted string) (string, platforms.MatchComparer, error) {
	if wanted == "" {
		return platforms.FormatAll(platforms.DefaultSpec()), s.platform, nil
	}
	platform, err := platforms.Parse(wanted)
	if err != nil {
		return "", nil, errdefs.ErrInvalidArgument.WithMessage("invalid platform: " + err.Error())
	}
	return platforms.FormatAll(platform), platforms.Only(platform), nil
}

// isComplete tells whether name points to target already, with every blob and
// unpacked layer in place.
func (s *Service) isComplete(ctx context.Context, name reference.Named, target ocispec.Descriptor, matcher platforms.MatchComparer) (bool, error) {
	names, _, err := s.index.load(ctx)
	if err != nil {
		return false, err
	}
	if names[name.String()].Target.Digest != target.Digest {
		return false, nil
	}
	available, _, _, missing, err := images.Check(ctx, s.store.Content(), target, matcher)
	if err != nil && !errdefs.IsNotFound(err) {
		return false, fmt.Errorf("check image %s: %w", target.Digest, err)
	}
	if !available || len(missing) > 0 {
		return false, nil
	}
	diffIDs, err := s.diffIDs(ctx, target, matcher)
	if err != nil {
		return false, err
	}
	_, err = s.store.Lower(ctx, chainOf(diffIDs))
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// fetch stores and unpacks target.
func (s *Service) fetch(ctx context.Context, fetcher remotes.Fetcher, target ocispec.Descriptor, matcher platforms.MatchComparer, report *pullReport) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u, err := s.unpacker(ctx, report.applier(s.store.Applier()),
		unpack.WithLimiter(semaphore.NewWeighted(s.downloads.Load())))
	if err != nil {
		return err
	}
	children := s.setChildLabels(s.children)
	children = images.LimitManifests(images.FilterPlatforms(children, matcher), matcher, 1)
	handler := images.Handlers(s.fetchHandler(fetcher, report), report.layers(children))
	dispatchErr := images.Dispatch(ctx, u.Unpack(handler), nil, target)
	if dispatchErr != nil {
		cancel()
	}
	_, unpackErr := u.Wait()
	// One of them cancels the other: the cause is the one that is no cancellation.
	if dispatchErr != nil && !errors.Is(dispatchErr, context.Canceled) || unpackErr == nil {
		return dispatchErr
	}
	return unpackErr
}

func (s *Service) fetchHandler(fetcher remotes.Fetcher, report *pullReport) images.HandlerFunc {
	ingester := report.ingester(s.store.Content())
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if err := desc.Digest.Validate(); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid digest %q: %v", desc.Digest, err))
		}
		if !images.IsLayerType(desc.MediaType) && desc.Size > maxDocument {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s is too large: %d bytes", desc.Digest, desc.Size))
		}
		// A manifest does not tell the daemon which URLs to fetch.
		desc.URLs = nil
		err := s.download(ctx, ingester, fetcher, desc)
		switch {
		case errdefs.IsAlreadyExists(err):
			report.exists(desc)
			return nil, nil
		case err == nil:
			return nil, nil
		}
		abortErr := s.store.Content().Abort(context.WithoutCancel(ctx), remotes.MakeRefKey(ctx, desc))
		if errdefs.IsNotFound(abortErr) {
			abortErr = nil
		}
		if errdefs.IsFailedPrecondition(err) && images.IsLayerType(desc.MediaType) {
			err = fmt.Errorf("filesystem layer verification failed for digest %s: %w", desc.Digest, err)
		}
		return nil, errors.Join(err, abortErr)
	}
}

// download begins a layer's download again, where it stopped, while the registry cannot
// be reached or has trouble of its own.
func (s *Service) download(ctx context.Context, ingester content.Ingester, fetcher remotes.Fetcher, desc ocispec.Descriptor) error {
	for attempt := int64(1); ; attempt++ {
		err := remotes.Fetch(ctx, ingester, fetcher, desc)
		if err == nil || !images.IsLayerType(desc.MediaType) || attempt >= s.attempts.Load() || !passing(ctx, err) {
			return err
		}
		pause := time.Duration(attempt) * s.delay
		s.log.Info("download failed, it is tried again", "layer", desc.Digest, "attempt", attempt, "pause", pause, "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// passing tells whether what failed may work a moment later: the connection broke, or
// the registry answered with a status that says so.
func passing(ctx context.Context, err error) bool {
	var status remoteerrors.ErrUnexpectedStatus
	var network net.Error
	switch {
	case ctx.Err() != nil:
		return false
	case errors.As(err, &status):
		return status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests || status.StatusCode == http.StatusRequestTimeout
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return true
	}
	return errdefs.IsUnavailable(err)
}

// explainFetch words what went wrong after the name was resolved.
func explainFetch(name reference.Named, platform string, err error) error {
	if errdefs.IsNotFound(err) {
		if errors.Is(err, errNoPlatform) {
			return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no matching manifest for %s in the manifest list entries", platform))
		}
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("pull %s: the registry does not have all of it: %v", reference.FamiliarString(name), err))
	}
	return remote.Explain(name, "pull", err)
}

func (s *Service) namePulled(ctx context.Context, name reference.Named, target ocispec.Descriptor) error {
	s.retagged.Lock()
	defer s.retagged.Unlock()
	if err := s.setName(ctx, name.String(), target); err != nil {
		return err
	}
	// It may have been here for another platform.
	s.index.forget(target.Digest)
	if err := s.store.Images().Delete(ctx, danglingName(target.Digest)); err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete dangling name: %w", err)
	}
	return nil
}

func (s *Service) reportPulled(ctx context.Context, name reference.Named, target ocispec.Descriptor, fresh bool, report *pullReport) error {
	report.end()
	img, err := s.describe(ctx, entry{target: target})
	if err != nil {
		return err
	}
	familiar := reference.FamiliarString(name)
	report.status("", "Digest: "+target.Digest.String())
	if standin := img.Config.Config.Labels[api.LabelStandin]; standin != "" {
		report.status("", fmt.Sprintf("%s is a stand-in: %s", familiar, standin))
	}
	if fresh {
		report.status("", "Status: Image is up to date for "+familiar)
	} else {
		report.status("", "Status: Downloaded newer image for "+familiar)
	}
	s.publish(events.ActionPull, img, familiar, reference.FamiliarName(name))
	return nil
}

// errNoPlatform marks an index without a manifest for the wanted platform.
var errNoPlatform = errors.New("no manifest for the platform")

// layers announces the layers of every manifest, and turns "nothing left" of an
// index into an error of its own.
func (r *pullReport) layers(next images.HandlerFunc) images.HandlerFunc {
	return func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := next(ctx, desc)
		if images.IsIndexType(desc.MediaType) && (len(children) == 0 && err == nil || errdefs.IsNotFound(err)) {
			return nil, fmt.Errorf("%w: %w", errNoPlatform, errdefs.ErrNotFound)
		}
		if err == nil && images.IsManifestType(desc.MediaType) {
			r.announce(slices.DeleteFunc(slices.Clone(children), func(d ocispec.Descriptor) bool {
				return !images.IsLayerType(d.MediaType)
			}))
		}
		return children, err
	}
}
