package check

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Thread makes sockets in network namespaces, one after the other, on one thread of
// the system: a hundred probes in the same second would otherwise take a hundred
// threads, which Go never gives back.
type Thread struct {
	jobs chan job
	end  chan struct{}
}

type job struct {
	ns   *os.File
	f    func() error
	done chan error
}

// NewThread starts one; Close ends it.
func NewThread() *Thread {
	t := &Thread{jobs: make(chan job), end: make(chan struct{})}
	go t.run()
	return t
}

// Close ends the thread. Probes that are on fail.
func (t *Thread) Close() { close(t.end) }

var errClosed = errors.New("the engine is shutting down")

// do runs f, which must not wait for anything, inside ns.
func (t *Thread) do(ns *os.File, f func() error) error {
	j := job{ns, f, make(chan error, 1)}
	select {
	case t.jobs <- j:
		return <-j.done
	case <-t.end:
		return errClosed
	}
}

// run serves until the end. The goroutine stays locked, so that the thread ends with
// it: nobody else ever runs in a container's namespace.
func (t *Thread) run() {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer home.Close()
	}
	for {
		select {
		case j := <-t.jobs:
			if err != nil {
				j.done <- fmt.Errorf("enter network namespace: %w", err)
				continue
			}
			j.done <- visit(home, j)
		case <-t.end:
			return
		}
	}
}

// visit goes to a namespace and back. Where it cannot go back, the next one is
// entered from there all the same.
func visit(home *os.File, j job) error {
	if err := enter(j.ns); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	err := j.f()
	return errors.Join(err, enter(home))
}

func enter(ns *os.File) error {
	conn, err := ns.SyscallConn()
	if err != nil {
		return err
	}
	cerr := conn.Control(func(fd uintptr) { err = unix.Setns(int(fd), unix.CLONE_NEWNET) })
	return errors.Join(cerr, err)
}
