package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"muelle/internal/container/rootfs"
)

// UnpackOptions are those of PUT /containers/NAME/archive.
type UnpackOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else and vice
	// versa.
	NoOverwriteDirNonDir bool
	// Owner, if not nil, gets everything, whatever the stream says.
	Owner *[2]int
	IDs   IDs
}

// unpacker puts the entries of one stream below a directory.
type unpacker struct {
	ctx  context.Context
	root *rootfs.Root
	dest string // absolute, without links
	o    UnpackOptions
	t    *tar.Reader
	buf  []byte

	parent     int // the last entry's directory, or -1
	parentName string
	dirs       []*tar.Header // whose times are set at the end
}

// Unpack reads a tar stream and puts its entries below dest, a directory in root. What
// is there is replaced, a directory by a directory apart. Links are followed as a
// process of the container would follow them; no entry gets out of the root, and no name
// out of dest. A stream that is cut off leaves whole files only.
func Unpack(ctx context.Context, root *rootfs.Root, dest string, r io.Reader, o UnpackOptions) error {
	full, err := root.Resolve(dest)
	if err != nil {
		return &fs.PathError{Op: "lstat", Path: dest, Err: err}
	}
	u := &unpacker{ctx: ctx, root: root, dest: full, o: o, t: tar.NewReader(onlyReader{ctx, r}), buf: make([]byte, 128<<10), parent: -1}
	defer func() {
		if u.parent >= 0 {
			unix.Close(u.parent)
		}
	}()
	for {
		h, err := u.t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return readError(ctx, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.entry(h); err != nil {
			return err
		}
	}
	return u.setTimes()
}

// readError tells a broken archive from a client that went away.
func readError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errdefs.ErrInvalidArgument.WithMessage("read archive: " + err.Error())
	}
	return fmt.Errorf("read archive: %w", err)
}

// entry puts one entry in its place.
func (u *unpacker) entry(h *tar.Header) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == ".." || strings.HasPrefix(name, "../") {
		return invalid(fmt.Sprintf("%q is outside of %q", h.Name, u.dest))
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return invalid(fmt.Sprintf("cannot overwrite directory %q with non-directory %q", u.dest, u.dest))
		}
		return nil // the destination itself stays as it is
	}
	where := path.Join(u.dest, name)
	err := u.place(h, where)
	if err != nil && !errdefs.IsInvalidArgument(err) {
		return &fs.PathError{Op: "extract", Path: where, Err: err}
	}
	return err
}

func (u *unpacker) place(h *tar.Header, where string) error {
	dir, base := path.Split(where)
	if err := u.enter(dir); err != nil {
		return err
	}
	exists, isDir, err := u.makeRoom(h, where, base)
	if err != nil {
		return err
	}
	uid, gid := h.Uid, h.Gid
	if u.o.Owner != nil {
		uid, gid = u.o.Owner[0], u.o.Owner[1]
	}
	if uid, gid, err = u.o.IDs.in(uid, gid); err != nil {
		return err
	}
	if isRegular(h) {
		return u.regular(h, base, uid, gid, exists)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if !exists || !isDir {
			if err := unix.Mkdirat(u.parent, base, 0o700); err != nil {
				return err
			}
		}
		u.dirs = append(u.dirs, &tar.Header{Name: where, ModTime: h.ModTime, AccessTime: h.AccessTime})
		return u.attributes(base, h, uid, gid, unix.O_DIRECTORY)
	case tar.TypeLink:
		return u.hardLink(h, base)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, u.parent, base); err != nil {
			return err
		}
		return u.owner(base, h, uid, gid)
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		return u.node(h, base, uid, gid)
	}
	return invalid(fmt.Sprintf("unhandled tar header type %d", h.Typeflag))
}

// enter opens the directory of an entry; entries of one directory mostly follow each
// other.
func (u *unpacker) enter(dir string) error {
	if u.parent >= 0 && u.parentName == dir {
		return nil
	}
	fd, err := u.root.MkdirAll(dir)
	if err != nil {
		return err
	}
	if u.parent >= 0 {
		unix.Close(u.parent)
	}
	u.parent, u.parentName = fd, dir
	return nil
}

