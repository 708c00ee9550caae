package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/container/rootfs"
)

// attributes sets owner, mode and extended attributes of a directory or a node, which
// is opened as O_PATH: nothing of it is activated.
func (u *unpacker) attributes(base string, h *tar.Header, uid, gid, flags int) error {
	fd, err := unix.Openat(u.parent, base, flags|unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := u.setOn(fd, h, uid, gid); err != nil || h.Typeflag == tar.TypeDir {
		return err
	}
	return u.times(fd, h)
}

// setOn sets owner, mode and extended attributes in the order in which one does not
// undo another: chown clears set-user-id and capabilities. fd may be an O_PATH one.
func (u *unpacker) setOn(fd int, h *tar.Header, uid, gid int) error {
	name := rootfs.FDPath(fd)
	if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Chmod(name, uint32(h.Mode&0o7777)); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, xattrKey)
		if !ok || !carried(attr) {
			continue
		}
		if err := ignore(unix.Setxattr(name, attr, []byte(value), 0), unix.ENOTSUP, unix.EPERM); err != nil {
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	return nil
}

// owner sets what a symbolic link has.
func (u *unpacker) owner(base string, h *tar.Header, uid, gid int) error {
	if err := unix.Fchownat(u.parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(u.parent, base, timesOf(h), unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) times(fd int, h *tar.Header) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, rootfs.FDPath(fd), timesOf(h), 0)
}

func timesOf(h *tar.Header) []unix.Timespec {
	access := h.AccessTime
	if access.IsZero() {
		access = h.ModTime
	}
	return []unix.Timespec{timespec(access), timespec(h.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() || t.Before(time.Unix(0, 0)) {
		t = time.Unix(0, 0)
	}
	return unix.NsecToTimespec(t.UnixNano())
}

// setTimes gives the directories their times, after everything was put in them.
func (u *unpacker) setTimes() error {
	for _, h := range u.dirs {
		fd, err := u.root.Open(h.Name, unix.O_PATH|unix.O_DIRECTORY)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue // a later entry, or the container, replaced it
		}
		if err != nil {
			return &fs.PathError{Op: "extract", Path: h.Name, Err: err}
		}
		err = u.times(fd, h)
		unix.Close(fd)
		if err != nil {
			return &fs.PathError{Op: "extract", Path: h.Name, Err: err}
		}
	}
	return nil
}
