package shim

import (
	"time"

	"golang.org/x/sys/unix"
)

// handler is told what epoll says about its descriptor.
type handler interface {
	ready(events uint32)
}

// loop is the shim's one goroutine: everything but the making of a container
// happens in it, so nothing needs a lock.
type loop struct {
	epfd     int
	handlers []handler // by descriptor
	timers   []timer
	done     bool
	area
	spare   [][]byte  // chunks that nobody needs
	tidyAt  time.Time // zero: there is nothing to tidy
	garbage int       // what may have been left in Go's heap since it was collected, in bytes
	stale   int       // and since the program was executed
	renew   func()
}

type timer struct {
	at time.Time
	do func()
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	l := &loop{epfd: fd}
	if l.area, err = newArea(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return l, nil
}

// litter counts what is left in Go's heap.
func (l *loop) litter(bytes int) {
	l.garbage += bytes
	l.stale += bytes
}

// watch begins to report events; with no events only errors and hang-ups.
func (l *loop) watch(fd int, events uint32, h handler) error {
	op := unix.EPOLL_CTL_ADD
	if l.handler(fd) != nil {
		op = unix.EPOLL_CTL_MOD
	}
	ev := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epfd, op, fd, &ev); err != nil {
		return err
	}
	for len(l.handlers) <= fd {
		l.handlers = append(l.handlers, nil)
	}
	l.handlers[fd] = h
	return nil
}

func (l *loop) handler(fd int) handler {
	if fd < 0 || fd >= len(l.handlers) {
		return nil
	}
	return l.handlers[fd]
}

// ignore stops the reports, hang-ups included.
func (l *loop) ignore(fd int) {
	if l.handler(fd) != nil {
		l.handlers[fd] = nil
		unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

// close ignores and closes a descriptor.
func (l *loop) close(fd int) {
	l.ignore(fd)
	unix.Close(fd)
}

func (l *loop) after(d time.Duration, do func()) {
	l.timers = append(l.timers, timer{time.Now().Add(d), do})
}

func (l *loop) timeout() int {
	next := l.tidyAt
	for _, t := range l.timers {
		if next.IsZero() || t.at.Before(next) {
			next = t.at
		}
	}
	if next.IsZero() {
		return -1
	}
	return int(max(0, time.Until(next).Milliseconds()+1))
}

func (l *loop) expire() {
	now := time.Now()
	if !l.tidyAt.IsZero() && !now.Before(l.tidyAt) {
		l.tidyAt = time.Time{}
		l.tidy()
	}
	for i := 0; i < len(l.timers); {
		t := l.timers[i]
		if now.Before(t.at) {
			i++
			continue
		}
		l.timers = append(l.timers[:i], l.timers[i+1:]...)
		t.do()
		l.tidySoon()
	}
}

func (l *loop) tidySoon() {
	if l.tidyAt.IsZero() {
		l.tidyAt = time.Now().Add(tidyAfter)
	}
}

// run serves until done.
func (l *loop) run() error {
	var events [16]unix.EpollEvent
	for !l.done {
		n, err := unix.EpollWait(l.epfd, events[:], l.timeout())
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n > 0 {
			l.tidySoon()
		}
		for _, e := range events[:n] {
			// An earlier handler of this round may have closed it.
			if h := l.handler(int(e.Fd)); h != nil {
				h.ready(e.Events)
			}
		}
		l.expire()
	}
	return nil
}
