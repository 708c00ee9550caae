package archive

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"muelle/internal/container/rootfs"
)

// provided are the files that every container has because the runtime needs mount
// points. Docker keeps them in a layer between the image and the container, so they
// are no change of it; true stands for directories.
var provided = map[string]bool{
	"/dev": true, "/dev/pts": true, "/dev/shm": true, "/dev/mqueue": true, "/dev/console": false, "/proc": true, "/sys": true,
	"/etc": true, "/etc/hosts": false, "/etc/hostname": false, "/etc/resolv.conf": false, marker: false,
}

// marker is the one of them that lies over the image's file, if there is one: images
// that were made of a container's export have it.
const marker = "/.dockerenv"

// Changes compares a container's own layer, as overlayfs keeps it, with what the layers
// below it show, and tells what was added, changed and deleted: the same that Docker
// finds by walking both trees, in order of paths. A directory in which something changed
// is changed itself.
func Changes(ctx context.Context, upper, lower *rootfs.Root) ([]ctypes.FilesystemChange, error) {
	d := &differ{ctx: ctx}
	own, err := upper.Open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	below, err := lower.Open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(below)
	if err := d.dir(own, below, "", 0); err != nil {
		return nil, err
	}
	slices.SortFunc(d.changes, func(a, b ctypes.FilesystemChange) int {
		return strings.Compare(strings.ReplaceAll(a.Path, "/", "\x00"), strings.ReplaceAll(b.Path, "/", "\x00"))
	})
	return d.changes, nil
}

type differ struct {
	ctx     context.Context
	changes []ctypes.FilesystemChange
}

func (d *differ) add(kind ctypes.ChangeType, name string) {
	d.changes = append(d.changes, ctypes.FilesystemChange{Kind: kind, Path: name})
}

// dir compares a directory of the layer with the one below it, which is -1 where there
// is none.
func (d *differ) dir(own, below int, at string, depth int) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	if depth > maxDepth {
		return unix.ENAMETOOLONG
	}
	seen := map[string]bool{}
	opaque := below >= 0 && isOpaque(own)
	err := eachName(own, func(name string) error {
		if opaque {
			seen[name] = true
		}
		return ignore(d.entry(own, below, name, at+"/"+name, depth), unix.ENOENT)
	})
	if err != nil || !opaque {
		return err
	}
	return eachName(below, func(name string) error {
		if !seen[name] {
			d.add(ctypes.ChangeDelete, at+"/"+name)
		}
		return nil
	})
}

// isOpaque tells whether a directory hides everything below it.
func isOpaque(dir int) bool {
	var b [1]byte
	n, err := unix.Fgetxattr(dir, "trusted.overlay.opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

func (d *differ) entry(own, below int, name, at string, depth int) error {
	var st, old unix.Stat_t
	if err := unix.Fstatat(own, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	had := false
	if below >= 0 {
		err := unix.Fstatat(below, name, &old, unix.AT_SYMLINK_NOFOLLOW)
		if had = err == nil; err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		if had { // else it hides nothing
			d.add(ctypes.ChangeDelete, at)
		}
		return nil
	}
	first, told := len(d.changes), true
	switch {
	case had && different(own, below, name, &st, &old) && !(at == marker && isProvided(at, &st)):
		d.add(ctypes.ChangeModify, at)
	case !had && !isProvided(at, &st):
		d.add(ctypes.ChangeAdd, at)
	default:
		told = false
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if err := d.inside(own, below, name, at, had && old.Mode&unix.S_IFMT == unix.S_IFDIR, depth); err != nil {
		return err
	}
	if !told && len(d.changes) > first {
		d.add(ctypes.ChangeModify, at)
	}
	return nil
}

func (d *differ) inside(own, below int, name, at string, both bool, depth int) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	o, err := unix.Openat(own, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(o)
	b := -1
	if both {
		if b, err = unix.Openat(below, name, flags, 0); err != nil {
			return err
		}
		defer unix.Close(b)
	}
	return d.dir(o, b, at, depth+1)
}

// isProvided tells whether a file is there for the runtime only.
func isProvided(at string, st *unix.Stat_t) bool {
	dir, ok := provided[at]
	if !ok || st.Uid != 0 || st.Gid != 0 {
		return false
	}
	if dir {
		return st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&0o7777 == 0o755
	}
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0
}

// different compares as Docker does: neither size nor time of a directory count, nor
// anything that copying a file up changes by itself.
func different(own, below int, name string, a, b *unix.Stat_t) bool {
	if a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Rdev != b.Rdev {
		return true
	}
	if a.Mode&unix.S_IFMT == unix.S_IFDIR {
		return false
	}
	if a.Size != b.Size || a.Mtim.Sec != b.Mtim.Sec || a.Mtim.Nsec != b.Mtim.Nsec && a.Mtim.Nsec != 0 && b.Mtim.Nsec != 0 {
		return true
	}
	return a.Mode&unix.S_IFMT == unix.S_IFREG && capability(own, name) != capability(below, name)
}

func capability(dir int, name string) string {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	b := make([]byte, 64)
	n, err := unix.Getxattr(rootfs.FDPath(fd), "security.capability", b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// PackLayer writes what changed in a container's own layer as a layer of an image: the
// files themselves, and a whiteout for each that was deleted. It tells whether there was
// anything.
func PackLayer(ctx context.Context, w io.Writer, upper, lower *rootfs.Root, ids IDs) (some bool, err error) {
	changes, err := Changes(ctx, upper, lower)
	if err != nil || len(changes) == 0 {
		return false, err
	}
	p := newPacker(ctx, w, ids)
	p.flat = true
	now := time.Now()
	for _, c := range changes {
		if err := ctx.Err(); err != nil {
			return true, err
		}
		name := c.Path[1:]
		if c.Kind == ctypes.ChangeDelete {
			dir, base := path.Split(name)
			h := &tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + base, Mode: 0o600, ModTime: now}
			if err := p.w.WriteHeader(h); err != nil {
				return true, err
			}
			continue
		}
		// Relative links in the layer are its own: none of them is followed.
		fd, err := upper.OpenBelow(name)
		if err == nil {
			err = p.file(fd, name, 0)
		}
		if err = ignore(err, unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ESTALE); err != nil {
			return true, err
		}
	}
	return true, p.w.Close()
}
