package container

import (
	"context"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/runtime"
)

// resume watches what runs, handles what ended, and says what is to be started
// because its policy asks for it.
func (s *Service) resume(ctx context.Context, c *entry, task runtime.Task) (due bool) {
	if task != nil {
		c.task, c.ended = task, make(chan struct{})
		s.thaw(ctx, c, task)
		if task.Pid() != 0 && c.st.Status == ctypes.StateRunning {
			s.startHealth(c)
		}
		if task.Pid() == 0 {
			s.watch(c, task) // it ended meanwhile: known before anybody asks
			return false
		}
		s.regainExecs(ctx, c, task)
		s.watchOOM(c, task)
		s.background(func() { s.watch(c, task) })
		return false
	}
	lost := c.st.alive()
	if lost {
		// The machine was restarted, or the shim is gone: nobody knows how it ended.
		c.st.Status, c.st.ExitCode = ctypes.StateExited, 255
		c.st.FinishedAt, c.st.Endpoints, c.st.Ports = time.Now().UTC(), nil, nil
	}
	restarting := c.st.Status == ctypes.StateRestarting
	if restarting {
		c.st.Status = ctypes.StateExited
	}
	if lost || restarting {
		s.save(c)
		s.o.Images.Hold(c.rec.Image.ID, c.id, c.rec.Name, false)
	}
	// As Docker, also one that was never started: whoever made it, to start it next,
	// lost the daemon and does not come back.
	if c.rec.HostConfig.AutoRemove {
		if err := s.removeEnded(ctx, c, true); err != nil {
			s.log.Error("remove ended container", "container", c.id, "err", err)
		}
		return false
	}
	// Between two runs the policy has decided already, and counted this one.
	if !restarting && !wantsBoot(c.rec.HostConfig.RestartPolicy, &c.st) {
		return false
	}
	if s.o.StartOnBoot != nil && !s.o.StartOnBoot(c.rec.Config.Labels) {
		s.pending = append(s.pending, c.id)
		return false
	}
	return true
}

// startOnBoot starts c after those whose namespaces it shares, and those it links to.
func (s *Service) startOnBoot(c *entry) {
	defer close(c.booted)
	rec, _ := c.snapshot()
	hc := rec.HostConfig
	first := []string{hc.NetworkMode.ConnectedContainer(), hc.IpcMode.Container(), hc.PidMode.Container()}
	for _, l := range linksOf(hc) {
		id, _, _ := strings.Cut(l, ":")
		first = append(first, id)
	}
	for _, ref := range first {
		other, err := s.find(ref)
		if err != nil || other.booted == nil {
			continue // it runs or will not; the start tells
		}
		// Nobody waits for himself: who is named here existed before.
		select {
		case <-other.booted:
		case <-s.ctx.Done():
			return
		}
	}
	if s.awaitLoan(s.ctx, c) != nil || s.acquire(s.ctx, c) != nil {
		return
	}
	defer c.op.release()
	c.mu.Lock()
	err := c.startable(c.id)
	c.mu.Unlock()
	if err != nil {
		return // somebody was quicker
	}
	if err := s.start(context.WithoutCancel(s.ctx), c); err != nil {
		s.log.Warn("start container by its restart policy", "container", c.id, "err", err)
	}
}

// Pending gives the ids of containers that their restart policy wanted started when
// the daemon came up and that StartOnBoot left to somebody else. They are given once.
func (s *Service) Pending() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.pending
	s.pending = nil
	return list
}

// thaw lets a container go on that a commit had frozen when the daemon died.
func (s *Service) thaw(ctx context.Context, c *entry, task runtime.Task) {
	if !c.st.PausedByCommit {
		return
	}
	if err := task.Resume(ctx); err != nil && !errdefs.IsFailedPrecondition(err) {
		s.log.Error("unpause after commit", "container", c.id, "err", err)
	}
	c.st.Status, c.st.PausedByCommit = ctypes.StateRunning, false
	s.save(c)
}
