package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// openMarker lies in the store's directory while it is open: found at Open, it tells
// of a crash.
const openMarker = "open"

func (s *Store) markOpen() (crashed bool, err error) {
	f, err := os.OpenFile(filepath.Join(s.root, openMarker), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark store as open: %w", err)
	}
	return false, f.Close()
}

func (s *Store) markClosed() error {
	if err := os.Remove(filepath.Join(s.root, openMarker)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("mark store as closed: %w", err)
	}
	return nil
}

// recoverSession ends what another session had under way, and has the next collection look
// at everything.
func (s *Store) recoverSession(ctx context.Context) error {
	all, err := s.leases.List(ctx)
	if err != nil {
		return fmt.Errorf("recover leases: %w", err)
	}
	for _, lease := range all {
		session, ours := lease.Labels[labelTransfer]
		if !ours || session == s.session {
			continue
		}
		if err := s.leases.Delete(ctx, lease); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("recover leases: %w", err)
		}
	}
	return s.dirtyAll(ctx)
}

// dirtyAll makes the next collection look for files and directories that no metadata
// knows, as a crash leaves them: the collector looks only into a store of which
// something was removed, so one snapshot and one blob are.
func (s *Store) dirtyAll(ctx context.Context) error {
	const key, data = "recover", "recover"
	if _, err := s.snapshotter.Prepare(ctx, key, ""); err != nil && !errdefs.IsAlreadyExists(err) {
		return fmt.Errorf("recover snapshots: %w", err)
	}
	if err := s.snapshotter.Remove(ctx, key); err != nil {
		return fmt.Errorf("recover snapshots: %w", err)
	}
	desc := ocispec.Descriptor{Digest: digest.FromString(data), Size: int64(len(data))}
	if err := content.WriteBlob(ctx, s.content, key, strings.NewReader(data), desc); err != nil {
		return fmt.Errorf("recover blobs: %w", err)
	}
	if err := s.content.Delete(ctx, desc.Digest); err != nil {
		return fmt.Errorf("recover blobs: %w", err)
	}
	return nil
}
