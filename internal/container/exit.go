package container

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/runtime"
)

// watch waits for the end of a run and handles it.
func (s *Service) watch(c *entry, task runtime.Task) {
	exit, err := task.Wait(s.ctx)
	if s.ctx.Err() != nil {
		return // the next daemon sees to it
	}
	if err != nil {
		s.log.Error("wait for container", "container", c.id, "err", err)
		exit = runtime.Exit{Code: 255, At: time.Now()}
	}
	// The lock makes the end wait for a start that is still being told of.
	if s.acquire(s.ctx, c) != nil {
		return
	}
	defer c.op.release()
	// What began is finished, also when the daemon ends meanwhile.
	s.handleExit(context.WithoutCancel(s.ctx), c, task, exit)
}

// handleExit gives back what the run held, records how it ended, and restarts or
// removes the container where it asks for that. op is held.
func (s *Service) handleExit(ctx context.Context, c *entry, task runtime.Task, exit runtime.Exit) {
	s.logged.count(exit.Logged)
	c.mu.Lock()
	stopHealth, ports, rec := c.stopHealth, c.st.Ports, c.rec
	c.stopHealth = nil
	c.mu.Unlock()
	if stopHealth != nil {
		stopHealth()
	}
	s.drain(c)
	ending := s.ending(c, exit) // while the control group is there
	cleaned := make(chan struct{})
	c.copies.Wait()
	deleted := false
	if published(ports) {
		// The shim holds the sockets that reserve the host's ports: they must be free
		// when somebody who waited for the end asks for them.
		s.deleteTask(ctx, c, task)
		deleted = true
	}
	begun := time.Now()
	if err := s.o.Networks.Release(ctx, c.id); err != nil {
		s.log.Error("release network", "container", c.id, "err", err)
	} else {
		s.timers.Release.Since(begun)
	}
	s.unmountVolumes(c.id, rec.Mounts)
	s.volumeEvents(c.id, rec.Mounts, events.ActionUnmount)
	remove := s.recordExit(c, exit, ending, cleaned)
	if remove {
		if err := s.removeEnded(ctx, c, true); err != nil {
			s.log.Error("remove ended container", "container", c.id, "err", err)
		}
	}
	s.background(func() {
		defer close(cleaned)
		if !deleted {
			s.deleteTask(ctx, c, task)
		}
		s.clearExecDir(c)
		if !remove {
			s.compressLog(c)
		}
	})
}

// recordExit changes the state, tells everybody, and says whether the container is
// to be removed.
func (s *Service) recordExit(c *entry, exit runtime.Exit, ending Ending, cleaned chan struct{}) (remove bool) {
	c.mu.Lock()
	run := exit.At.Sub(c.st.StartedAt)
	again := c.restarting == 0 && !s.stopping.Load() && !c.removing && wantsRestart(c.rec.HostConfig.RestartPolicy, exit.Code, c.st.RestartCount, c.st.Stopped)
	attrs := map[string]string{
		"exitCode": strconv.Itoa(exit.Code), "execDuration": strconv.Itoa(int(run.Seconds())),
	}
	told := c.st.OOMKilled
	c.ending = c.task
	c.mu.Unlock()
	if exit.OOMKilled && !told {
		s.event(c, events.ActionOOM, nil)
	}
	// Told before anybody who waits can act on it, and after the signal that ended it.
	c.telling.Lock()
	s.event(c, events.ActionDie, attrs)
	c.telling.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.st
	st.Status, st.ExitCode, st.OOMKilled, st.Error = ctypes.StateExited, exit.Code, exit.OOMKilled || st.OOMKilled, ""
	st.FinishedAt, st.Endpoints, st.Ports = exit.At.UTC(), nil, nil
	if again {
		st.Status = ctypes.StateRestarting
		st.RestartCount++
	}
	c.st = st
	c.addEnding(ending)
	c.task, c.ending, c.cleaned = nil, nil, cleaned
	close(c.ended)
	for _, x := range c.execs {
		x.containerEnded()
	}
	remove = c.rec.HostConfig.AutoRemove && c.restarting == 0 && !c.removing && !again
	if !remove {
		s.save(c)
	}
	s.o.Images.Hold(c.rec.Image.ID, c.id, c.rec.Name, false)
	if again {
		s.restartLater(c, c.backoff.next(run))
	}
	tell(&c.waiters, waited{code: exit.Code})
	c.notify()
	return remove
}

func published(ports map[mport][]mbinding) bool {
	for _, b := range ports {
		if len(b) > 0 {
			return true
		}
	}
	return false
}

// deleteTask removes what the runtime keeps of a run.
func (s *Service) deleteTask(ctx context.Context, c *entry, task runtime.Task) {
	if err := task.Delete(ctx); err != nil {
		s.log.Error("delete process", "container", c.id, "err", err)
		if err := s.o.Runtime.Clean(ctx, c.id, c.execDir, s.group(c)); err != nil {
			s.log.Error("clean up process", "container", c.id, "err", err)
		}
	}
}

// clearExecDir removes the files of the run, and the whole folder of a container
// that is gone.
func (s *Service) clearExecDir(c *entry) {
	c.mu.Lock()
	removed := c.removed
	c.mu.Unlock()
	err := c.unmountShm()
	if removed || !c.volatile {
		err = errors.Join(err, os.RemoveAll(c.execDir))
	} else {
		entries, rerr := os.ReadDir(c.execDir)
		err = errors.Join(err, errIgnored(rerr, func(err error) bool { return errors.Is(err, os.ErrNotExist) }))
		for _, e := range entries {
			if e.Name() != recordName+".json" && e.Name() != stateName+".json" {
				err = errors.Join(err, os.RemoveAll(filepath.Join(c.execDir, e.Name())))
			}
		}
	}
	if err != nil {
		s.log.Error("remove files of a run", "container", c.id, "err", err)
	}
}
