package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/compressed"
)

// ImportOptions are those of `docker import`.
type ImportOptions struct {
	Ref      string   // name:tag; empty for a dangling image
	Message  string   // of the history
	Changes  []string // Dockerfile instructions for the configuration
	Platform string   // "os/arch[/variant]", the host's where empty
}

// Import makes an image of one layer from the tar of a root file system, compressed
// or not, and gives its ID.
func (s *Service) Import(ctx context.Context, o ImportOptions, r io.Reader) (id digest.Digest, err error) {
	platform := platforms.DefaultSpec()
	if o.Platform != "" {
		if platform, err = platforms.Parse(o.Platform); err != nil {
			return "", errdefs.ErrInvalidArgument.WithMessage("invalid platform: " + err.Error())
		}
	}
	name := ""
	if o.Ref != "" {
		named, err := parseTag(o.Ref)
		if err != nil {
			return "", err
		}
		name = named.String()
	}
	created := time.Now().UTC()
	config := dockerspec.DockerOCIImage{}
	config.Created = &created
	config.Platform = platform
	if err := ApplyChanges(&config.Config, o.Changes); err != nil {
		return "", err
	}
	ctx, release, err := s.store.WithLease(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	layer, err := s.importLayer(ctx, r)
	if err != nil {
		return "", err
	}
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layer.Digest}}
	config.History = []ocispec.History{{Created: &created, Comment: o.Message}}
	target, err := s.writeImage(ctx, config, layer)
	if err != nil {
		return "", err
	}
	if err := s.adopt(ctx, target, name); err != nil {
		return "", err
	}
	s.publish(events.ActionImport, s.known(ctx, entry{target: target}), target.Digest.String(), target.Digest.String())
	return target.Digest, nil
}

func (s *Service) importLayer(ctx context.Context, r io.Reader) (ocispec.Descriptor, error) {
	plain, err := compressed.Open(r)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer plain.Close()
	ingest, err := randomID()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	w, err := content.OpenWriter(ctx, s.store.Content(), content.WithRef("import-"+ingest))
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("open blob: %w", err)
	}
	defer w.Close()
	n, err := io.Copy(w, plain)
	if err != nil {
		return ocispec.Descriptor{}, readFailure(ctx, fmt.Errorf("store layer: %w", err))
	}
	if n == 0 {
		return ocispec.Descriptor{}, invalidArchive("it is empty")
	}
	// The blob may be there already, from an earlier import of the same archive.
	if err := w.Commit(ctx, n, ""); err != nil && !errdefs.IsAlreadyExists(err) {
		return ocispec.Descriptor{}, fmt.Errorf("store layer: %w", err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: w.Digest(), Size: n}, nil
}

// writeImage stores a configuration and a manifest over layers that are stored.
func (s *Service) writeImage(ctx context.Context, config dockerspec.DockerOCIImage, layers ...ocispec.Descriptor) (ocispec.Descriptor, error) {
	desc, err := s.writeDocument(ctx, ocispec.MediaTypeImageConfig, config)
	if err != nil {
		return desc, err
	}
	return s.writeDocument(ctx, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: desc, Layers: layers,
	})
}
