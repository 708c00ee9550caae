package container

import (
	"context"

	"github.com/containerd/errdefs"
)

// writer is one copying of files into a running container. It may last longer than the
// run: the next one must not mount the same layer before.
type writer struct {
	cancel context.CancelFunc
	abort  func() // ends a read that waits for the client
	done   chan struct{}
}

func (c *entry) enter(w *writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writers == nil {
		c.writers = map[*writer]struct{}{}
	}
	c.writers[w] = struct{}{}
}

func (c *entry) leave(w *writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.writers, w)
	close(w.done)
	w.done = make(chan struct{}) // it may come back
}

// anyWriter gives one of those who copy into the run that is on, or was, and what is
// closed when it has left; nil where there is none.
func (c *entry) anyWriter() (*writer, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.writers {
		return w, w.done
	}
	return nil, nil
}

// awaitWriters waits for those who copy files into the run before, as Docker does.
func (s *Service) awaitWriters(ctx context.Context, c *entry) error {
	for {
		w, done := c.anyWriter()
		if w == nil {
			return nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
		}
	}
}

// endWriters ends those who copy files into a container that is gone.
func (s *Service) endWriters(c *entry) {
	for {
		w, done := c.anyWriter()
		if w == nil {
			return
		}
		w.cancel()
		if w.abort != nil {
			w.abort()
		}
		select {
		case <-done:
		case <-s.ctx.Done():
			return
		}
	}
}
