// Package archive turns files below a container's root into tar streams and back, the
// way `docker cp`, `export` and `commit` want them. Nothing is kept in memory but one
// buffer; files are opened by descriptors below the root and never by a path of the
// host. Both the tree and the stream may come from somebody hostile, and the tree may
// change while it is walked.
package archive

import (
	"archive/tar"
	"crypto/rand"
	"errors"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"muelle/internal/container/rootfs"
)

// IDs translates owners between the files that are seen and the stream: those of a
// container with a user namespace of its own are shifted in the first. The zero value
// changes nothing. It is the one place where owners are translated.
type IDs struct {
	// Out gives the container's view of what the file system shows.
	Out func(uid, gid uint32) (uint32, uint32)
	// In gives what the file system is told for the container's view.
	In func(uid, gid uint32) (uint32, uint32)
}

func (i IDs) out(uid, gid uint32) (int, int) {
	if i.Out != nil {
		uid, gid = i.Out(uid, gid)
	}
	return int(uid), int(gid)
}

func (i IDs) in(uid, gid int) (int, int, error) {
	if uid < 0 || gid < 0 || uid >= math.MaxUint32 || gid >= math.MaxUint32 {
		return 0, 0, invalid("invalid owner")
	}
	if i.In != nil {
		u, g := i.In(uint32(uid), uint32(gid))
		return int(u), int(g), nil
	}
	return uid, gid, nil
}

func invalid(text string) error { return errdefs.ErrInvalidArgument.WithMessage(text) }

// Stat describes a path as the header X-Docker-Container-Path-Stat does: the last
// element is not followed unless a slash stands behind it, and a link's target is told
// with all links followed.
func Stat(root *rootfs.Root, name string) (ctypes.PathStat, error) {
	full := absolute(name)
	fd, err := root.Open(full, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return ctypes.PathStat{}, &fs.PathError{Op: "lstat", Path: full, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return ctypes.PathStat{}, &fs.PathError{Op: "lstat", Path: full, Err: err}
	}
	out := ctypes.PathStat{
		Name: baseName(full), Size: st.Size, Mode: fileMode(st.Mode), Mtime: time.Unix(st.Mtim.Unix()),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if out.LinkTarget, err = root.Resolve(full); err != nil {
			return out, &fs.PathError{Op: "follow", Path: full, Err: err}
		}
	}
	return out, nil
}

// absolute cleans a path but keeps what it says at its end: "/" or "/." asks for the
// directory that a link leads to.
func absolute(name string) string {
	clean := path.Join("/", name)
	switch {
	case clean == "/":
		return clean
	case strings.HasSuffix(name, "/."):
		return clean + "/."
	case strings.HasSuffix(name, "/"):
		return clean + "/"
	}
	return clean
}

// baseName is the last element; "." for the content of a directory.
func baseName(full string) string {
	if strings.HasSuffix(full, "/.") {
		return "."
	}
	return path.Base(full)
}

// fileMode is a mode as Go writes it, which is what Docker's clients read.
func fileMode(m uint32) os.FileMode {
	mode := os.FileMode(m & 0o777)
	for _, x := range []struct {
		bit  uint32
		mode os.FileMode
	}{{unix.S_ISUID, os.ModeSetuid}, {unix.S_ISGID, os.ModeSetgid}, {unix.S_ISVTX, os.ModeSticky}} {
		if m&x.bit != 0 {
			mode |= x.mode
		}
	}
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= os.ModeDir
	case unix.S_IFLNK:
		mode |= os.ModeSymlink
	case unix.S_IFIFO:
		mode |= os.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= os.ModeSocket
	case unix.S_IFBLK:
		mode |= os.ModeDevice
	case unix.S_IFCHR:
		mode |= os.ModeDevice | os.ModeCharDevice
	}
	return mode
}

// xattrKey stands before an extended attribute's name in a PAX record.
const xattrKey = "SCHILY.xattr."

// carried tells which extended attributes a stream carries: file capabilities and what
// users wrote, never those by which overlayfs keeps its books.
func carried(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.") && !strings.ContainsAny(name, "=\x00")
}

// xattrs reads the attributes of what path names into PAX records.
func xattrs(path string) (map[string]string, error) {
	n, err := unix.Listxattr(path, nil)
	if n == 0 || err != nil {
		return nil, ignore(err, unix.ENOTSUP, unix.ENOENT, unix.EACCES, unix.EPERM)
	}
	list := make([]byte, n)
	if n, err = unix.Listxattr(path, list); err != nil {
		return nil, ignore(err, unix.ERANGE)
	}
	var records map[string]string
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if !carried(name) {
			continue
		}
		value := make([]byte, 64<<10) // the kernel's own limit
		size, err := unix.Getxattr(path, name, value)
		if err != nil {
			continue // removed meanwhile
		}
		if records == nil {
			records = map[string]string{}
		}
		records[xattrKey+name] = string(value[:size])
	}
	return records, nil
}

func ignore(err error, of ...error) error {
	for _, e := range of {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// typeFlag is a file's type in a tar stream; 0 for sockets, which cannot be in one.
func typeFlag(mode uint32) byte {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return tar.TypeReg
	case unix.S_IFDIR:
		return tar.TypeDir
	case unix.S_IFLNK:
		return tar.TypeSymlink
	case unix.S_IFIFO:
		return tar.TypeFifo
	case unix.S_IFCHR:
		return tar.TypeChar
	case unix.S_IFBLK:
		return tar.TypeBlock
	}
	return 0
}

func randomName() string { return rand.Text()[:12] }
