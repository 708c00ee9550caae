package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/containerd/containerd/v2/core/metadata"
)

const (
	// startDelay keeps the first collection out of the daemon's start.
	startDelay = 5 * time.Second
	// quietDelay lets a burst of deletions end before they are collected.
	quietDelay = 200 * time.Millisecond
)

// collector runs the metadata database's garbage collection a little after a
// deletion; containerd's own scheduler is reachable only by its plugin registry.
type collector struct {
	db     *metadata.DB
	first  chan func(context.Context) error // done once, before the next collection
	log    *slog.Logger
	dirty  chan struct{}
	now    chan chan error
	cancel context.CancelFunc
	done   chan struct{}
}

func startCollector(db *metadata.DB, log *slog.Logger) *collector {
	ctx, cancel := context.WithCancel(context.Background())
	c := &collector{
		db: db, log: log, cancel: cancel,
		first: make(chan func(context.Context) error, 1),
		dirty: make(chan struct{}, 1),
		now:   make(chan chan error),
		done:  make(chan struct{}),
	}
	db.RegisterMutationCallback(func(dirty bool) {
		if dirty {
			c.schedule()
		}
	})
	go c.loop(ctx)
	return c
}

// schedule collects soon, without waiting.
func (c *collector) schedule() {
	select {
	case c.dirty <- struct{}{}:
	default:
	}
}

func (c *collector) loop(ctx context.Context) {
	defer close(c.done)
	timer := time.NewTimer(startDelay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.dirty:
			timer.Reset(quietDelay)
		case <-timer.C:
			if err := c.collect(ctx); err != nil && ctx.Err() == nil {
				c.log.Error("collect garbage", "err", err)
			}
		case reply := <-c.now:
			reply <- c.collect(ctx)
		}
	}
}

// before has fn called once, before the next collection.
func (c *collector) before(fn func(context.Context) error) { c.first <- fn }

func (c *collector) collect(ctx context.Context) error {
	started := time.Now()
	select {
	case fn := <-c.first:
		if err := fn(ctx); err != nil {
			return err
		}
	default:
	}
	_, err := c.db.GarbageCollect(ctx)
	if err == nil {
		c.log.Debug("garbage collected", "took", time.Since(started))
	}
	return err
}

// run collects now and waits for the end.
func (c *collector) run(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case c.now <- reply:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return context.Canceled
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop waits for a running collection; a snapshot's directory half removed is
// finished at the next start.
func (c *collector) stop() {
	c.cancel()
	<-c.done
}
