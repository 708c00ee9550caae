// Package netns makes network namespaces and runs code inside them. A namespace
// is known by a descriptor only; nothing is mounted, so it is gone with its last
// process and descriptor.
package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
)

const own = "/proc/thread-self/ns/net"

// New makes a namespace and runs setup inside it before it returns, on the same
// thread: what setup opens (sockets, files below /proc/sys/net) belongs to it.
func New(setup func() error) (*os.File, error) {
	var ns *os.File
	err := visit(
		func() error { return unix.Unshare(unix.CLONE_NEWNET) },
		func() error {
			f, err := os.Open(own)
			if err != nil {
				return err
			}
			if err := setup(); err != nil {
				f.Close()
				return err
			}
			ns = f
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return ns, nil
}

// NewIn is New for a namespace that belongs to a user namespace; nil: the caller's.
func NewIn(user *os.File, setup func() error) (*os.File, error) {
	if user == nil {
		return New(setup)
	}
	var made map[uint64]int
	conn, err := user.SyscallConn()
	if err == nil {
		controlled := conn.Control(func(fd uintptr) { made, err = spawn.Namespaces(int(fd), unix.CLONE_NEWNET) })
		err = errors.Join(controlled, err)
	}
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	ns := os.NewFile(uintptr(made[unix.CLONE_NEWNET]), "net")
	if err := Do(ns, setup); err != nil {
		ns.Close()
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return ns, nil
}

// Do runs f inside the namespace.
func Do(ns *os.File, f func() error) error {
	return visit(func() error {
		// Through Control: ns may be closed at the same time, and its number reused.
		conn, err := ns.SyscallConn()
		if err == nil {
			controlled := conn.Control(func(fd uintptr) { err = unix.Setns(int(fd), unix.CLONE_NEWNET) })
			err = errors.Join(controlled, err)
		}
		if err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return nil
	}, f)
}

// Current gives a descriptor of the calling thread's namespace.
func Current() (*os.File, error) {
	return os.Open(own)
}

// visit runs enter and f on one thread and brings it back. A thread that cannot
// be brought back is never used again.
func visit(enter, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(own)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		err = enter()
		if err == nil {
			err = f()
			// The goroutine ends while locked where this fails, which ends the thread.
			if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
				done <- err
				return
			}
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// OfHost gives a descriptor of the namespace that the process itself is in.
func OfHost(context.Context) (*os.File, error) { return Current() }
