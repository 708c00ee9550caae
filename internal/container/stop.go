package container

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/container/config"
	"muelle/internal/runtime"
)

const defaultStopTimeout = 10

// Stop ends a container: its stop signal, patience, then SIGKILL.
// errdefs.ErrNotModified: it does not run. A client that goes away stops nothing.
func (s *Service) Stop(ctx context.Context, ref string, o StopOptions) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.stop(context.WithoutCancel(ctx), c, o)
}

func (s *Service) stop(ctx context.Context, c *entry, o StopOptions) error {
	sig, timeout, err := s.stopSettings(c, o)
	if err != nil {
		return err
	}
	// A start that is under way is waited for: stopping means that it does not run.
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	waiting, ended, err := s.markStopped(c)
	c.op.release()
	if err != nil {
		return err
	}
	if waiting {
		s.event(c, events.ActionStop, nil)
		return nil
	}
	return s.endRun(ctx, c, ended, sig, timeout, o.by)
}

// endRun sends the stop signal, waits, and kills what has not ended by then.
func (s *Service) endRun(ctx context.Context, c *entry, ended <-chan struct{}, sig syscall.Signal, timeout int, by Asker) error {
	if by == "" {
		by = byStop
	}
	s.drain(c)
	if err := s.signal(ctx, c, sig, by); err != nil && !errdefs.IsConflict(err) {
		s.log.Warn("send stop signal", "container", c.id, "err", err)
	}
	if !waitFor(ctx, s.ctx, ended, timeout) {
		if err := s.killAndWait(ctx, c, byTimeout); err != nil {
			return err
		}
	}
	s.event(c, events.ActionStop, nil)
	return nil
}

// stopRun stops a container for good, if the given run of it is still on.
func (s *Service) stopRun(ctx context.Context, c *entry, task runtime.Task, by Asker) error {
	sig, timeout, err := s.stopSettings(c, StopOptions{})
	if err != nil {
		return err
	}
	if err := s.acquireRun(ctx, c, task); err != nil {
		return err
	}
	_, ended, err := s.markStopped(c)
	c.op.release()
	if err != nil {
		return err
	}
	return s.endRun(context.WithoutCancel(ctx), c, ended, sig, timeout, by)
}

// killRun kills a run that is still on. Nobody stopped the container by that: its
// restart policy holds.
func (s *Service) killRun(ctx context.Context, c *entry, task runtime.Task) error {
	if err := s.acquireRun(ctx, c, task); err != nil {
		return err
	}
	defer c.op.release()
	return s.signal(context.WithoutCancel(ctx), c, syscall.SIGKILL, byHealth)
}

// restartRun stops a run that is still on and starts the next one. It counts as a
// restart by policy does, and a policy's greatest number of those holds: then the
// container stays stopped.
func (s *Service) restartRun(ctx context.Context, c *entry, task runtime.Task) error {
	sig, timeout, err := s.stopSettings(c, StopOptions{})
	if err != nil {
		return err
	}
	if err := s.acquireRun(ctx, c, task); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	c.mu.Lock()
	ended, policy := c.ended, c.rec.HostConfig.RestartPolicy
	again := !policy.IsOnFailure() || policy.MaximumRetryCount == 0 || c.st.RestartCount < policy.MaximumRetryCount
	c.restarting++
	c.mu.Unlock()
	c.op.release()
	defer func() {
		c.mu.Lock()
		c.restarting--
		c.mu.Unlock()
	}()
	if err := s.endRun(ctx, c, ended, sig, timeout, byHealth); err != nil {
		return err
	}
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	if err = c.startable(c.id); err == nil && (!again || c.st.Stopped || s.stopping.Load()) {
		err = errdefs.ErrNotModified
	}
	if err == nil {
		c.st.RestartCount++
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.start(ctx, c); err != nil {
		return err
	}
	s.event(c, events.ActionRestart, nil)
	return nil
}

// markStopped remembers that a user stopped the container, so that no policy starts
// it again. Waiting: it was between two runs, and has ended by this. op is held.
func (s *Service) markStopped(c *entry) (waiting bool, ended <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return false, nil, errdefs.ErrNotFound.WithMessage("No such container: " + c.id)
	}
	if !c.st.running() {
		return false, nil, errdefs.ErrNotModified.WithMessage("container " + c.id + " is already stopped")
	}
	if !s.stopping.Load() {
		c.st.Stopped = true
		s.saveStopped(c)
	}
	return s.stopTimer(c), c.ended, nil
}

