package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/filter"
)

// killPatience is how long a killed process may take to be gone.
const killPatience = 10 * time.Second

// Remove removes a container; with Force also a running one. Before it returns,
// name, addresses, ports, image and volumes are free; files go afterwards.
func (s *Service) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	if o.Link {
		return s.removeLink(ref)
	}
	begun := time.Now()
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	if o.Force {
		if err := s.endSession(context.WithoutCancel(ctx), c); err != nil {
			return err
		}
	}
	if err := s.beginRemoval(c, ref, o.Force); err != nil {
		return err
	}
	// A client that goes away stops nothing: a killed container that should have
	// removed itself would stay.
	ctx = context.WithoutCancel(ctx)
	err = s.endForRemoval(ctx, c)
	if err == nil {
		err = s.acquire(ctx, c)
	}
	if err == nil {
		err = s.removeEnded(ctx, c, o.Volumes)
		c.op.release()
	}
	if err != nil {
		c.mu.Lock()
		c.removing = false
		c.mu.Unlock()
		return err
	}
	s.timers.Delete.Since(begun)
	return nil
}

// beginRemoval marks c, so that nobody starts or removes it meanwhile.
func (s *Service) beginRemoval(c *entry, ref string, force bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.removed:
		return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	case c.removing:
		return conflict("removal of container %s is already in progress", ref)
	case c.loan != nil:
		return c.lent("remove")
	case !force && c.st.Status == ctypes.StatePaused:
		return conflict("cannot remove container %q: container is paused and must be unpaused first", "/"+c.rec.Name)
	case !force && c.st.running():
		return conflict("cannot remove container %q: container is %s: stop the container before removing or force remove", "/"+c.rec.Name, c.st.Status)
	}
	c.removing = true
	s.stopTimer(c)
	return nil
}

// endForRemoval kills what runs and waits for its end. A start that was under way
// when the removal began is waited for first.
func (s *Service) endForRemoval(ctx context.Context, c *entry) error {
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	c.op.release()
	c.mu.Lock()
	s.stopTimer(c) // a start that failed to come before the mark may have set one
	alive := c.st.alive()
	c.mu.Unlock()
	if !alive {
		return nil
	}
	return s.killAndWait(ctx, c, byRemoval)
}

// killAndWait ends a process for certain.
func (s *Service) killAndWait(ctx context.Context, c *entry, by Asker) error {
	return errIgnored(s.kill(ctx, c, by), errdefs.IsConflict)
}

// kill sends SIGKILL and waits for the end. ErrConflict: there was no process.
func (s *Service) kill(ctx context.Context, c *entry, by Asker) error {
	ended := c.endOfRun()
	if err := s.signal(ctx, c, syscall.SIGKILL, by); err != nil {
		if errdefs.IsConflict(err) {
			// Its end may be on the way to be recorded.
			waitFor(ctx, s.ctx, ended, int(killPatience/time.Second))
		}
		return err
	}
	timer := time.NewTimer(killPatience)
	defer timer.Stop()
	select {
	case <-ended:
		return nil
	case <-timer.C:
		return fmt.Errorf("could not kill container %s: its process did not end in %s", c.id, killPatience)
	case <-ctx.Done():
		return ctx.Err()
	}
}

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// endOfRun is closed when the run that is on has ended.
func (c *entry) endOfRun() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.st.alive() {
		return c.ended
	}
	return closedChan
}

// removeEnded takes a container that does not run out of the engine. op is held.
func (s *Service) removeEnded(ctx context.Context, c *entry, volumes bool) error {
	c.mu.Lock()
	if c.removed {
		c.mu.Unlock()
		return nil
	}
	c.removing = true
	rec, code := c.rec, c.st.ExitCode
	c.mu.Unlock()
	gone := s.occupy(c.id)
	defer func() {
		if gone != nil {
			gone()
		}
	}()
	if !volumes {
		if err := c.keepAnonymous(); err != nil {
			return err
		}
	}
	// Without its record the container does not exist for the next daemon, which
	// removes the folders if this one cannot.
	if err := c.records.Delete(recordName); err != nil {
		return err
	}
	if err := s.o.Networks.Release(ctx, c.id); err != nil {
		s.log.Error("release network", "container", c.id, "err", err)
	}
	s.o.Images.Unhold(c.id)
	s.o.Images.Release(c.id)
	s.o.UserNS.Pool.Release(c.id)
	s.releaseLabels(&rec)
	s.releaseVolumes(ctx, c.id, rec.Mounts, volumes)
	s.mu.Lock()
	delete(s.byID, c.id)
	if s.byName[rec.Name] == c.id {
		delete(s.byName, rec.Name)
	}
	s.pending = slices.DeleteFunc(s.pending, func(cid string) bool { return cid == c.id })
	for xid, x := range s.execs {
		if x.c == c && x.debug == nil { // a session's result is asked for after its end
			delete(s.execs, xid)
		}
	}
	s.mu.Unlock()
	s.event(c, events.ActionDestroy, nil)
	c.mu.Lock()
	c.removed = true
	pending := c.pending
	c.pending = nil
	cleaned := c.cleaned
	tell(&c.waiters, waited{code: code})
	tell(&c.gone, waited{code: code})
	c.notify()
	c.mu.Unlock()
	for _, a := range pending {
		a.finish(nil)
	}
	occupied := gone
	gone = nil
	s.background(func() {
		defer occupied()
		if cleaned != nil {
			<-cleaned // the runtime has its own files in the folder, and the mounts
		}
		s.endWriters(c)
		if err := c.removeFolders(); err != nil {
			s.log.Error("remove container's folders", "container", c.id, "err", err)
		}
		s.giveBack(c, &rec)
	})
	return nil
}

// Prune removes every container that does not run.
func (s *Service) Prune(ctx context.Context, f filter.Args) (ctypes.PruneReport, error) {
	report := ctypes.PruneReport{ContainersDeleted: []string{}}
	if err := f.Validate("label", "label!", "until"); err != nil {
		return report, err
	}
	until, err := untilTime(f)
	if err != nil {
		return report, err
	}
	for _, c := range s.all() {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		rec, st := c.snapshot()
		if st.running() || !until.IsZero() && rec.Created.After(until) || !f.MatchLabels("label", rec.Config.Labels) ||
			f.Has("label!") && f.MatchLabels("label!", rec.Config.Labels) {
			continue
		}
		size, err := c.sizeRw(ctx)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return report, err
		}
		if err := s.Remove(ctx, c.id, RemoveOptions{}); err != nil {
			if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
				continue // started or removed by somebody else meanwhile
			}
			return report, err
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.id)
		report.SpaceReclaimed += uint64(size)
	}
	s.o.Bus.Publish(events.ContainerEventType, events.ActionPrune, "", map[string]string{"reclaimed": fmt.Sprint(report.SpaceReclaimed)})
	return report, nil
}
