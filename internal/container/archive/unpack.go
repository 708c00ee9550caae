package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
