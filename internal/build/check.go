package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/check"
)

// settling is how long after the last build BuildKit may still be giving things back.
const settling = 10 * time.Second

// Busy tells whether something is built, or was a moment ago.
func (s *Service) Busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active > 0 || time.Since(s.ended) < settling
}

// Runs tells whether a running step may have this id: while something is built, any.
func (s *Service) Runs(id string) bool {
	if !s.Busy() {
		return false
	}
	_, err := os.Lstat(filepath.Join(s.o.ExecRoot, id))
	return err == nil
}

// Leaks tells of folders and mounts of steps while nothing is built.
func (s *Service) Leaks(context.Context) ([]check.Leak, error) {
	if s.Busy() {
		return nil, nil
	}
	var leaks []check.Leak
	for _, root := range []string{s.o.ExecRoot, s.o.Temp, s.o.Root} {
		if root == "" {
			continue
		}
		points, err := check.MountsBelow(root)
		if err != nil {
			return nil, err
		}
		for _, p := range points {
			leaks = append(leaks, check.Leak{
				Finding: api.Finding{Kind: "mount", Name: p, Problem: "a build left it"},
				There:   func() bool { return check.IsMounted(p) }, Owned: s.Busy,
				Mend: func(context.Context) error { return mount.UnmountAll(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) },
			})
		}
	}
	entries, err := os.ReadDir(s.o.ExecRoot)
	if errors.Is(err, os.ErrNotExist) {
		return leaks, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		dir := filepath.Join(s.o.ExecRoot, e.Name())
		leaks = append(leaks, check.Leak{
			Finding: api.Finding{Kind: "build folder", Name: dir, Problem: "of a build step that does not run"},
			There:   func() bool { _, err := os.Lstat(dir); return err == nil }, Owned: s.Busy,
			Mend: func(ctx context.Context) error { return removeStep(ctx, s.o, e.Name()) },
		})
	}
	return leaks, nil
}
