package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/id"
	"muelle/internal/oci"
	"muelle/internal/runtime"
)

// execKeep is how long the result of a finished exec can be asked for.
const execKeep = 5 * time.Minute

// exec is a further process in a container. Guarded by the container's mu.
type exec struct {
	id       string
	c        *entry
	cfg      ctypes.ExecCreateRequest
	started  bool
	proc     runtime.Process
	exitCode *int
	endedAt  time.Time
	done     chan struct{} // closed when it has ended
	debug    *debugSession // nil: an ordinary one
}

func (x *exec) running() bool { return x.proc != nil && x.exitCode == nil }

// containerEnded marks an exec whose container has ended. The container's mu is held.
func (x *exec) containerEnded() {
	if !x.started {
		x.endedAt = time.Now()
	}
}

// ExecCreate prepares a further process in a running container.
func (s *Service) ExecCreate(_ context.Context, ref string, cfg ctypes.ExecCreateRequest) (string, error) {
	if len(cfg.Cmd) == 0 {
		return "", invalid("No exec command specified")
	}
	for _, kv := range cfg.Env {
		if name, _, _ := strings.Cut(kv, "="); name == "" {
			return "", invalid("invalid environment variable: %s", kv)
		}
	}
	c, err := s.find(ref)
	if err != nil {
		return "", err
	}
	if _, err := c.execTask(ref); err != nil {
		return "", err
	}
	x := &exec{id: id.New(), c: c, cfg: cfg, done: make(chan struct{})}
	s.addExec(x)
	s.execEvent(c, events.ActionExecCreate, x.id, cfg.Cmd)
	return x.id, nil
}

func (s *Service) execEvent(c *entry, action events.Action, xid string, cmd []string) {
	s.event(c, events.Action(string(action)+": "+strings.Join(cmd, " ")), map[string]string{"execID": xid})
}

// execTask gives the process to start another beside.
func (c *entry) execTask(ref string) (runtime.Task, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.st.Status == ctypes.StatePaused:
		return nil, conflict("container %s is paused, unpause the container before exec", ref)
	case c.st.Status == ctypes.StateRestarting:
		return nil, conflict("container %s is restarting, wait until the container is running", ref)
	case c.st.Status != ctypes.StateRunning || c.task == nil:
		return nil, conflict("container %s is not running", c.id)
	}
	return c.task, nil
}

// forgetExecs drops results that nobody asked for in time. The Service's mu is held.
func (s *Service) forgetExecs() {
	for xid, x := range s.execs {
		x.c.mu.Lock()
		if !x.endedAt.IsZero() && time.Since(x.endedAt) > execKeep {
			delete(s.execs, xid)
			delete(x.c.execs, xid)
		}
		x.c.mu.Unlock()
	}
}

func (s *Service) findExec(xid string) (*exec, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	x, ok := s.execs[xid]
	if !ok {
		return nil, errdefs.ErrNotFound.WithMessage("No such exec instance: " + xid)
	}
	return x, nil
}

// ExecCheck tells, before the answer's headers are sent, whether an exec can be
// started, and whether it has a terminal.
func (s *Service) ExecCheck(xid string) (tty bool, err error) {
	x, err := s.findExec(xid)
	if err != nil {
		return false, err
	}
	if _, err := x.c.execTask(x.c.id); err != nil {
		return false, err
	}
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	return x.cfg.Tty, x.startable()
}

// startable tells why an exec cannot be started. The container's mu is held.
func (x *exec) startable() error {
	switch {
	case x.exitCode != nil:
		return conflict("exec command %s has already run", x.id)
	case x.started:
		return conflict("exec command %s is already running", x.id)
	}
	return nil
}