// StopAll ends every container because the daemon ends: policies start them again
// when it comes up. Nothing is started by policy from then on. Each has the time to end
// that it has on any other stop.
func (s *Service) StopAll(ctx context.Context) error {
	s.stopping.Store(true)
	list := s.all()
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() {
			err := s.stop(ctx, c, StopOptions{by: byShutdown})
			if err != nil && !errdefs.IsNotModified(err) && !errdefs.IsNotFound(err) {
				errs[i] = fmt.Errorf("stop container %s: %w", c.id, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// grace is what a container's end takes beside its stop timeout, in seconds.
const grace = 5

// StopAllTimeout is how long StopAll may take, in seconds: as long as it is told at least,
// and as the most patient of the running containers needs. Negative: for ever. Docker's
// rule for shutdown-timeout.
func (s *Service) StopAllTimeout(least int) int {
	if least < 0 {
		return -1
	}
	for _, c := range s.all() {
		if _, st := c.snapshot(); !st.running() {
			continue
		}
		_, patience, err := s.stopSettings(c, StopOptions{})
		if err == nil && patience < 0 {
			return -1
		}
		least = max(least, patience+grace)
	}
	return least
}

// saveStopped writes that a user stopped the container: durably where a policy
// would start it at the next boot. mu is held.
func (s *Service) saveStopped(c *entry) {
	durable := c.rec.HostConfig.RestartPolicy.IsUnlessStopped() && !c.volatile
	if err := c.states.Save(stateName, &c.st, durable); err != nil {
		s.log.Error("save state", "container", c.id, "err", err)
	}
}

// waitFor waits for done, at most that many seconds, for ever if negative.
func waitFor(ctx, life context.Context, done <-chan struct{}, seconds int) bool {
	var expired <-chan time.Time
	if seconds >= 0 {
		timer := time.NewTimer(time.Duration(seconds) * time.Second)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-done:
		return true
	case <-expired:
	case <-ctx.Done():
	case <-life.Done():
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func (s *Service) stopSettings(c *entry, o StopOptions) (sig syscall.Signal, timeout int, err error) {
	rec, _ := c.snapshot()
	sig, timeout = syscall.SIGTERM, s.defaults.Load().stopTimeout()
	if rec.Config.StopTimeout != nil {
		timeout = *rec.Config.StopTimeout
	}
	if o.Timeout != nil {
		timeout = *o.Timeout
	}
	name := rec.Config.StopSignal
	if o.Signal != "" {
		name = o.Signal
	}
	if name != "" {
		sig, err = config.ParseSignal(name)
	}
	return sig, timeout, err
}

// Restart stops a container that runs and starts it again.
func (s *Service) Restart(ctx context.Context, ref string, o StopOptions) error {
	ctx = context.WithoutCancel(ctx)
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	// Meanwhile the end of the run neither removes it nor starts it by policy.
	c.mu.Lock()
	c.restarting++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.restarting--
		c.mu.Unlock()
	}()
	if err := s.stop(ctx, c, o); err != nil && !errdefs.IsNotModified(err) {
		return err
	}
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	err = c.startable(ref)
	if err == nil {
		c.st.Stopped, c.st.RestartCount, c.backoff = false, 0, backoff{}
	}
	c.mu.Unlock()
	if errdefs.IsNotModified(err) {
		return nil // somebody else started it meanwhile
	}
	if err == nil {
		err = s.start(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("Cannot restart container %s: %w", ref, err)
	}
	s.event(c, events.ActionRestart, nil)
	return nil
}
