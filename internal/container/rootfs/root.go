// Package rootfs gives the file system of a container, running or not, to who copies
// files in and out: as a descriptor of its root directory with the container's
// volumes and binds in their places, which no process of the host ever sees mounted.
// Every path is opened inside that root: what a container put there, symbolic links
// above all, leads nowhere else, also when it changes meanwhile (CVE-2018-15664).
// Nothing of the container is executed or loaded (CVE-2019-14271).
package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/userns"
)

// maxLinks is how many symbolic links one path may lead through, as in the kernel.
const maxLinks = 40

// Root is the root directory of a container. It is safe for concurrent use.
type Root struct {
	f   *os.File
	ids *userns.Map
}

// IDs is the map that the files' owners are shown with; nil: they are shown as the
// container knows them.
func (r *Root) IDs() *userns.Map { return r.ids }

// NewRoot takes over a descriptor of a directory.
func NewRoot(f *os.File) *Root { return &Root{f: f} }

// File is the descriptor itself, as O_PATH: of an opened view a mount tree that can be
// attached somewhere.
func (r *Root) File() *os.File { return r.f }

// Close ends the use of the root. What was mounted for it goes with it.
func (r *Root) Close() error { return r.f.Close() }

// Open opens a path with flags of open(2) as a process would whose root directory
// this is. The error is a plain errno.
func (r *Root) Open(name string, flags uint64) (fd int, err error) {
	err = r.do(func(root int) (err error) {
		for {
			fd, err = unix.Openat2(root, inside(name), &unix.OpenHow{
				Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
			})
			// EAGAIN: something was renamed meanwhile, so the kernel cannot tell whether
			// ".." left the root.
			if err != unix.EAGAIN && err != unix.EINTR {
				return err
			}
		}
	})
	return fd, err
}

// OpenBelow opens a file as O_PATH; no symbolic link is followed, not on the way either.
func (r *Root) OpenBelow(name string) (fd int, err error) {
	err = r.do(func(root int) (err error) {
		fd, err = unix.Openat2(root, inside(name), &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
		})
		return err
	})
	return fd, err
}

func (r *Root) do(f func(root int) error) error {
	conn, err := r.f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := conn.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}

func inside(name string) string {
	name = strings.TrimLeft(name, "/")
	if name == "" {
		return "."
	}
	return name
}

// Resolve follows every symbolic link of a path inside the root and gives the
// absolute path without links. What does not exist is taken as it is written.
func (r *Root) Resolve(name string) (string, error) {
	at, rest, links := "/", strings.Split(name, "/"), 0
	for len(rest) > 0 {
		e := rest[0]
		rest = rest[1:]
		switch e {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, e)
		target, err := r.readlink(next)
		switch {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
			at = next
			continue
		case err != nil:
			return "", err
		case target == "":
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// readlink gives a symbolic link's text, or nothing where name is none.
func (r *Root) readlink(name string) (string, error) {
	fd, err := r.Open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", nil
	}
	return Readlink(fd, "")
}

// Readlink reads a symbolic link below a directory, or the one that dir is where name
// is empty.
func Readlink(dir int, name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, b)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// MkdirAll opens a directory and makes what is missing of it, mode 0755. A dangling
// symbolic link is made to lead somewhere.
func (r *Root) MkdirAll(name string) (fd int, err error) {
	fd, err = r.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != unix.ENOENT {
		return fd, err
	}
	full, err := r.Resolve(name)
	if err != nil {
		return -1, err
	}
	parent, err := r.Open("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	done := ""
	for _, e := range strings.Split(strings.Trim(full, "/"), "/") {
		done += "/" + e
		fd, err = r.Open(done, unix.O_PATH|unix.O_DIRECTORY)
		if err == unix.ENOENT {
			if err = unix.Mkdirat(parent, e, 0o755); err == nil || err == unix.EEXIST {
				fd, err = r.Open(done, unix.O_PATH|unix.O_DIRECTORY)
			}
		}
		unix.Close(parent)
		if err != nil {
			return -1, err
		}
		parent = fd
	}
	return parent, nil
}

// Reopen opens what an O_PATH descriptor refers to, with other flags: no path is
// walked a second time.
func Reopen(fd int, flags int) (int, error) {
	return unix.Open(FDPath(fd), flags|unix.O_CLOEXEC, 0)
}

// FDPath names what a descriptor refers to, for calls that take a path only. For the
// object itself: a symbolic link that fd refers to is not followed.
func FDPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// ReadFile reads a small regular file. os.ErrNotExist: there is none.
func (r *Root) ReadFile(name string, limit int64) ([]byte, error) {
	at, err := r.Open(name, unix.O_PATH)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(at)
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > limit {
		return nil, fmt.Errorf("%s is not a small regular file", name)
	}
	fd, err := Reopen(at, unix.O_RDONLY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}
