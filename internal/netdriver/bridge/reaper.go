package bridge

import (
	"log/slog"
	"sync"
	"time"

	"muelle/internal/linux/rtnl"
)

// patience is how long an interface may go by itself: the kernel removes a
// namespace's interfaces in batches, which is cheaper than one by one.
const patience = 100 * time.Millisecond

// reaper removes interfaces in the background, one batch at a time.
type reaper struct {
	log    *slog.Logger
	mu     sync.Mutex
	queue  map[string]func()
	active bool
	hurry  chan struct{}
	closed bool
	wg     sync.WaitGroup
}

func newReaper(log *slog.Logger) *reaper {
	return &reaper{log: log, queue: map[string]func(){}, hurry: make(chan struct{})}
}

// add removes the interface later and calls gone then.
func (r *reaper) add(name string, gone func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue[name] = gone
	if !r.active {
		r.active = true
		r.wg.Go(r.run)
	}
}

func (r *reaper) pending(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.queue[name]
	return ok
}

func (r *reaper) run() {
	for {
		select {
		case <-time.After(patience):
		case <-r.hurry:
		}
		r.mu.Lock()
		batch := make(map[string]func(), len(r.queue))
		for name, gone := range r.queue {
			batch[name] = gone
		}
		r.mu.Unlock()
		for name := range batch {
			if err := rtnl.Delete(name); err != nil {
				r.log.Error("interface stays behind", "interface", name, "err", err)
			}
		}
		r.mu.Lock()
		for name := range batch {
			delete(r.queue, name)
		}
		r.active = len(r.queue) > 0
		more := r.active
		r.mu.Unlock()
		for _, gone := range batch {
			gone()
		}
		if !more {
			return
		}
	}
}

// close removes at once what is queued and waits for it.
func (r *reaper) close() {
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.hurry)
	}
	r.mu.Unlock()
	r.wg.Wait()
}
