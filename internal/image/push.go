package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"

	"muelle/internal/remote"
)

// PushOptions are those of POST /images/{name}/push.
type PushOptions struct {
	Auth     *registry.AuthConfig
	Progress func(jsonstream.Message) // called by one goroutine at a time; may be nil
}

// Push sends an image to the registry that its name tells. Of an index whose other
// platforms are not here, the manifest for this host is sent.
func (s *Service) Push(ctx context.Context, ref string, o PushOptions) (err error) {
	name, err := parseTag(ref)
	if err != nil {
		return err
	}
	names, _, err := s.index.load(ctx)
	if err != nil {
		return err
	}
	record, ok := names[name.String()]
	if !ok {
		return errdefs.ErrNotFound.WithMessage("An image does not exist locally with the tag: " + reference.FamiliarName(name))
	}
	ctx, release, err := s.store.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	img, err := s.describe(ctx, entry{target: record.Target})
	if err != nil {
		return err
	}
	target, err := s.pushTarget(ctx, img)
	if err != nil {
		return err
	}
	report := newReport(o.Progress)
	report.status("", "The push refers to repository ["+name.Name()+"]")
	pusher, err := s.remote.Resolver(o.Auth, docker.NewInMemoryTracker()).Pusher(ctx, name.String()+"@"+target.Digest.String())
	if err != nil {
		return remote.Explain(name, "push", err)
	}
	for _, layer := range img.layers {
		report.layer(layer.Digest, "Preparing")
	}
	limit := semaphore.NewWeighted(s.uploads.Load())
	if err := remotes.PushContent(ctx, reportingPusher{pusher, report}, target, s.store.Content(), limit, platforms.All, nil); err != nil {
		return remote.Explain(name, "push", err)
	}
	return s.reportPushed(name, img, target, report)
}

// pushTarget is the image's target where all of it is here, else the manifest for
// this host.
func (s *Service) pushTarget(ctx context.Context, img *Image) (ocispec.Descriptor, error) {
	whole := func(desc ocispec.Descriptor) error {
		return images.Walk(ctx, once(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
			if _, err := s.store.Content().Info(ctx, d.Digest); err != nil {
				return nil, err
			}
			return s.children(ctx, d)
		}), desc)
	}
	err := whole(img.Target)
	if errdefs.IsNotFound(err) && img.Manifest.Digest != img.Target.Digest {
		return img.Manifest, whole(img.Manifest)
	}
	return img.Target, err
}

func (s *Service) reportPushed(name reference.NamedTagged, img *Image, target ocispec.Descriptor, report *report) error {
	aux, err := json.Marshal(map[string]any{"Tag": name.Tag(), "Digest": target.Digest.String(), "Size": target.Size})
	if err != nil {
		return fmt.Errorf("encode result of push: %w", err)
	}
	report.status("", fmt.Sprintf("%s: digest: %s size: %d", name.Tag(), target.Digest, target.Size))
	raw := json.RawMessage(aux)
	report.send(jsonstream.Message{Aux: &raw})
	s.publish(events.ActionPush, img, reference.FamiliarString(name), reference.FamiliarName(name))
	return nil
}

// reportingPusher reports each layer that it sends, or need not send.
type reportingPusher struct {
	next   remotes.Pusher
	report *report
}

func (p reportingPusher) Push(ctx context.Context, desc ocispec.Descriptor) (content.Writer, error) {
	w, err := p.next.Push(ctx, desc)
	if !images.IsLayerType(desc.MediaType) {
		return w, err
	}
	if errdefs.IsAlreadyExists(err) {
		p.report.layer(desc.Digest, "Layer already exists")
	}
	if err != nil {
		return nil, err
	}
	done := func(desc ocispec.Descriptor) { p.report.layer(desc.Digest, "Pushed") }
	return &reportingWriter{Writer: w, desc: desc, verb: "Pushing", report: p.report, done: done}, nil
}
