package cgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// WatchOOM calls killed each time the kernel kills for lack of memory in the group,
// until ctx ends or the group is removed.
func (g *Group) WatchOOM(ctx context.Context, killed func()) error {
	file := g.OOMFile()
	if file == "" {
		return errors.New("the host has no memory controller")
	}
	if Version() == 2 {
		return watchEvents(ctx, file, killed)
	}
	return watchControl(ctx, file, killed)
}

// watchControl is told by version 1 of every lack of memory: an eventfd is registered
// in cgroup.event_control beside memory.oom_control.
func watchControl(ctx context.Context, file string, killed func()) error {
	control, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("watch for lack of memory: %w", err)
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch for lack of memory: %w", err)
	}
	event := os.NewFile(uintptr(fd), "eventfd")
	defer event.Close()
	text := strconv.Itoa(fd) + " " + strconv.Itoa(int(control.Fd()))
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "cgroup.event_control"), []byte(text), 0); err != nil {
		return fmt.Errorf("watch for lack of memory: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { event.Close() })
	defer stop()
	for count := make([]byte, 8); ; {
		if _, err := event.Read(count); err != nil {
			return ctx.Err()
		}
		// The group's removal is told in the same way.
		if _, err := os.Stat(file); err != nil {
			return nil
		}
		killed()
	}
}

// watchEvents is told by version 2 that memory.events has changed.
func watchEvents(ctx context.Context, file string, killed func()) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch for lack of memory: %w", err)
	}
	defer watch.Close()
	if err := watch.Add(file); err != nil {
		return fmt.Errorf("watch for lack of memory: %w", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil // the group is gone
	}
	for seen := killsIn(data); ; {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil
		}
		if n := killsIn(data); n > seen {
			seen = n
			killed()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, ok := <-watch.Events:
			if !ok {
				return nil
			}
		case <-watch.Errors:
		}
	}
}

// killsIn reads the line "oom_kill N".
func killsIn(data []byte) uint64 {
	for line := range bytes.SplitSeq(data, []byte{'\n'}) {
		if v, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, _ := strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 64)
			return n
		}
	}
	return 0
}
