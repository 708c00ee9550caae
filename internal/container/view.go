package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"

	"muelle/internal/container/rootfs"
	"muelle/internal/id"
	"muelle/internal/runtime"
)

// viewOptions say what a view of a container's files is for.
type viewOptions struct {
	writer *writer // not nil: changes are to reach the container
	mounts bool    // with volumes, binds and the files of the network
}

// view opens the file system of a container, in whatever state it is; of a running one
// it is live. done ends it. op is held meanwhile where a container that does not run is
// written to, so that it is not started half way.
func (s *Service) view(ctx context.Context, c *entry, o viewOptions) (root *rootfs.Root, done func(), err error) {
	for {
		if h := c.borrower(); h != nil {
			// What debugs it has its layer mounted, which is mounted once.
			if root, done, err = s.viewRunning(h, o); errors.Is(err, errNotRunning) {
				if err = s.awaitBorrower(ctx, c, h); err == nil {
					continue
				}
			}
			return root, done, err
		}
		root, done, err = s.viewRunning(c, o)
		if !errors.Is(err, errNotRunning) {
			return root, done, err
		}
		root, done, err = s.viewResting(ctx, c, o)
		if !errors.Is(err, errRunning) {
			return root, done, err
		}
	}
}

var (
	errNotRunning = errors.New("the container does not run")
	errRunning    = errors.New("the container runs")
)

// viewRunning shows the mounts of a running container.
func (s *Service) viewRunning(c *entry, o viewOptions) (*rootfs.Root, func(), error) {
	if o.writer != nil {
		c.enter(o.writer)
	}
	leave := func() {
		if o.writer != nil {
			c.leave(o.writer)
		}
	}
	c.mu.Lock()
	rec, task, alive := c.rec, c.task, c.st.alive()
	c.mu.Unlock()
	if !alive || task == nil {
		leave()
		return nil, nil, errNotRunning
	}
	ns, err := mountNamespace(task)
	if err != nil {
		leave()
		return nil, nil, err
	}
	defer ns.Close()
	vo := rootfs.Options{NS: ns, IDs: c.ids()}
	if o.mounts {
		vo.Mounts = liveMounts(&rec)
	}
	root, err := rootfs.Open(vo)
	if err != nil {
		leave()
		return nil, nil, err
	}
	return root, func() { root.Close(); leave() }, nil
}

// mountNamespace opens the mounts of a running container.
func mountNamespace(task runtime.Task) (*os.File, error) {
	pid := task.Pid()
	if pid == 0 {
		return nil, errNotRunning
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("find the container's mounts: %w", err)
	}
	if task.Pid() != pid {
		ns.Close() // its number may be another's by now
		return nil, errNotRunning
	}
	return ns, nil
}

// viewResting mounts the layers of a container that does not run.
func (s *Service) viewResting(ctx context.Context, c *entry, o viewOptions) (*rootfs.Root, func(), error) {
	if err := s.acquire(ctx, c); err != nil {
		return nil, nil, err
	}
	release := c.op.release
	defer func() {
		if release != nil {
			release()
		}
	}()
	c.mu.Lock()
	rec, removed, alive := c.rec, c.removed, c.loan != nil || c.st.alive() && c.task != nil && c.task.Pid() != 0
	c.mu.Unlock()
	switch {
	case removed:
		return nil, nil, errdefs.ErrNotFound.WithMessage("No such container: " + c.id)
	case alive:
		return nil, nil, errRunning
	}
	vo, err := s.layersOf(ctx, c, &rec, o)
	if err != nil {
		return nil, nil, err
	}
	unmount := func() {}
	if o.mounts {
		user := "view " + id.New()
		if err := s.mountVolumes(ctx, user, rec.Mounts); err != nil {
			return nil, nil, err
		}
		unmount = func() { s.unmountVolumes(user, rec.Mounts) }
	}
	root, err := rootfs.Open(vo)
	if err != nil {
		unmount()
		return nil, nil, err
	}
	if o.writer == nil {
		return root, func() { root.Close(); unmount() }, nil
	}
	held := release
	release = nil
	return root, func() { root.Close(); unmount(); held() }, nil
}

