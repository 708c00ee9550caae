package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/logdriver"
	"muelle/internal/runtime"
)

// attachment connects one client to a run, the present one or the next.
type attachment struct {
	streams *runtime.Streams
	once    sync.Once
	done    chan struct{}
	err     error
}

// newAttachment wires streams so that they fall silent when ctx ends: what the
// process prints then is dropped, and standard input is neither read nor closed.
func newAttachment(ctx context.Context, st Streams) *attachment {
	a := &attachment{done: make(chan struct{})}
	a.streams = &runtime.Streams{Done: a.finish}
	if st.Stdin != nil {
		a.streams.Stdin = detachReader{ctx, st.Stdin}
	}
	if st.Stdout != nil {
		a.streams.Stdout = detachWriter{ctx, st.Stdout}
	}
	if st.Stderr != nil {
		a.streams.Stderr = detachWriter{ctx, st.Stderr}
	}
	return a
}

func (a *attachment) finish(err error) {
	a.once.Do(func() {
		a.err = err
		close(a.done)
	})
}

var errDetached = errors.New("detached")

type detachReader struct {
	ctx context.Context
	r   io.Reader
}

func (d detachReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if d.ctx.Err() != nil {
		// Not io.EOF: a client that leaves does not end the container's input.
		return 0, errDetached
	}
	return n, err
}

type detachWriter struct {
	ctx context.Context
	w   io.Writer
}

func (d detachWriter) Write(p []byte) (int, error) {
	if d.ctx.Err() != nil {
		return 0, errDetached
	}
	return d.w.Write(p)
}

// Attach connects a client to a container, also before its start, and returns when
// every stream has ended, the client detached (ctx), or the container is gone.
func (s *Service) Attach(ctx context.Context, ref string, o AttachOptions) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	a, rec, err := s.attach(ctx, c, ref, o)
	c.op.release()
	if err != nil || a == nil {
		return err
	}
	select {
	case <-a.done:
		return errIgnored(a.err, func(err error) bool { return errors.Is(err, errDetached) })
	case <-ctx.Done():
		c.mu.Lock()
		c.pending = slices.DeleteFunc(c.pending, func(have *attachment) bool { return have == a })
		c.mu.Unlock()
		if rec.Config.OpenStdin {
			s.event(c, events.ActionDetach, nil)
		}
		return nil
	case <-s.ctx.Done():
		return nil
	}
}

// attach opens the client's streams and connects them, or has the next start do it.
// Nil: there is nothing to wait for. op is held.
func (s *Service) attach(ctx context.Context, c *entry, ref string, o AttachOptions) (*attachment, record, error) {
	c.mu.Lock()
	rec, task, status, removed := c.rec, c.task, c.st.Status, c.removed
	c.mu.Unlock()
	switch {
	case removed:
		return nil, rec, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	case status == ctypes.StatePaused:
		return nil, rec, conflict("container %s is paused, unpause the container before attach", ref)
	case status == ctypes.StateRestarting:
		return nil, rec, conflict("container %s is restarting, wait until the container is running", ref)
	}
	st, err := o.Open(rec.Config.Tty)
	if err != nil {
		return nil, rec, err
	}
	if o.Logs {
		if err := replay(ctx, &rec, st); err != nil {
			return nil, rec, err
		}
	}
	if !o.Stream {
		return nil, rec, nil
	}
	if !rec.Config.OpenStdin {
		st.Stdin = nil
	}
	if rec.Config.Tty {
		st.Stderr = nil
	}
	a := newAttachment(ctx, st)
	s.event(c, events.ActionAttach, nil)
	if task != nil {
		if err := task.Attach(ctx, a.streams); err != nil {
			return nil, rec, fmt.Errorf("attach to container %s: %w", c.id, err)
		}
		return a, rec, nil
	}
	c.mu.Lock()
	c.pending = append(c.pending, a)
	c.mu.Unlock()
	return a, rec, nil
}

// replay writes what a container has printed so far.
func replay(ctx context.Context, rec *record, st Streams) error {
	o := logdriver.ReadOptions{Tail: -1, Stdout: st.Stdout != nil, Stderr: st.Stderr != nil}
	for e, err := range readLog(rec.Log, o) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		w := st.Stdout
		if e.Stream == logdriver.Stderr && st.Stderr != nil {
			w = st.Stderr
		}
		if _, err := w.Write(e.Line); err != nil {
			return nil // the client is gone
		}
	}
	return nil
}

// Resize sets the size of a container's terminal, in cells.
func (s *Service) Resize(ctx context.Context, ref string, height, width uint) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	c.mu.Lock()
	task, alive := c.task, c.st.alive()
	c.mu.Unlock()
	if !alive || task == nil {
		return conflict("container %s is not running", ref)
	}
	if err := task.Resize(ctx, uint16(width), uint16(height)); err != nil {
		return notRunning(err, ref)
	}
	s.event(c, events.ActionResize, map[string]string{"height": fmt.Sprint(height), "width": fmt.Sprint(width)})
	return nil
}
