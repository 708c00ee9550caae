package container

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/container/config"
	"muelle/internal/linux/cgroup"
	"muelle/internal/oci"
)

// Pause freezes every process of a container.
func (s *Service) Pause(ctx context.Context, ref string) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.pause(ctx, c, ref, false)
}

// pause freezes a container, for a user or for a commit.
func (s *Service) pause(ctx context.Context, c *entry, ref string, commit bool) error {
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	task, status, stopHealth := c.task, c.st.Status, c.stopHealth
	c.mu.Unlock()
	switch {
	case status == ctypes.StatePaused:
		return conflict("container %s is already paused", ref)
	case status == ctypes.StateRestarting:
		return conflict("container %s is restarting, wait until the container is running", ref)
	case status != ctypes.StateRunning || task == nil:
		return conflict("container %s is not running", ref)
	}
	if commit {
		// Written before: a daemon that dies from here on lets it go on when it is back.
		c.mu.Lock()
		c.st.PausedByCommit = true
		s.save(c)
		c.mu.Unlock()
	}
	if err := task.Pause(ctx); err != nil {
		c.mu.Lock()
		c.st.PausedByCommit = false
		s.save(c)
		c.mu.Unlock()
		return notRunning(err, ref)
	}
	if stopHealth != nil {
		stopHealth()
	}
	c.mu.Lock()
	c.stopHealth = nil
	c.st.Status = ctypes.StatePaused
	s.save(c)
	c.notify()
	c.mu.Unlock()
	s.tellReady(c)
	s.event(c, events.ActionPause, nil)
	return nil
}

// Unpause lets a paused container go on.
func (s *Service) Unpause(ctx context.Context, ref string) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	task, paused := c.task, c.st.Status == ctypes.StatePaused
	c.mu.Unlock()
	if !paused || task == nil {
		return conflict("container %s is not paused", ref)
	}
	if err := task.Resume(ctx); err != nil {
		return notRunning(err, ref)
	}
	c.mu.Lock()
	c.st.Status, c.st.PausedByCommit = ctypes.StateRunning, false
	s.save(c)
	s.startHealth(c)
	c.notify()
	c.mu.Unlock()
	s.tellReady(c)
	s.event(c, events.ActionUnPause, nil)
	return nil
}

func notRunning(err error, ref string) error {
	if errdefs.IsFailedPrecondition(err) {
		return conflict("container %s is not running", ref)
	}
	return err
}

// Rename gives a container another name, also for the resolver.
func (s *Service) Rename(ctx context.Context, ref, name string) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	if name == "" {
		return invalid("Neither old nor new names may be empty")
	}
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	old := c.name()
	if old == name {
		return invalid("Renaming a container with the same name as its current name")
	}
	if _, err := s.reserveName(name, c.id); err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err)
	}
	c.mu.Lock()
	rec := c.rec
	rec.Name = name
	removed := c.removed
	c.mu.Unlock()
	if removed {
		err = errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	} else {
		err = s.writeRecord(c, &rec)
	}
	if err != nil {
		s.releaseName(name, c.id)
		return err
	}
	c.mu.Lock()
	c.rec = rec
	running := c.st.running()
	c.mu.Unlock()
	s.releaseName(old, c.id)
	s.o.Networks.Renamed(c.id, name)
	s.o.Images.Hold(rec.Image.ID, c.id, name, running)
	s.event(c, events.ActionRename, map[string]string{"oldName": "/" + old})
	return nil
}

// Update changes the restart policy and the limits of a container, at once where it
// runs.
func (s *Service) Update(ctx context.Context, ref string, u ctypes.UpdateConfig) (ctypes.UpdateResponse, error) {
	response := ctypes.UpdateResponse{Warnings: []string{}}
	c, err := s.find(ref)
	if err != nil {
		return response, err
	}
	if u.RestartPolicy.Name != "" {
		if err := ctypes.ValidateRestartPolicy(u.RestartPolicy); err != nil {
			return response, invalid("%s", err)
		}
	}
	if err := s.acquire(ctx, c); err != nil {
		return response, err
	}
	defer c.op.release()
	c.mu.Lock()
	rec, task, removing := c.rec, c.task, c.removing || c.removed
	c.mu.Unlock()
	if removing {
		return response, conflict("Cannot update container %s: container is marked for removal and cannot be \"update\".", c.id)
	}
	hc := *rec.HostConfig
	// What this kernel cannot hold is not passed on; the answer says so.
	response.Warnings = append(response.Warnings, config.Fit(&u.Resources, cgroup.HostFeatures())...)
	if err := config.Update(&hc, u); err != nil {
		return response, err
	}
	rec.HostConfig = &hc
	if task != nil {
		limits, err := oci.Resources(hc.Resources)
		if err != nil {
			return response, err
		}
		if u.PidsLimit != nil && limits.Pids == nil {
			none := int64(-1) // takes a limit away, where nil changes nothing
			limits.Pids = &specs.LinuxPids{Limit: &none}
		}
		if err := task.Update(ctx, limits); err != nil && !errdefs.IsFailedPrecondition(err) {
			return response, err
		}
	}
	if err := s.writeRecord(c, &rec); err != nil {
		return response, err
	}
	c.mu.Lock()
	c.rec = rec
	c.mu.Unlock()
	s.event(c, events.ActionUpdate, nil)
	return response, nil
}
