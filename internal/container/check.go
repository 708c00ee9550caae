package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/internal/check"
	"muelle/internal/id"
	"muelle/internal/meta"
)

// occupy notes that files of a container come or go, although it may not be known
// (yet, any more), until the function that it gives is called.
func (s *Service) occupy(cid string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.occupied == nil {
		s.occupied = map[string]int{}
	}
	s.occupied[cid]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.occupied[cid]--; s.occupied[cid] == 0 {
			delete(s.occupied, cid)
		}
	}
}

// Owns tells whether a container of this id is there, or comes or goes.
func (s *Service) Owns(cid string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[cid] != nil || s.occupied[cid] > 0
}

// Runs tells whether a container of this id has processes, or is about to, or is
// being cleaned up after them.
func (s *Service) Runs(cid string) bool {
	s.mu.RLock()
	c, occupied := s.byID[cid], s.occupied[cid] > 0
	s.mu.RUnlock()
	if c == nil || occupied {
		return occupied
	}
	if len(c.op) > 0 {
		return true // it is being started, or its end is being handled
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st.alive() || c.task != nil {
		return true
	}
	if c.cleaned != nil {
		select {
		case <-c.cleaned:
		default:
			return true
		}
	}
	return false
}

// Leaks tells of folders of containers that are not there, of files of runs that have
// ended, of mounts among them, and of records that cannot be read.
func (s *Service) Leaks(context.Context) ([]check.Leak, error) {
	var leaks []check.Leak
	for _, root := range []struct{ dir, kind string }{{s.o.Root, "container folder"}, {s.o.ExecRoot, "run folder"}} {
		list, err := os.ReadDir(root.dir)
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		for _, e := range list {
			if e.IsDir() && id.Valid(e.Name()) {
				leaks = append(leaks, s.folderLeaks(root.kind, root.dir, e.Name())...)
			}
		}
	}
	points, err := check.MountsBelow(s.o.ExecRoot)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		leaks = append(leaks, s.mountLeak(p))
	}
	for _, c := range s.all() {
		if l := s.recordLeak(c); l != nil {
			leaks = append(leaks, *l)
		}
	}
	return leaks, nil
}

func (s *Service) folderLeaks(kind, root, cid string) []check.Leak {
	dir := filepath.Join(root, cid)
	there := func() bool { _, err := os.Lstat(dir); return err == nil }
	for _, broken := range s.broken {
		if broken == cid {
			return []check.Leak{{
				Finding: api.Finding{Kind: "record", Name: dir, Problem: "the record of container " + id.Short(cid) + " cannot be read",
					Remedy: "a newer version may have written it; else remove the folder, if nothing in it is needed, and restart the daemon"},
				There: there,
			}}
		}
	}
	s.mu.RLock()
	c := s.byID[cid]
	s.mu.RUnlock()
	switch {
	case c == nil:
		return []check.Leak{{
			Finding: api.Finding{Kind: kind, Name: dir, Problem: "it belongs to no container"},
			There:   there, Owned: func() bool { return s.Owns(cid) },
			Mend: func(ctx context.Context) error { return s.removeLeftover(ctx, cid) },
		}}
	case kind == "run folder" && !c.volatile && !s.Runs(cid):
		return []check.Leak{{
			Finding: api.Finding{Kind: kind, Name: dir, Problem: "container " + c.name() + " does not run"},
			There:   there, Owned: func() bool { return s.Runs(cid) },
			Mend: func(ctx context.Context) error {
				return s.mendIdle(ctx, c, func() error { s.clearExecDir(c); return nil })
			},
		}}
	}
	return nil
}

// mendIdle does something to a container that does not run, and that nobody starts
// meanwhile.
func (s *Service) mendIdle(ctx context.Context, c *entry, mend func() error) error {
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	alive := c.st.alive() || c.task != nil
	c.mu.Unlock()
	if alive {
		return errdefs.ErrConflict.WithMessage("the container was started meanwhile")
	}
	return mend()
}

// removeLeftover removes what is left of a container that is not there.
func (s *Service) removeLeftover(ctx context.Context, cid string) error {
	defer s.occupy(cid)()
	c := s.newEntry(cid, false)
	err := s.o.Runtime.Clean(ctx, cid, c.execDir, s.group(c))
	for _, name := range c.anonymousNoted() {
		s.removeAnonymous(ctx, cid, name)
	}
	if err != nil {
		return err
	}
	return c.removeFolders()
}

// mountLeak: what is mounted below a run is its shared memory, or made by another
// runtime than our own.
func (s *Service) mountLeak(point string) check.Leak {
	cid, _, _ := strings.Cut(strings.TrimPrefix(point, s.o.ExecRoot+"/"), "/")
	return check.Leak{
		Finding: api.Finding{Kind: "mount", Name: point, Problem: "no container that runs uses it"},
		There:   func() bool { return check.IsMounted(point) },
		Owned:   func() bool { return s.Runs(cid) },
		Mend: func(ctx context.Context) error {
			s.mu.RLock()
			c := s.byID[cid]
			s.mu.RUnlock()
			if c == nil {
				return unmountAll(point)
			}
			return s.mendIdle(ctx, c, func() error { return unmountAll(point) })
		},
	}
}

// recordLeak: a record that was damaged since it was read is written again.
func (s *Service) recordLeak(c *entry) *check.Leak {
	damaged := func() error {
		_, err := meta.At[record](c.recordDir(), recordVersion).Load(recordName)
		return err
	}
	err := damaged()
	if err == nil {
		return nil
	}
	return &check.Leak{
		Finding: api.Finding{Kind: "record", Name: filepath.Join(c.recordDir(), recordName+".json"), Problem: fmt.Sprintf("the record of container %s is damaged: %s", c.name(), err)},
		There:   func() bool { return damaged() != nil },
		Owned: func() bool { // being removed
			s.mu.RLock()
			defer s.mu.RUnlock()
			return s.byID[c.id] == nil || len(c.op) > 0
		},
		Mend: func(ctx context.Context) error {
			if err := s.acquire(ctx, c); err != nil {
				return err
			}
			defer c.op.release()
			c.mu.Lock()
			rec, removed := c.rec, c.removed || c.removing
			c.mu.Unlock()
			if removed {
				return errdefs.ErrNotFound.WithMessage("the container was removed meanwhile")
			}
			return s.writeRecord(c, &rec)
		},
	}
}
