package container

import (
	"context"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
)

// waited is what a waiter is told.
type waited struct {
	code int
	err  string
}

func (w waited) response() ctypes.WaitResponse {
	r := ctypes.WaitResponse{StatusCode: int64(w.code)}
	if w.err != "" {
		r.Error = &ctypes.WaitExitError{Message: w.err}
	}
	return r
}

// Wait registers for a condition and returns at once; the function that it returns
// waits. What happens between the two is not missed.
func (s *Service) Wait(ctx context.Context, ref string, cond ctypes.WaitCondition) (func(context.Context) (ctypes.WaitResponse, error), error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	ch := make(chan waited, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch cond {
	case ctypes.WaitConditionNotRunning, "":
		if !c.st.running() {
			ch <- waited{code: c.st.ExitCode, err: c.st.Error}
			break
		}
		c.waiters = append(c.waiters, ch)
	case ctypes.WaitConditionNextExit:
		if c.removed {
			return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
		}
		c.waiters = append(c.waiters, ch)
	case ctypes.WaitConditionRemoved:
		if c.removed {
			return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
		}
		c.gone = append(c.gone, ch)
	default:
		return nil, invalid("invalid condition: %q", string(cond))
	}
	return func(ctx context.Context) (ctypes.WaitResponse, error) {
		select {
		case w := <-ch:
			return w.response(), nil
		case <-ctx.Done():
			c.forget(ch)
			return ctypes.WaitResponse{}, ctx.Err()
		case <-s.ctx.Done():
			return ctypes.WaitResponse{}, errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
		}
	}, nil
}

func (c *entry) forget(ch chan waited) {
	c.mu.Lock()
	defer c.mu.Unlock()
	without := func(list []chan waited) []chan waited {
		for i, have := range list {
			if have == ch {
				return append(list[:i:i], list[i+1:]...)
			}
		}
		return list
	}
	c.waiters, c.gone = without(c.waiters), without(c.gone)
}

// tell wakes up every waiter of a list. mu is held.
func tell(list *[]chan waited, w waited) {
	for _, ch := range *list {
		ch <- w // buffered, and told once
	}
	*list = nil
}

// AwaitState returns when until says so of the container's state, which it is asked
// at once and after each change, or with its error. errdefs.ErrNotFound: the
// container was removed meanwhile.
func (s *Service) AwaitState(ctx context.Context, ref string, until func(*ctypes.State) (bool, error)) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	for {
		c.mu.Lock()
		changed, removed, st := c.changed, c.removed, c.apiState()
		c.mu.Unlock()
		if removed {
			return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
		}
		if done, err := until(st); done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
		}
	}
}