// makeRoom removes what an entry replaces. What stays is told: a directory that the
// entry's merges with, or a regular file that is a mount point and so is written to.
func (u *unpacker) makeRoom(h *tar.Header, where, base string) (exists, isDir bool, err error) {
	var st unix.Stat_t
	err = unix.Fstatat(u.parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	becomesDir := h.Typeflag == tar.TypeDir
	switch {
	case isDir && becomesDir:
		return true, true, nil
	case isDir && u.o.NoOverwriteDirNonDir:
		return false, false, invalid(fmt.Sprintf("cannot overwrite directory %q with non-directory %q", where, u.dest))
	case becomesDir && u.o.NoOverwriteDirNonDir:
		return false, false, invalid(fmt.Sprintf("cannot overwrite non-directory %q with directory %q", where, u.dest))
	}
	if !isDir && isRegular(h) {
		mounted, err := mountRoot(u.parent, base)
		return mounted && st.Mode&unix.S_IFMT == unix.S_IFREG, false, err // else renaming replaces it
	}
	return false, false, removeAll(u.ctx, u.parent, base, isDir, 0)
}

// isRegular: zero is how old archives say it.
func isRegular(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == 0 || h.Typeflag == tar.TypeGNUSparse
}

// mountRoot tells whether something is mounted on a name.
func mountRoot(dir int, name string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}

// removeAll removes a name below a directory with all that is below it.
func removeAll(ctx context.Context, parent int, name string, isDir bool, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !isDir {
		return unix.Unlinkat(parent, name, 0)
	}
	if depth > maxDepth {
		return unix.ENAMETOOLONG
	}
	dir, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = eachName(dir, func(child string) error {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, child, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return ignore(err, unix.ENOENT)
		}
		return removeAll(ctx, dir, child, st.Mode&unix.S_IFMT == unix.S_IFDIR, depth+1)
	})
	unix.Close(dir)
	if err != nil {
		return err
	}
	return unix.Unlinkat(parent, name, unix.AT_REMOVEDIR)
}

// temporary is what a file is called until it is whole.
const temporary = ".muelle-copy-"

// regular writes a file beside its place and moves it there when it is whole, so that
// a client that goes away leaves nothing half done and the container sees either file.
func (u *unpacker) regular(h *tar.Header, base string, uid, gid int, mounted bool) error {
	if mounted {
		return u.overwrite(h, base)
	}
	tmp := temporary + randomName()
	fd, err := unix.Openat(u.parent, tmp, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	err = u.fill(f, h.Size)
	if err == nil {
		err = u.setOn(fd, h, uid, gid)
	}
	if err == nil {
		err = u.times(fd, h)
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = unix.Renameat(u.parent, tmp, u.parent, base)
	}
	if err != nil {
		return errors.Join(err, ignore(unix.Unlinkat(u.parent, tmp, 0), unix.ENOENT))
	}
	return nil
}

// overwrite changes a file that is mounted in its place, such as /etc/hosts: it can be
// neither removed nor replaced.
func (u *unpacker) overwrite(h *tar.Header, base string) error {
	at, err := unix.Openat(u.parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EBUSY
	}
	fd, err := rootfs.Reopen(at, unix.O_WRONLY|unix.O_TRUNC|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	return errors.Join(u.fill(f, h.Size), f.Close())
}

// fill writes an entry's content; long runs of zeros become holes.
func (u *unpacker) fill(f *os.File, size int64) error {
	var hole bool
	for {
		// A hole of a sparse file may be as large as its header claims, and reads nothing.
		if err := u.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(u.t, u.buf)
		if n > 0 {
			if hole = zeroed(u.buf[:n]); hole {
				if _, err := f.Seek(int64(n), io.SeekCurrent); err != nil {
					return err
				}
			} else if _, err := f.Write(u.buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			at, serr := f.Seek(0, io.SeekCurrent)
			if serr != nil {
				return serr
			}
			if at != size {
				return readError(u.ctx, io.ErrUnexpectedEOF)
			}
			if hole {
				return f.Truncate(size)
			}
			return nil
		}
		if err != nil {
			return readError(u.ctx, err)
		}
	}
}

func zeroed(b []byte) bool { return len(b) >= 4096 && b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) }

// hardLink makes a further name for a file of the same stream, or one that was there.
func (u *unpacker) hardLink(h *tar.Header, base string) error {
	target := path.Join(u.dest, path.Join("/", h.Linkname))
	dir, name := path.Split(target)
	fd, err := u.root.Open(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("link to %s: %w", target, err)
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, name, u.parent, base, 0)
}

func (u *unpacker) node(h *tar.Header, base string, uid, gid int) error {
	kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
	dev := 0
	if h.Typeflag != tar.TypeFifo {
		if h.Devmajor < 0 || h.Devmajor > 1<<12 || h.Devminor < 0 || h.Devminor > 1<<20 {
			return invalid("invalid device number")
		}
		dev = int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	}
	if err := unix.Mknodat(u.parent, base, kind|0o600, dev); err != nil {
		return err
	}
	return u.attributes(base, h, uid, gid, 0)
}
