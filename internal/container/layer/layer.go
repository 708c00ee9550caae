// Package layer looks into the file system that an image's unpacked layers make,
// without the host ever seeing it mounted: reading a file of it, and filling a new
// volume from it. What a container or an image says is never followed out of its
// root.
package layer

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/thread"
)

// Open gives a descriptor of the root directory that the layers make, top
// first. The overlay is mounted in a mount namespace of its own thread, which ends
// with the call: the host never sees it, and it goes with the last descriptor.
func Open(lower []string) (*os.File, error) {
	switch len(lower) {
	case 0:
		return nil, os.ErrNotExist
	case 1:
		return os.Open(lower[0])
	}
	var f *os.File
	err := thread.Run(func() (err error) {
		f, err = mountLayers(lower)
		return err
	})
	return f, err
}

func mountLayers(lower []string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare mounts: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	// mount(2) takes one page of options: paths relative to a common parent are
	// short enough for as many layers as an image may have.
	parent, dirs := relative(lower)
	if err := unix.Chdir(parent); err != nil {
		return nil, fmt.Errorf("enter layers: %w", err)
	}
	if err := unix.Mount("overlay", lower[0], "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(dirs, ":")); err != nil {
		return nil, fmt.Errorf("mount layers: %w", err)
	}
	return os.Open(lower[0])
}

func relative(dirs []string) (parent string, rel []string) {
	parent = filepath.Dir(dirs[0])
	for _, d := range dirs {
		for !strings.HasPrefix(d, strings.TrimSuffix(parent, "/")+"/") {
			parent = filepath.Dir(parent)
		}
	}
	for _, d := range dirs {
		rel = append(rel, strings.TrimPrefix(strings.TrimPrefix(d, parent), "/"))
	}
	return parent, rel
}

// OpenInRoot opens a path as a process whose root directory is root would: links
// never leave it.
func OpenInRoot(root *os.File, name string, flags uint64) (*os.File, error) {
	fd, err := unix.Openat2(int(root.Fd()), strings.TrimPrefix(name, "/"), &unix.OpenHow{
		Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ReadFile reads a small file of the file system that the layers make, without
// mounting it where no symbolic link is on the way. os.ErrNotExist: there is none.
func ReadFile(layers []string, name string) ([]byte, error) {
	const limit = 8 << 20
	dir := path.Dir(name)
	for _, layer := range layers {
		at, err := os.Lstat(filepath.Join(layer, dir))
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return nil, err
		case !at.IsDir():
			return readMounted(layers, name, limit)
		}
		full := filepath.Join(layer, name)
		info, err := os.Lstat(full)
		switch {
		case err == nil && info.Mode().IsRegular():
			if info.Size() > limit {
				return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
			}
			return os.ReadFile(full)
		case err == nil && info.Mode()&os.ModeCharDevice != 0:
			return nil, os.ErrNotExist // deleted in this layer
		case err == nil:
			return readMounted(layers, name, limit)
		case !errors.Is(err, os.ErrNotExist):
			return nil, err
		}
		if opaque(filepath.Join(layer, dir)) {
			return nil, os.ErrNotExist
		}
	}
	return nil, os.ErrNotExist
}

func opaque(dir string) bool {
	var b [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

func readMounted(layers []string, name string, limit int64) ([]byte, error) {
	root, err := Open(layers)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return ReadInRoot(root, name, limit)
}

// Look opens a file below root and says what it is; see Reading.
func Look(root *os.File, name string) (*os.File, os.FileInfo, error) {
	f, err := OpenInRoot(root, name, unix.O_PATH)
	if err != nil {
		return nil, nil, err
	}
	return Reading(f)
}

// Reading takes over an O_PATH descriptor and gives one that can be read, if it is of a
// regular file or a directory. What else it may be of, a device, a pipe or a socket of
// a container's or an image's making, is not touched: opening a device does something
// already (a watchdog begins to count).
func Reading(f *os.File) (*os.File, os.FileInfo, error) {
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return f, info, nil
	}
	defer f.Close()
	// No path is walked a second time: it is the same file.
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
	return os.NewFile(uintptr(fd), f.Name()), info, nil
}

// ReadInRoot reads a regular file below root; nothing else is opened.
func ReadInRoot(root *os.File, name string, limit int64) ([]byte, error) {
	f, info, err := Look(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a small regular file", name)
	}
	data := make([]byte, info.Size())
	n, err := unix.Pread(int(f.Fd()), data, 0)
	if err != nil {
		return nil, err
	}
	return data[:n], nil
}
