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
	less   *sync.Cond // the queue is shorter
	closed bool
	wg     sync.WaitGroup
}

func newReaper(log *slog.Logger) *reaper {
	r := &reaper{log: log, queue: map[string]func(){}, hurry: make(chan struct{})}
	r.less = sync.NewCond(&r.mu)
	return r
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

// await returns when no interface of that name is to be removed any more.
func (r *reaper) await(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.queue[name] != nil {
		r.less.Wait()
	}
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
		for _, gone := range batch {
			gone()
		}
		r.mu.Lock()
		for name := range batch {
			delete(r.queue, name)
		}
		r.active = len(r.queue) > 0
		more := r.active
		r.less.Broadcast()
		r.mu.Unlock()
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
