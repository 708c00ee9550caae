package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/compressed"
)

// Load stores the images of an archive as `docker save` writes it, compressed or not,
// of any age: manifest.json, or an OCI layout. It says of each image what it is
// called; quiet leaves out everything else, of which there is nothing today.
func (s *Service) Load(ctx context.Context, r io.Reader, quiet bool, progress func(jsonstream.Message)) (err error) {
	if progress == nil {
		progress = func(jsonstream.Message) {}
	}
	ctx, release, err := s.store.WithLease(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	plain, err := compressed.Open(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	b, err := s.readBundle(ctx, plain)
	if err != nil {
		return err
	}
	found, err := s.bundleImages(ctx, b)
	if err != nil {
		return err
	}
	for _, img := range found {
		if err := s.adopt(ctx, img.Target, img.Name); err != nil {
			return err
		}
		s.loaded(ctx, img, progress)
	}
	return nil
}

func (s *Service) loaded(ctx context.Context, record images.Image, progress func(jsonstream.Message)) {
	id := record.Target.Digest
	text, name := "Loaded image ID: "+id.String(), id.String()
	if record.Name != "" {
		if named, err := reference.ParseNormalizedNamed(record.Name); err == nil {
			name = reference.FamiliarString(named)
			text = "Loaded image: " + name
		}
	}
	progress(jsonstream.Message{Stream: text + "\n"})
	s.publish(events.ActionLoad, s.known(ctx, entry{target: record.Target}), id.String(), name)
}

// bundleImages lists what an archive holds, by name; without one where it has none.
func (s *Service) bundleImages(ctx context.Context, b *bundle) ([]images.Image, error) {
	if err := b.resolveLinks(); err != nil {
		return nil, err
	}
	switch {
	case b.layout != nil && b.index != nil:
		return s.layoutImages(ctx, b)
	case len(b.manifests) > 0:
		return s.dockerImages(ctx, b)
	default:
		return nil, invalidArchive("it has neither manifest.json nor an OCI layout")
	}
}

func (s *Service) layoutImages(ctx context.Context, b *bundle) ([]images.Image, error) {
	if b.layout.Version != ocispec.ImageLayoutVersion {
		return nil, invalidArchive("unsupported OCI layout version %q", b.layout.Version)
	}
	var found []images.Image
	for _, desc := range b.index.Manifests {
		if desc.Annotations["vnd.docker.reference.type"] == "attestation-manifest" {
			continue
		}
		if !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
			return nil, invalidArchive("unsupported media type %q in index.json", desc.MediaType)
		}
		info, err := s.store.Content().Info(ctx, desc.Digest)
		if errdefs.IsNotFound(err) {
			return nil, invalidArchive("manifest %s is missing", desc.Digest)
		}
		if err != nil {
			return nil, err
		}
		name, err := layoutName(desc)
		if err != nil {
			return nil, err
		}
		desc.Size = info.Size
		found = append(found, images.Image{Name: name, Target: desc})
	}
	if len(found) == 0 {
		return nil, invalidArchive("index.json lists no image")
	}
	return found, nil
}

// layoutName reads the name in a layout's annotations: Docker's and containerd's
// whole one, or the OCI one where it is more than a tag.
func layoutName(desc ocispec.Descriptor) (string, error) {
	if name := desc.Annotations[images.AnnotationImageName]; name != "" {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return "", invalidArchive("image name %q: %v", name, err)
		}
		return reference.TagNameOnly(named).String(), nil
	}
	if named, err := reference.ParseNamed(desc.Annotations[ocispec.AnnotationRefName]); err == nil {
		return reference.TagNameOnly(named).String(), nil
	}
	return "", nil
}

func (s *Service) dockerImages(ctx context.Context, b *bundle) ([]images.Image, error) {
	var found []images.Image
	for _, m := range b.manifests {
		target, err := s.dockerManifest(ctx, b, m)
		if err != nil {
			return nil, err
		}
		if len(m.RepoTags) == 0 {
			found = append(found, images.Image{Target: target})
		}
		for _, tag := range m.RepoTags {
			named, err := reference.ParseNormalizedNamed(tag)
			if err != nil {
				return nil, invalidArchive("image name %q: %v", tag, err)
			}
			found = append(found, images.Image{Name: reference.TagNameOnly(named).String(), Target: target})
		}
	}
	return found, nil
}

// dockerManifest writes the manifest that an old archive does not have.
func (s *Service) dockerManifest(ctx context.Context, b *bundle, m archiveManifest) (ocispec.Descriptor, error) {
	find := func(name string) (ocispec.Descriptor, error) {
		clean, err := entryName(name)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc, ok := b.blobs[clean]
		if !ok {
			return desc, invalidArchive("%s is missing", name)
		}
		return desc, nil
	}
	config, err := find(m.Config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	config.MediaType = images.MediaTypeDockerSchema2Config
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: images.MediaTypeDockerSchema2Manifest,
		Config: config, Layers: []ocispec.Descriptor{},
	}
	for _, name := range m.Layers {
		layer, err := find(name)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		if layer.MediaType, err = s.layerType(ctx, layer); err != nil {
			return ocispec.Descriptor{}, err
		}
		manifest.Layers = append(manifest.Layers, layer)
	}
	return s.writeDocument(ctx, manifest.MediaType, manifest)
}

// layerType looks into a layer for its compression.
func (s *Service) layerType(ctx context.Context, desc ocispec.Descriptor) (string, error) {
	blob, err := s.store.Content().ReaderAt(ctx, desc)
	if err != nil {
		return "", fmt.Errorf("open layer %s: %w", desc.Digest, err)
	}
	defer blob.Close()
	start := make([]byte, 10)
	n, err := io.ReadFull(content.NewReader(blob), start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read layer %s: %w", desc.Digest, err)
	}
	switch compression.DetectCompression(start[:n]) {
	case compression.Gzip:
		return images.MediaTypeDockerSchema2LayerGzip, nil
	case compression.Zstd:
		return images.MediaTypeDockerSchema2LayerZstd, nil
	default:
		return images.MediaTypeDockerSchema2Layer, nil
	}
}
