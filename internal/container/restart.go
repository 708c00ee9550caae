package container

import (
	"context"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
)

const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	// stableRun is how long a run must last for the next wait to be the first again.
	stableRun = 10 * time.Second
)

// backoff is the wait before the next restart by policy.
type backoff struct{ wait time.Duration }

// next doubles the wait, after a run of that duration.
func (b *backoff) next(run time.Duration) time.Duration {
	switch {
	case run >= stableRun || b.wait == 0:
		b.wait = firstBackoff
	default:
		b.wait = min(2*b.wait, maxBackoff)
	}
	return b.wait
}

// wantsRestart tells whether a policy asks for another run. Stopped: by a user.
func wantsRestart(p ctypes.RestartPolicy, exitCode, restarts int, stopped bool) bool {
	switch {
	case stopped:
		return false
	case p.IsAlways(), p.IsUnlessStopped():
		return true
	case p.IsOnFailure():
		return exitCode != 0 && (p.MaximumRetryCount == 0 || restarts < p.MaximumRetryCount)
	}
	return false
}

// wantsBoot tells whether a policy asks for a run when the daemon comes up: always
// does so even for a container that a user had stopped.
func wantsBoot(p ctypes.RestartPolicy, st *state) bool {
	if !st.Started {
		return false
	}
	return wantsRestart(p, st.ExitCode, st.RestartCount, st.Stopped && !p.IsAlways())
}

// restartTimer is a restart by policy that is being waited for.
type restartTimer struct{ cancel chan struct{} }

// restartLater starts c again after a wait, unless stopTimer comes first. mu is held.
func (s *Service) restartLater(c *entry, wait time.Duration) {
	t := &restartTimer{cancel: make(chan struct{})}
	c.timer = t
	s.background(func() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-t.cancel:
			return
		case <-s.ctx.Done():
			return
		}
		if err := s.acquire(s.ctx, c); err != nil {
			return
		}
		defer c.op.release()
		c.mu.Lock()
		due := c.timer == t && !s.stopping.Load() && c.st.Status == ctypes.StateRestarting && !c.removed && !c.removing
		c.timer = nil
		c.mu.Unlock()
		if !due {
			return
		}
		if err := s.start(context.WithoutCancel(s.ctx), c); err != nil {
			s.log.Warn("restart by policy", "container", c.id, "err", err)
		}
	})
}

// stopTimer gives up a restart that is being waited for: the container has ended.
// mu is held.
func (s *Service) stopTimer(c *entry) bool {
	if c.timer == nil {
		return false
	}
	close(c.timer.cancel)
	c.timer = nil
	c.st.Status = ctypes.StateExited
	tell(&c.waiters, waited{code: c.st.ExitCode, err: c.st.Error})
	s.save(c)
	c.notify()
	return true
}
