// Package du sums what files occupy on disk as du(1) does: allocated blocks, sparse
// files at what they take, a file of several names once, and nothing of what is
// mounted below.
package du

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

type inode struct{ dev, ino uint64 }

// Size is what a tree occupies, in bytes.
type Size struct {
	Files, Dirs int64
	// links are files that have names outside the tree too; they are not in Files.
	links map[inode]int64
}

// Total is everything in it.
func (s Size) Total() int64 { return s.Files + s.Dirs }

// Counter adds trees up; a file that is in several of them counts for the first. It
// is safe for concurrent use.
type Counter struct {
	mu   sync.Mutex
	seen map[inode]struct{}
}

// New makes a Counter.
func New() *Counter { return &Counter{seen: map[inode]struct{}{}} }

// Tree measures path and everything below it. What is not there, or vanishes
// meanwhile, takes nothing.
func (c *Counter) Tree(ctx context.Context, path string) (Size, error) {
	s, err := Measure(ctx, path)
	return c.Add(s), err
}

// Add gives s with those files that belong to several trees and were not added yet.
// A Size of Measure may be kept and added again by another Counter.
func (c *Counter) Add(s Size) Size {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := Size{Files: s.Files, Dirs: s.Dirs}
	for i, size := range s.links {
		if _, ok := c.seen[i]; !ok {
			c.seen[i] = struct{}{}
			out.Files += size
		}
	}
	return out
}

// Alone gives what a folder occupies without what is in it.
func Alone(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return 0, nil
		}
		return 0, fmt.Errorf("measure %s: %w", path, err)
	}
	return st.Blocks * 512, nil
}

// Measure is Tree for a Counter that comes later.
func Measure(ctx context.Context, path string) (Size, error) {
	w := walk{ctx: ctx, links: map[inode]*link{}}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Size{}, w.failed(path, err)
	}
	w.dev = st.Dev
	if err := w.visit(path, &st); err != nil {
		return Size{}, err
	}
	for i, l := range w.links {
		if l.found == l.names {
			w.size.Files += l.size
			continue
		}
		if w.size.links == nil {
			w.size.links = map[inode]int64{}
		}
		w.size.links[i] = l.size
	}
	return w.size, nil
}

type link struct {
	size         int64
	found, names uint64
}

type walk struct {
	ctx   context.Context
	dev   uint64
	size  Size
	links map[inode]*link
}

func (w *walk) failed(path string, err error) error {
	if err == nil || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return fmt.Errorf("measure %s: %w", path, err)
}

func (w *walk) visit(path string, st *unix.Stat_t) error {
	size := st.Blocks * 512
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		w.size.Dirs += size
		return w.dir(path)
	}
	if st.Nlink < 2 {
		w.size.Files += size
		return nil
	}
	key := inode{st.Dev, st.Ino}
	l := w.links[key]
	if l == nil {
		l = &link{size: size, names: uint64(st.Nlink)}
		w.links[key] = l
	}
	l.found++
	return nil
}

func (w *walk) dir(path string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	names, err := list(path)
	if err != nil {
		return w.failed(path, err)
	}
	for _, name := range names {
		var st unix.Stat_t
		below := path + "/" + name
		err := unix.Lstat(below, &st)
		if err == nil && st.Dev == w.dev {
			err = w.visit(below, &st)
		}
		if err != nil {
			if err := w.failed(below, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// list opens a directory that must not be a link by now.
func list(path string) ([]string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // O_NOATIME is the owner's
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return f.Readdirnames(-1)
}
