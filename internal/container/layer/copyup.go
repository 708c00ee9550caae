package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// CopyUp fills an empty volume with what the image has at dest: content, owners,
// modes, times and extended attributes, also those of the directory itself. Links
// never leave the image's root. An image without such a directory copies nothing.
//
// The copy is made in stage, a folder that is made on target's file system, and then
// moved into target: where a daemon is killed meanwhile, the volume is still empty and
// the next container fills it.
func CopyUp(ctx context.Context, lower []string, dest, target, stage string) (err error) {
	root, err := Open(lower)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer root.Close()
	src, err := OpenInRoot(root, dest, unix.O_RDONLY|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return errdefs.ErrInvalidArgument.WithMessage("cannot mount volume over existing file, file exists " + dest)
	case err != nil:
		return err
	}
	defer src.Close()
	if err := os.RemoveAll(stage); err != nil {
		return fmt.Errorf("remove a copy that was cut off: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	if err := os.Mkdir(stage, 0o700); err != nil {
		return err
	}
	if err := copyTree(ctx, src, stage); err != nil {
		return err
	}
	return moveInto(src, stage, target)
}

func copyTree(ctx context.Context, src *os.File, target string) error {
	dst, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dst.Close()
	t := tree{ctx: ctx, links: map[inode]string{}, top: dst}
	return t.dir(src, dst, "")
}

// moveInto moves what is in stage to target and gives that src's attributes. The
// directory itself stays: others may have it mounted.
func moveInto(src *os.File, stage, target string) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, emptyDir(target))
		}
	}()
	entries, err := os.ReadDir(stage)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.Rename(stage+"/"+e.Name(), target+"/"+e.Name()); err != nil {
			return err
		}
	}
	dst, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dst.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return attributes(src, dst, &st)
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(dir+"/"+e.Name()))
	}
	return err
}

type inode struct{ dev, ino uint64 }

// tree copies a directory tree by descriptors, so that nothing that changes
// meanwhile leads it elsewhere.
type tree struct {
	ctx   context.Context
	links map[inode]string // where a file with several names was copied to, below top
	top   *os.File
}

// dir copies what is in src to dst, then src's own attributes.
func (t *tree) dir(src, dst *os.File, at string) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	names, err := src.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	for _, name := range names {
		if err := t.entry(src, dst, name, at+"/"+name); err != nil {
			return fmt.Errorf("copy %s: %w", at+"/"+name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return attributes(src, dst, &st)
}

func (t *tree) entry(src, dst *os.File, name, at string) error {
	var st unix.Stat_t
	from, to := int(src.Fd()), int(dst.Fd())
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		key := inode{st.Dev, st.Ino}
		if first, ok := t.links[key]; ok {
			return unix.Linkat(int(t.top.Fd()), first[1:], to, name, 0)
		}
		t.links[key] = at
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(to, name, 0o700); err != nil {
			return err
		}
		return t.both(src, dst, name, unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY, func(s, d *os.File) error { return t.dir(s, d, at) })
	case unix.S_IFREG:
		return t.both(src, dst, name, 0, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, func(s, d *os.File) error {
			if _, err := io.Copy(d, s); err != nil {
				return err
			}
			return attributes(s, d, &st)
		})
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), to, name); err != nil {
			return err
		}
	case unix.S_IFSOCK:
		return nil // means nothing without its process
	default:
		if err := unix.Mknodat(to, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
		if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// both opens the same name on either side.
func (t *tree) both(src, dst *os.File, name string, from, to int, f func(s, d *os.File) error) error {
	sfd, err := unix.Openat(int(src.Fd()), name, from|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s := os.NewFile(uintptr(sfd), name)
	defer s.Close()
	dfd, err := unix.Openat(int(dst.Fd()), name, to|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(dfd), name)
	if err := f(s, d); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}

// attributes copies owner, mode, extended attributes and times, in the order in
// which one does not undo another (chown clears set-user-id and capabilities).
func attributes(src, dst *os.File, st *unix.Stat_t) error {
	from, to := int(src.Fd()), int(dst.Fd())
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	// futimens by way of an empty path.
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", to), times, 0)
}

func copyXattrs(from, to int) error {
	n, err := unix.Flistxattr(from, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	list := make([]byte, n)
	if n, err = unix.Flistxattr(from, list); err != nil {
		return err
	}
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		size, err := unix.Fgetxattr(from, name, nil)
		if err != nil {
			return err
		}
		value := make([]byte, size)
		if size > 0 {
			if _, err := unix.Fgetxattr(from, name, value); err != nil {
				return err
			}
		}
		err = unix.Fsetxattr(to, name, value, 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}
