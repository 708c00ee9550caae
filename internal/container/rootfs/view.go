package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/mountattr"
	"muelle/internal/linux/thread"
	"muelle/internal/linux/userns"
)

// Mount is one of a container's own mounts. Of a running container the destination says
// it all: what is mounted there is shown.
type Mount struct {
	Source, Destination    string
	Subpath                string // of the source, which it cannot leave
	ReadOnly, NonRecursive bool
	// Layers, top first, are an image's, which is shown instead of a source.
	Layers []string
}

// Options say what a view shows.
type Options struct {
	// Lower are the image's layers, top first, Upper and Work the container's own one,
	// empty where it has none yet. They are used where NS is nil.
	Lower       []string
	Upper, Work string
	// NS is the mount namespace of the running container, whose root is shown then: one
	// writable layer must not be mounted twice.
	NS *os.File
	// Writable mounts the container's own layer for writing. Without it nothing that is
	// done to the view reaches the container's layer.
	Writable bool
	// ReadOnly is the container's own wish to have a root that cannot be written.
	ReadOnly bool
	Mounts   []Mount
	// Scratch is how much may be changed in memory in a view that is not Writable, as
	// tmpfs takes it: just enough for mount points where it is empty.
	Scratch string
	// Programs may be executed from it: it is somebody's tools, no container's files.
	Programs bool
	// IDs are the running container's: with NS everything is shown as it is to the host.
	IDs *userns.Map
}

// stage is where a view is put together, inside a mount namespace that ends with the
// call: a directory that every host has and that no layer or volume lies below.
const stage = "/sys"

// Open gives the root directory of a container as a mount tree that is attached
// nowhere. It goes when the Root is closed.
func Open(o Options) (*Root, error) {
	var fd int
	err := thread.Run(func() (err error) {
		b := &builder{o: o}
		defer b.close()
		fd, err = b.build()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the container's file system: %w", err)
	}
	root := NewRoot(os.NewFile(uintptr(fd), "rootfs"))
	root.ids = o.IDs
	return root, nil
}

type builder struct {
	o    Options
	live map[string]int // trees of a running container's mounts by destination
	base int            // tree of the running container's root, or -1
}

func (b *builder) close() {
	for _, fd := range b.live {
		unix.Close(fd)
	}
	if b.base >= 0 {
		unix.Close(b.base)
	}
}

func (b *builder) build() (int, error) {
	b.base, b.live = -1, map[string]int{}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return -1, err
	}
	if b.o.NS != nil {
		if err := b.visit(); err != nil {
			return -1, err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return -1, fmt.Errorf("unshare mounts: %w", err)
	}
	// Before anything is cloned: a clone of a shared mount would tell the host of what
	// is mounted on it.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return -1, fmt.Errorf("make mounts private: %w", err)
	}
	if err := b.mountBase(); err != nil {
		return -1, err
	}
	f, err := os.OpenFile(stage+"/root", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	root := NewRoot(f)
	defer root.Close()
	mounts := slices.Clone(b.o.Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int {
		return strings.Count(filepath.Clean(a.Destination), "/") - strings.Count(filepath.Clean(b.Destination), "/")
	})
	for _, m := range mounts {
		if err := b.mount(root, m); err != nil {
			return -1, fmt.Errorf("mount %s: %w", m.Destination, err)
		}
	}
	return b.detach()
}

// visit takes what is to be seen from the mount namespace of the running container.
func (b *builder) visit() error {
	home, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	if err := unix.Setns(int(b.o.NS.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the container's mounts: %w", err)
	}
	// Only its root: /proc, /sys, /dev and what the container mounted itself stay away.
	b.base, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the container's root: %w", err)
	}
	for _, m := range b.o.Mounts {
		fd, err := liveTree(m)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || err == nil && fd < 0 {
			continue // the container unmounted it
		}
		if err != nil {
			return fmt.Errorf("clone %s: %w", m.Destination, err)
		}
		b.live[m.Destination] = fd
	}
	return unix.Setns(home, unix.CLONE_NEWNS)
}

// mount puts one of the container's own mounts in its place.
func (b *builder) mount(root *Root, m Mount) error {
	tree, ok := b.live[m.Destination]
	if b.base >= 0 && !ok {
		return nil
	}
	if !ok {
		var err error
		if len(m.Layers) > 0 {
			m.NonRecursive = true
			tree, err = layersTree(m)
		} else {
			tree, err = sourceTree(m)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Source, err)
		}
		defer unix.Close(tree)
	}
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	target, err := b.point(root, m.Destination, st.Mode&unix.S_IFMT == unix.S_IFDIR)
	if err != nil || target < 0 {
		return err
	}
	defer unix.Close(target)
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Mount("", FDPath(tree), "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if m.ReadOnly {
		return readOnly(tree, !m.NonRecursive)
	}
	return nil
}

// point opens a mount point. What is missing is made, as a start does it; of a running
// container nothing is missing, unless it was taken away: then there is no place (-1).
func (b *builder) point(root *Root, dest string, isDir bool) (int, error) {
	fd, err := root.Open(dest, unix.O_PATH)
	if err == nil {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil && (st.Mode&unix.S_IFMT == unix.S_IFDIR) == isDir {
			return fd, nil
		}
		unix.Close(fd)
		if err == nil {
			err = unix.ENOTDIR
		}
	}
	if b.base >= 0 {
		return -1, nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return -1, err
	}
	if isDir {
		return root.MkdirAll(dest)
	}
	full, err := root.Resolve(dest)
	if err != nil {
		return -1, err
	}
	parent, err := root.MkdirAll(filepath.Dir(full))
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	fd, err = unix.Openat(parent, filepath.Base(full), unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
	if err != nil {
		return -1, err
	}
	unix.Close(fd)
	return root.Open(full, unix.O_PATH)
}

// detach takes the finished tree out of the namespace, which is about to end. Devices
// cannot be opened through it.
func (b *builder) detach() (int, error) {
	if b.base < 0 && b.o.ReadOnly {
		if err := unix.Mount("", stage+"/root", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return -1, fmt.Errorf("make the root read-only: %w", err)
		}
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, stage+"/root", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("detach the view: %w", err)
	}
	if mountattr.Supported() {
		attributes := uint64(unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID)
		if !b.o.Programs {
			attributes |= unix.MOUNT_ATTR_NOEXEC
		}
		if err := setAttributes(tree, true, attributes); err != nil {
			unix.Close(tree)
			return -1, fmt.Errorf("protect the view: %w", err)
		}
	}
	return tree, nil
}
