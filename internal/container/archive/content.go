package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"muelle/internal/container/rootfs"
)

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
	if err == nil {
		defer unix.Close(fd)
		err = unix.Linkat(fd, name, u.parent, base, 0)
	}
	// Not the path that was asked for is missing, but what the archive leads to.
	if errors.Is(err, unix.ENOENT) {
		return invalid(fmt.Sprintf("invalid hardlink %q -> %q: there is no %s", h.Name, h.Linkname, target))
	}
	if err != nil {
		return fmt.Errorf("link to %s: %w", target, err)
	}
	return nil
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
