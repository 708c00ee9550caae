package container

import (
	"context"
	"fmt"
	"strconv"
	"syscall"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/container/config"
)

// signal sends a signal to a container's first process and tells of it. A paused
// one goes on if the signal is to end it. ErrConflict: it does not run.
func (s *Service) signal(ctx context.Context, c *entry, sig syscall.Signal, by Asker) error {
	c.mu.Lock()
	task, paused, alive := c.task, c.st.Status == ctypes.StatePaused, c.st.alive()
	c.mu.Unlock()
	if !alive || task == nil {
		return conflict("container %s is not running", c.id)
	}
	c.note(sig, by)
	c.telling.Lock()
	err := task.Signal(ctx, sig)
	if err == nil {
		s.event(c, events.ActionKill, map[string]string{"signal": strconv.Itoa(int(sig))})
	}
	c.telling.Unlock()
	switch {
	case errdefs.IsFailedPrecondition(err):
		return conflict("container %s is not running", c.id)
	case err != nil:
		return fmt.Errorf("signal container %s: %w", c.id, err)
	}
	if !paused || !c.endsWith(sig) {
		return nil
	}
	if err := task.Resume(ctx); err != nil && !errdefs.IsFailedPrecondition(err) {
		return fmt.Errorf("resume container %s: %w", c.id, err)
	}
	return nil
}

// endsWith tells whether a signal is meant to end the container.
func (c *entry) endsWith(sig syscall.Signal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.endsWithLocked(sig)
}

// Kill sends a signal, SIGKILL where it is empty. Killing waits for the end.
func (s *Service) Kill(ctx context.Context, ref, signal string) error {
	sig := syscall.SIGKILL
	if signal != "" {
		var err error
		if sig, err = config.ParseSignal(signal); err != nil {
			return err
		}
	}
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	if c.endsWith(sig) {
		if err := s.acquire(ctx, c); err != nil {
			return err
		}
		waiting, _, err := s.markStopped(c)
		c.op.release()
		if waiting || err != nil && !errdefs.IsNotModified(err) {
			return err
		}
	}
	if sig == syscall.SIGKILL {
		err = s.kill(context.WithoutCancel(ctx), c, byKill)
	} else {
		err = s.signal(ctx, c, sig, byKill)
	}
	if errdefs.IsConflict(err) {
		return conflict("cannot kill container: %s: container %s is not running", ref, c.id)
	}
	return err
}

func (c *entry) endsWithLocked(sig syscall.Signal) bool {
	stop := syscall.SIGTERM
	if name := c.rec.Config.StopSignal; name != "" {
		if parsed, err := config.ParseSignal(name); err == nil {
			stop = parsed
		}
	}
	return sig == syscall.SIGKILL || sig == stop
}