// layersOf describes the file system of a container that does not run. op is held.
func (s *Service) layersOf(ctx context.Context, c *entry, rec *record, o viewOptions) (rootfs.Options, error) {
	vo := rootfs.Options{Writable: o.writer != nil}
	vo.ReadOnly = vo.Writable && rec.HostConfig.ReadonlyRootfs
	if o.mounts {
		images, err := s.mountedLayers(ctx, c.id, rec.Mounts)
		if err != nil {
			return vo, err
		}
		vo.Mounts = restingMounts(rec, images)
	}
	if vo.Writable {
		// What the run before left mounted must be gone: a layer is mounted once.
		if err := errors.Join(s.awaitCleaned(ctx, c), s.awaitWriters(ctx, c)); err != nil {
			return vo, err
		}
	}
	if err := s.findLayers(ctx, c, rec); err != nil {
		return vo, err
	}
	if vo.Writable || len(c.lower) == 0 {
		if err := c.makeLayer(); err != nil {
			return vo, err
		}
	}
	vo.Lower = c.lower
	if len(vo.Lower) == 0 {
		vo.Lower = []string{c.emptyLayer()}
	}
	if !exists(c.upper()) {
		return vo, nil
	}
	vo.Upper = c.upper()
	if vo.Writable {
		vo.Work = c.work()
	}
	return vo, nil
}

// liveMounts are the mounts of a running container that a view shows: those that a user
// asked for and the files of its network, as they are mounted in it. /proc, /sys, /dev
// and what it mounted itself are none of its files.
func liveMounts(rec *record) []rootfs.Mount {
	out := []rootfs.Mount{{Destination: "/etc/hosts"}, {Destination: "/etc/hostname"}, {Destination: "/etc/resolv.conf"}}
	for _, m := range rec.Mounts {
		out = append(out, rootfs.Mount{Destination: m.Destination, NonRecursive: m.NonRecursive})
	}
	for dest := range rec.HostConfig.Tmpfs {
		out = append(out, rootfs.Mount{Destination: path.Clean(dest), NonRecursive: true})
	}
	return out
}

// restingMounts are the volumes, binds and images of a container that does not run. A bind whose
// source is missing is left out, and so is what exists in a running container only.
func restingMounts(rec *record, images map[string][]string) (out []rootfs.Mount) {
	for _, m := range rec.Mounts {
		if m.Type == mount.TypeImage {
			out = append(out, rootfs.Mount{Layers: images[m.Destination], Subpath: m.Subpath, Destination: m.Destination, ReadOnly: true})
			continue
		}
		if (m.Type == mount.TypeBind || m.Type == mount.TypeVolume) && exists(m.Source) {
			out = append(out, rootfs.Mount{
				Source: m.Source, Subpath: m.Subpath, Destination: m.Destination, ReadOnly: !m.RW, NonRecursive: m.NonRecursive,
			})
		}
	}
	return out
}

// stillThere is asked when files of a container were read: a removal that came in between
// may have taken some away.
func (c *entry) stillThere() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return errdefs.ErrNotFound.WithMessage("No such container: " + c.id + " was removed meanwhile")
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return path != "" && err == nil
}

// writableAt tells whether a path without links may be written to, with Docker's texts
// where it may not.
func writableAt(rec *record, name string) error {
	writable, found, err := !rec.HostConfig.ReadonlyRootfs, "/", invalid("container rootfs is marked read-only")
	look := func(dest string, rw bool) {
		if dest = path.Clean(dest); within(name, dest) && len(dest) > len(found) {
			writable, found, err = rw, dest, invalid("mounted volume is marked read-only")
		}
	}
	for _, m := range rec.Mounts {
		look(m.Destination, m.RW)
	}
	for dest, options := range rec.HostConfig.Tmpfs {
		look(dest, !slices.Contains(strings.Split(options, ","), "ro"))
	}
	if writable {
		return nil
	}
	return err
}