// ExecStart starts an exec and, unless Detach, returns when it and its streams have
// ended. A cancelled context leaves the process running.
func (s *Service) ExecStart(ctx context.Context, xid string, o ExecStartOptions) error {
	x, err := s.findExec(xid)
	if err != nil {
		return err
	}
	task, err := x.c.execTask(x.c.id)
	if err != nil {
		return err
	}
	x.c.mu.Lock()
	err = x.startable()
	if err == nil {
		x.started = true
	}
	x.c.mu.Unlock()
	if err != nil {
		return err
	}
	if !o.Detach {
		defer s.awaitSession(x)
	}
	s.execEvent(x.c, events.ActionExecStart, x.id, x.cfg.Cmd)
	a, err := s.execProcess(ctx, x, task, o)
	if err != nil {
		return s.execFailed(x, err)
	}
	if o.Detach {
		return nil
	}
	for _, done := range []<-chan struct{}{a.done, x.done} {
		select {
		case <-done:
		case <-ctx.Done():
			if x.debug != nil {
				return s.endDebug(x)
			}
			s.event(x.c, events.ActionExecDetach, map[string]string{"execID": x.id})
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
	return nil
}

// execProcess starts the process of an exec and begins to watch it.
func (s *Service) execProcess(ctx context.Context, x *exec, task runtime.Task, o ExecStartOptions) (*attachment, error) {
	size := o.ConsoleSize
	if size == nil {
		size = x.cfg.ConsoleSize
	}
	eo := oci.ExecOptions{
		Args: x.cfg.Cmd, Env: x.cfg.Env, WorkingDir: x.cfg.WorkingDir, Tty: x.cfg.Tty, Privileged: x.cfg.Privileged,
	}
	if eo.WorkingDir != "" && !path.IsAbs(eo.WorkingDir) {
		return nil, &runtime.StartError{Code: 126, Err: errRelativeDir}
	}
	record, err := json.Marshal(execRecord{x.cfg})
	if err != nil {
		return nil, fmt.Errorf("encode exec: %w", err)
	}
	ro := runtime.ExecOptions{Record: record, ID: x.id, OpenStdin: x.cfg.AttachStdin, Privileged: x.cfg.Privileged}
	if size != nil {
		eo.Height, eo.Width = size[0], size[1]
		ro.Height, ro.Width = uint16(size[0]), uint16(size[1])
	}
	p, err := s.execSpec(ctx, x.c, task, x.cfg.User, eo)
	if err != nil {
		return nil, err
	}
	st := o.Streams
	if !x.cfg.AttachStdin {
		st.Stdin = nil
	}
	if !x.cfg.AttachStdout && !x.cfg.Tty {
		st.Stdout = nil
	}
	if !x.cfg.AttachStderr || x.cfg.Tty {
		st.Stderr = nil
	}
	a := newAttachment(ctx, st)
	if o.Detach {
		a.finish(nil)
	} else {
		ro.Streams = a.streams
	}
	if x.debug != nil {
		tools, err := s.openTools(ctx, x)
		if err != nil {
			a.finish(err)
			return nil, err
		}
		defer tools.Close()
		x.debug.prepare(p, &ro, tools)
	}
	// The process outlives the request.
	proc, err := task.Exec(context.WithoutCancel(ctx), p, ro)
	if err != nil {
		a.finish(err)
		return nil, err
	}
	x.c.mu.Lock()
	x.proc = proc
	x.c.mu.Unlock()
	s.background(func() { s.watchExec(x, proc) })
	return a, nil
}

// execRecord is what the shim keeps of an exec for a daemon that comes back.
type execRecord struct{ Config ctypes.ExecCreateRequest }

// regainExecs finds the execs of a container that was adopted, and watches them.
func (s *Service) regainExecs(ctx context.Context, c *entry, task runtime.Task) {
	list, err := task.Execs(ctx)
	if err != nil {
		s.log.Warn("find execs", "container", c.id, "err", err)
		return
	}
	for _, found := range list {
		var rec execRecord
		if err := json.Unmarshal(found.Record, &rec); err != nil || len(rec.Config.Cmd) == 0 {
			s.log.Warn("read record of exec", "container", c.id, "exec", found.ID, "err", err)
			continue
		}
		x := &exec{id: found.ID, c: c, cfg: rec.Config, started: true, proc: found.Process, done: make(chan struct{})}
		s.addExec(x)
		s.background(func() { s.watchExec(x, found.Process) })
	}
}

func (s *Service) addExec(x *exec) {
	s.mu.Lock()
	s.forgetExecs()
	s.execs[x.id] = x
	s.mu.Unlock()
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	if x.c.execs == nil {
		x.c.execs = map[string]*exec{}
	}
	x.c.execs[x.id] = x
}

func (s *Service) watchExec(x *exec, proc runtime.Process) {
	exit, err := proc.Wait(s.ctx)
	if s.ctx.Err() != nil {
		return
	}
	if err != nil {
		s.log.Warn("wait for exec", "container", x.c.id, "exec", x.id, "err", err)
		exit.Code = exitUnknown
	}
	s.event(x.c, events.ActionExecDie, map[string]string{"execID": x.id, "exitCode": strconv.Itoa(exit.Code)})
	x.end(exit.Code)
	s.releaseTools(x)
}

func (x *exec) end(code int) {
	x.c.mu.Lock()
	x.exitCode, x.endedAt = &code, time.Now()
	x.c.mu.Unlock()
	close(x.done)
}

// errRelativeDir is runc's text.
var errRelativeDir = errors.New("Cwd must be an absolute path")

// execFailed words the failure of an exec as Docker does.
func (s *Service) execFailed(x *exec, cause error) error {
	s.releaseTools(x)
	var se *runtime.StartError
	if !errors.As(cause, &se) {
		x.end(126)
		return cause
	}
	x.end(se.Code)
	if errors.Is(cause, errRelativeDir) {
		return errdefs.ErrInvalidArgument.WithMessage("OCI runtime exec failed: exec failed: " + se.Error() + ": unknown")
	}
	return errdefs.ErrInvalidArgument.WithMessage("OCI runtime exec failed: exec failed: unable to start container process: " + se.Error() + ": unknown")
}

// ExecInspect tells how an exec stands.
func (s *Service) ExecInspect(_ context.Context, xid string) (*ctypes.ExecInspectResponse, error) {
	x, err := s.findExec(xid)
	if err != nil {
		return nil, err
	}
	x.c.mu.Lock()
	defer x.c.mu.Unlock()
	privileged := x.cfg.Privileged
	r := &ctypes.ExecInspectResponse{
		ID: x.id, ContainerID: x.c.id, Running: x.running(), ExitCode: x.exitCode,
		OpenStdin: x.cfg.AttachStdin, OpenStdout: x.cfg.AttachStdout, OpenStderr: x.cfg.AttachStderr,
		DetachKeys: []byte(x.cfg.DetachKeys),
		ProcessConfig: &ctypes.ExecProcessConfig{
			Tty: x.cfg.Tty, Entrypoint: x.cfg.Cmd[0], Arguments: x.cfg.Cmd[1:], Privileged: &privileged, User: x.cfg.User,
		},
	}
	if x.proc != nil {
		r.Pid = x.proc.Pid()
	}
	return r, nil
}

// ExecResize sets the size of an exec's terminal, in cells.
func (s *Service) ExecResize(ctx context.Context, xid string, height, width uint) error {
	x, err := s.findExec(xid)
	if err != nil {
		return err
	}
	x.c.mu.Lock()
	proc, running := x.proc, x.running()
	x.c.mu.Unlock()
	if !running {
		return conflict("exec process is not running: %s", xid)
	}
	return proc.Resize(ctx, uint16(width), uint16(height))
}
