package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CommitOptions describe an image that is made from a container.
type CommitOptions struct {
	Parent    ocispec.Descriptor // the manifest of the container's image
	Ref       string             // name:tag; empty for a dangling image
	Author    string             // empty: the parent's
	Comment   string             // of the history
	CreatedBy string             // of the history: the container's command
	Platform  ocispec.Platform
	Config    dockerspec.DockerOCIImageConfig
	// Layer writes what the container changed as a tar stream, and tells whether that
	// was anything.
	Layer func(ctx context.Context, w io.Writer) (some bool, err error)
}

// Commit makes an image of a container's changes on top of the container's image and
// gives its ID. The base's layers and history are kept.
func (s *Service) Commit(ctx context.Context, o CommitOptions) (id digest.Digest, err error) {
	name := ""
	if o.Ref != "" {
		named, err := parseTag(o.Ref)
		if err != nil {
			return "", err
		}
		name = named.String()
	}
	ctx, release, err := s.store.WithLease(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	config, layers, err := s.parent(ctx, o.Parent)
	if err != nil {
		return "", err
	}
	layer, diffID, err := s.commitLayer(ctx, o.Layer)
	if err != nil {
		return "", err
	}
	created := time.Now().UTC()
	if o.Author == "" {
		o.Author = config.Author
	}
	config.Created, config.Author, config.Config = &created, o.Author, o.Config
	if config.Architecture == "" {
		config.Platform = o.Platform
	}
	config.RootFS.Type = "layers"
	config.History = append(config.History, ocispec.History{
		Created: &created, CreatedBy: o.CreatedBy, Author: o.Author, Comment: o.Comment, EmptyLayer: diffID == "",
	})
	if diffID != "" {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		layers = append(layers, layer)
	}
	target, err := s.writeImage(ctx, config, layers...)
	if err != nil {
		return "", err
	}
	if err := s.adopt(ctx, target, name); err != nil {
		return "", err
	}
	img := s.known(ctx, entry{target: target})
	s.publish(events.ActionCreate, img, target.Digest.String(), target.Digest.String())
	if name != "" {
		s.publish(events.ActionTag, img, target.Digest.String(), o.Ref)
	}
	return target.Digest, nil
}

// parent reads what an image is to be put on top of.
func (s *Service) parent(ctx context.Context, desc ocispec.Descriptor) (config dockerspec.DockerOCIImage, layers []ocispec.Descriptor, err error) {
	if desc.Digest == "" {
		return config, nil, nil
	}
	var manifest ocispec.Manifest
	if err = s.readDocument(ctx, desc, &manifest); err == nil {
		err = s.readDocument(ctx, manifest.Config, &config)
	}
	if errdefs.IsNotFound(err) {
		err = errdefs.ErrNotFound.WithMessage("the container's image is not here any more: pull it again to commit the container")
	}
	return config, slices.Clone(manifest.Layers), err
}

// commitLayer stores a layer, compressed as images in registries are, and gives the
// digest of what is inside too: empty where nothing was written.
func (s *Service) commitLayer(ctx context.Context, write func(context.Context, io.Writer) (bool, error)) (desc ocispec.Descriptor, diffID digest.Digest, err error) {
	ingest, err := randomID()
	if err != nil {
		return desc, "", err
	}
	ref := "commit-" + ingest
	w, err := content.OpenWriter(ctx, s.store.Content(), content.WithRef(ref))
	if err != nil {
		return desc, "", fmt.Errorf("open blob: %w", err)
	}
	defer func() {
		w.Close()
		if err != nil || diffID == "" {
			err = errors.Join(err, s.store.Content().Abort(context.WithoutCancel(ctx), ref))
		}
	}()
	compressed := &counted{w: w}
	zip, err := gzip.NewWriterLevel(compressed, gzip.BestSpeed)
	if err != nil {
		return desc, "", err
	}
	plain := digest.Canonical.Digester()
	some, err := write(ctx, io.MultiWriter(zip, plain.Hash()))
	if err != nil || !some {
		return desc, "", err
	}
	if err := zip.Close(); err != nil {
		return desc, "", fmt.Errorf("store layer: %w", err)
	}
	diffID = plain.Digest()
	labels := content.WithLabels(map[string]string{"containerd.io/uncompressed": diffID.String()})
	if err := w.Commit(ctx, compressed.n, "", labels); err != nil && !errdefs.IsAlreadyExists(err) {
		return desc, "", fmt.Errorf("store layer: %w", err)
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: w.Digest(), Size: compressed.n}, diffID, nil
}

type counted struct {
	w io.Writer
	n int64
}

// Write counts what it passes on.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
