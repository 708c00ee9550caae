package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxArchiveEntries bounds the memory that an archive's list of files takes.
	maxArchiveEntries = 100_000
	blobFolder        = "blobs/sha256/"
)

// bundle is a read archive: its documents in memory, everything else in the content
// store.
type bundle struct {
	layout    *ocispec.ImageLayout
	index     *ocispec.Index
	manifests []archiveManifest
	blobs     map[string]ocispec.Descriptor // by path; media types are not known
	links     map[string]string
}

// archiveManifest is an element of manifest.json.
type archiveManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// readBundle stores the files of an archive. A file named by its digest must have
// it, and is skipped where it is stored already.
func (s *Service) readBundle(ctx context.Context, r io.Reader) (*bundle, error) {
	b := &bundle{blobs: map[string]ocispec.Descriptor{}, links: map[string]string{}}
	id, err := randomID()
	if err != nil {
		return nil, err
	}
	archive := tar.NewReader(r)
	for entries := 0; ; entries++ {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, readFailure(ctx, err)
		}
		if entries >= maxArchiveEntries {
			return nil, invalidArchive("more than %d entries", maxArchiveEntries)
		}
		name, err := entryName(header.Name)
		if err != nil {
			return nil, err
		}
		switch header.Typeflag {
		case tar.TypeSymlink:
			b.links[name] = path.Join(path.Dir(name), header.Linkname)
		case tar.TypeLink:
			b.links[name] = path.Clean(header.Linkname)
		case tar.TypeReg:
			if err := s.readEntry(ctx, b, archive, header.Size, name, fmt.Sprintf("load-%s-%d", id, entries)); err != nil {
				return nil, err
			}
		}
	}
}

// entryName refuses names that lead out of the archive. Nothing is ever written to
// them, but such an archive is not an image.
func entryName(name string) (string, error) {
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(clean, 0) {
		return "", invalidArchive("entry %q leads out of the archive", name)
	}
	return clean, nil
}

func (s *Service) readEntry(ctx context.Context, b *bundle, r io.Reader, size int64, name, ingest string) error {
	switch name {
	case ocispec.ImageLayoutFile:
		return decodeEntry(r, name, &b.layout)
	case ocispec.ImageIndexFile:
		return decodeEntry(r, name, &b.index)
	case "manifest.json":
		return decodeEntry(r, name, &b.manifests)
	case "repositories":
		return nil
	}
	desc, err := s.storeEntry(ctx, r, size, name, ingest)
	if err != nil {
		return readFailure(ctx, fmt.Errorf("store %s: %w", name, err))
	}
	b.blobs[name] = desc
	return nil
}

func (s *Service) storeEntry(ctx context.Context, r io.Reader, size int64, name, ingest string) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{Size: size}
	if encoded, ok := strings.CutPrefix(name, blobFolder); ok {
		dgst := digest.NewDigestFromEncoded(digest.SHA256, encoded)
		if err := dgst.Validate(); err != nil {
			return desc, invalidArchive("blob name %q is not a digest", name)
		}
		desc.Digest = dgst
	}
	w, err := content.OpenWriter(ctx, s.store.Content(), content.WithRef(ingest), content.WithDescriptor(desc))
	if errdefs.IsAlreadyExists(err) {
		return desc, nil
	}
	if err != nil {
		return desc, err
	}
	defer w.Close()
	// Copy takes a size of 0 for unknown.
	if err := content.Copy(ctx, w, io.LimitReader(r, size), size, desc.Digest); err != nil {
		if abortErr := s.store.Content().Abort(context.WithoutCancel(ctx), ingest); abortErr != nil && !errdefs.IsNotFound(abortErr) {
			return desc, errors.Join(err, abortErr)
		}
		return desc, err
	}
	desc.Digest = w.Digest()
	return desc, nil
}

func decodeEntry(r io.Reader, name string, into any) error {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return invalidArchive("read %s: %v", name, err)
	}
	if len(data) > maxDocument {
		return invalidArchive("%s is too large", name)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return invalidArchive("decode %s: %v", name, err)
	}
	return nil
}

// resolveLinks makes the links of old archives, one layer for several images, names
// of what they point to.
func (b *bundle) resolveLinks() error {
	for name := range b.links {
		target := name
		for range len(b.links) + 1 {
			next, ok := b.links[target]
			if !ok {
				break
			}
			target = next
		}
		desc, ok := b.blobs[target]
		if !ok {
			return invalidArchive("link %q points to %q, which is not in the archive", name, target)
		}
		b.blobs[name] = desc
	}
	return nil
}

// writeDocument stores a manifest or configuration made here.
func (s *Service) writeDocument(ctx context.Context, mediaType string, document any) (ocispec.Descriptor, error) {
	data, err := json.Marshal(document)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := content.WriteBlob(ctx, s.store.Content(), "document-"+desc.Digest.String(), bytes.NewReader(data), desc); err != nil {
		return desc, fmt.Errorf("store %s: %w", mediaType, err)
	}
	return desc, nil
}

// readFailure makes what is the archive's fault an invalid argument.
func readFailure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errdefs.IsFailedPrecondition(err) {
		return invalidArchive("%v", err)
	}
	return err
}

func invalidArchive(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage("invalid archive: " + fmt.Sprintf(format, args...))
}

func randomID() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make random id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
