package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/internal/check"
	"muelle/internal/meta"
)

// Leaks tells of mounts that no container uses, of folders that are no volume, and of
// records that cannot be read.
func (s *Service) Leaks(context.Context) ([]check.Leak, error) {
	stale, err := s.Stale()
	if err != nil {
		return nil, err
	}
	var leaks []check.Leak
	for _, name := range stale {
		leaks = append(leaks, s.staleLeak(name))
	}
	list, err := os.ReadDir(s.root)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, e := range list {
		s.mu.Lock()
		r := s.volumes[e.Name()]
		s.mu.Unlock()
		switch {
		case !e.IsDir():
		case r == nil:
			leaks = append(leaks, s.folderLeak(e.Name()))
		default:
			if l := s.recordLeak(e.Name(), r); l != nil {
				leaks = append(leaks, *l)
			}
		}
	}
	return leaks, nil
}

func (s *Service) staleLeak(name string) check.Leak {
	dir := filepath.Join(s.root, name, dataFolder)
	return check.Leak{
		Finding: api.Finding{Kind: "mount", Name: dir, Problem: "volume " + name + " is mounted, and no container that runs uses it"},
		There:   func() bool { is, err := isMountPoint(dir); return err == nil && is },
		Owned:   func() bool { return !s.unused(name) },
		Mend:    func(context.Context) error { return s.Unmount(name, "") },
	}
}

// folderLeak: a removal that was cut off is finished; a folder with content and
// without a readable record is somebody's data, and becomes a volume again.
func (s *Service) folderLeak(name string) check.Leak {
	dir := filepath.Join(s.root, name)
	l := check.Leak{
		There: func() bool { _, err := os.Lstat(dir); return err == nil },
		Owned: func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.volumes[name] != nil || s.removing[dir]
		},
	}
	if strings.HasPrefix(name, removedPrefix) {
		l.Finding = api.Finding{Kind: "volume folder", Name: dir, Problem: "what is left of a volume that was removed"}
		l.Mend = func(context.Context) error { return removeAll(dir) }
		return l
	}
	if _, err := os.Stat(filepath.Join(dir, recordName+".json")); err == nil {
		l.Finding = api.Finding{Kind: "record", Name: dir, Problem: "the record of volume " + name + " cannot be read",
			Remedy: "a newer version may have written it; else remove " + filepath.Join(dir, recordName+".json") + " and restart: then check --repair makes a volume without options of the content"}
		return l
	}
	if _, err := os.Lstat(filepath.Join(dir, dataFolder)); errors.Is(err, os.ErrNotExist) {
		l.Finding = api.Finding{Kind: "volume folder", Name: dir, Problem: "neither content nor a record of a volume"}
		l.Mend = func(context.Context) error { return s.adopt(name) }
		return l
	}
	l.Finding = api.Finding{Kind: "volume folder", Name: dir, Problem: "content without a record of its volume", Remedy: "mending makes it the volume " + name + " again, without labels"}
	l.Mend = func(context.Context) error { return s.adopt(name) }
	return l
}

func (s *Service) adopt(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.volumes[name] != nil {
		return nil
	}
	dir := filepath.Join(s.root, name)
	info, err := os.Stat(filepath.Join(dir, dataFolder))
	if errors.Is(err, os.ErrNotExist) {
		return os.Remove(dir) // never more: what is not empty is not ours
	}
	if err != nil {
		return err
	}
	r := &record{CreatedAt: info.ModTime(), Driver: "local"}
	if err := meta.At[record](dir, recordVersion).Save(recordName, r, true); err != nil {
		return err
	}
	s.volumes[name] = r
	return nil
}

// recordLeak: a record that was damaged since it was read is written again.
func (s *Service) recordLeak(name string, r *record) *check.Leak {
	dir := filepath.Join(s.root, name)
	damaged := func() error {
		_, err := meta.At[record](dir, recordVersion).Load(recordName)
		return err
	}
	err := damaged()
	if err == nil {
		return nil
	}
	return &check.Leak{
		Finding: api.Finding{Kind: "record", Name: dir, Problem: fmt.Sprintf("the record of volume %s is damaged: %s", name, err)},
		There:   func() bool { return damaged() != nil },
		Owned: func() bool { // removed meanwhile
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.volumes[name] != r
		},
		Mend: func(context.Context) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.volumes[name] != r {
				return errdefs.ErrNotFound.WithMessage("the volume was removed meanwhile")
			}
			return meta.At[record](dir, recordVersion).Save(recordName, r, true)
		},
	}
}
