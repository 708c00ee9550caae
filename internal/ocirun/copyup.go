package ocirun

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/shim"
	"muelle/internal/shimapi"
)

// tmpcopyup is runc's option of a file system in memory that begins with what the root
// file system has in its place; podman gives it to every one. The stage knows nothing of
// it: the file system is made and filled here, and passed.
const tmpcopyup = "tmpcopyup"

// copyUps takes the option out of a document's mounts and gives the destinations of
// those that something is to be copied to.
func copyUps(s *specs.Spec) (to []string, err error) {
	s.Mounts = slices.Clone(s.Mounts)
	for i := range s.Mounts {
		m := &s.Mounts[i]
		if !slices.Contains(m.Options, tmpcopyup) {
			continue
		}
		if m.Type != "tmpfs" {
			return nil, fmt.Errorf("mount of %s: %s is for tmpfs only", m.Destination, tmpcopyup)
		}
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == tmpcopyup })
		over := covering(s.Mounts[:i], m.Destination)
		switch {
		case over == nil || slices.Contains(to, path.Clean("/"+over.Destination)):
			// The root file system's, or a copy of it.
			to = append(to, path.Clean("/"+m.Destination))
		case isBind(*over):
			return nil, fmt.Errorf("mount of %s: %s does not look into the mount of %s", m.Destination, tmpcopyup, over.Destination)
		}
	}
	return to, nil
}

// covering is the last of some mounts that a path lies below, or nil.
func covering(mounts []specs.Mount, dest string) (over *specs.Mount) {
	for i := range mounts {
		above := path.Clean("/" + mounts[i].Destination)
		if above != "/" && strings.HasPrefix(path.Clean("/"+dest)+"/", above+"/") {
			over = &mounts[i]
		}
	}
	return over
}

// copyUp makes the file system of a mount and copies to it what root has at its
// destination; folders, files and links, with owners and modes. -1: there is nothing.
func copyUp(root string, m *shimapi.Mount) (tree int, err error) {
	from, err := inRoot(root, m.Destination)
	if errors.Is(err, fs.ErrNotExist) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	defer from.Close()
	writable := *m
	writable.Flags &^= unix.MS_RDONLY
	if tree, err = shim.NewMount(&writable); err != nil {
		return -1, err
	}
	to, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(tree))
	if err == nil {
		err = copyTree(to, from, m.Options)
		err = errors.Join(err, to.Close())
	}
	if err == nil && m.Flags&unix.MS_RDONLY != 0 {
		err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	}
	if err != nil {
		unix.Close(tree)
		return -1, err
	}
	return tree, nil
}

// inRoot opens a folder of a root file system, whose links lead nowhere else.
func inRoot(root, name string) (*os.Root, error) {
	base, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(int(base.Fd()), name, how)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return os.OpenRoot("/proc/self/fd/" + strconv.Itoa(fd))
}

// copyTree copies a folder's content, and its own owner and mode unless options name them.
func copyTree(to, from *os.Root, options []string) error {
	return fs.WalkDir(from.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// A container that has the same root may change it meanwhile: what is copied is
		// what this finds, never what a link leads to.
		info, err := from.Lstat(name)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("copy %s: no owner is known", name)
		}
		switch {
		case name == ".":
			return likeRoot(to, info, st, options)
		case info.IsDir():
			err = to.Mkdir(name, 0o700)
		case info.Mode().IsRegular():
			err = copyFile(to, from, name)
		case info.Mode()&fs.ModeSymlink != 0:
			var target string
			if target, err = from.Readlink(name); err == nil {
				err = to.Symlink(target, name)
			}
		default:
			return nil
		}
		if err == nil {
			err = to.Lchown(name, int(st.Uid), int(st.Gid))
		}
		if err == nil && info.Mode()&fs.ModeSymlink == 0 {
			err = to.Chmod(name, info.Mode())
		}
		return err
	})
}

func likeRoot(to *os.Root, info fs.FileInfo, st *syscall.Stat_t, options []string) error {
	given := func(key string) bool {
		return slices.ContainsFunc(options, func(o string) bool { return strings.HasPrefix(o, key+"=") })
	}
	uid, gid := int(st.Uid), int(st.Gid)
	if given("uid") {
		uid = -1
	}
	if given("gid") {
		gid = -1
	}
	if err := to.Chown(".", uid, gid); err != nil {
		return err
	}
	if given("mode") {
		return nil
	}
	return to.Chmod(".", info.Mode())
}

func copyFile(to, from *os.Root, name string) error {
	in, err := from.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if st, err := in.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("copy %s: it is no file any more", name))
	}
	out, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
