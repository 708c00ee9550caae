package shim

import (
	"strings"

	"golang.org/x/sys/unix"
)

// create opens a path below the container's root as O_PATH and makes what is
// missing of it: directories, and at the end a directory or an empty file. Links
// are followed inside the root only; a dangling one is made to lead somewhere, as
// many images need for /etc/resolv.conf.
func (i *isolation) create(path string, dir bool) (int, error) {
	fd, err := openIn(i.root, path, unix.O_PATH, 0)
	if err != unix.ENOENT {
		return fd, err
	}
	done, links := "", 0
	rest := split(path)
	parent, err := unix.FcntlInt(uintptr(i.root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for len(rest) > 0 {
		name := rest[0]
		next, err := openIn(i.root, done+"/"+name, unix.O_PATH, 0)
		if err == unix.ENOENT {
			target, linkErr := readlink(parent, name)
			if linkErr == nil {
				if links++; links > 40 {
					unix.Close(parent)
					return -1, unix.ELOOP
				}
				rest = append(split(target), rest[1:]...)
				if strings.HasPrefix(target, "/") {
					done = ""
				}
				unix.Close(parent)
				if parent, err = openIn(i.root, done+"/", unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
					return -1, err
				}
				continue
			}
			next, err = makeIn(parent, name, dir || len(rest) > 1)
		}
		unix.Close(parent)
		if err != nil {
			return -1, err
		}
		parent, done, rest = next, done+"/"+name, rest[1:]
	}
	return parent, nil
}

// makeIn makes one entry of a directory and opens it.
func makeIn(parent int, name string, dir bool) (int, error) {
	if dir {
		if err := unix.Mkdirat(parent, name, 0o755); err != nil && err != unix.EEXIST {
			return -1, err
		}
		return unix.Openat(parent, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	fd, err := unix.Openat(parent, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_WRONLY, 0o644)
	if err == nil {
		unix.Close(fd)
	} else if err != unix.EEXIST {
		return -1, err
	}
	return unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

func readlink(dir int, name string) (string, error) {
	// Nearly every link is short, and whoever has no room for PathMax on a small stack gets
	// a larger one for good.
	b := make([]byte, 256)
	n, err := unix.Readlinkat(dir, name, b)
	if err == nil && n == len(b) {
		return longLink(dir, name)
	}
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

//go:noinline
func longLink(dir int, name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, b)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// split gives a path's elements; "." is left out, ".." stays for the kernel.
func split(path string) (elements []string) {
	for e := range strings.SplitSeq(path, "/") {
		if e != "" && e != "." {
			elements = append(elements, e)
		}
	}
	return elements
}

// populateDev makes device nodes and links, and the console.
func (i *isolation) populateDev() error {
	for n := range i.m.Devices {
		d := &i.m.Devices[n]
		parent, name, err := i.parentOf(d.Path)
		if err != nil {
			return wrap("make device "+d.Path, err)
		}
		err = unix.Mknodat(parent, name, d.Mode, int(d.Number))
		if err == unix.EEXIST {
			// What the image or a mount put there stays, as with other runtimes.
			err = nil
		} else if err == nil && (d.UID != 0 || d.GID != 0) {
			err = unix.Fchownat(parent, name, int(d.UID), int(d.GID), unix.AT_SYMLINK_NOFOLLOW)
		}
		unix.Close(parent)
		if err != nil {
			return wrap("make device "+d.Path, err)
		}
	}
	for _, l := range i.m.Links {
		parent, name, err := i.parentOf(l.Path)
		if err != nil {
			return wrap("make link "+l.Path, err)
		}
		err = unix.Symlinkat(l.Target, parent, name)
		unix.Close(parent)
		if err != nil && err != unix.EEXIST {
			return wrap("make link "+l.Path, err)
		}
	}
	if !i.m.Process.Terminal {
		return nil
	}
	return i.makeConsole()
}

// parentOf opens the directory that a path lies in, made where it is missing.
func (i *isolation) parentOf(path string) (int, string, error) {
	e := split(path)
	if len(e) == 0 || e[len(e)-1] == ".." {
		return -1, "", unix.EINVAL
	}
	fd, err := i.create("/"+strings.Join(e[:len(e)-1], "/"), true)
	return fd, e[len(e)-1], err
}

// makeConsole allocates the terminal in the container's devpts and binds it to
// /dev/console.
func (i *isolation) makeConsole() error {
	t, err := openTerminal(i.root)
	if err != nil {
		return err
	}
	i.terminal = t
	// Before the program looks at it; where another runtime makes the terminal, its size
	// follows as soon as that is handed over.
	if i.m.Width > 0 {
		if err := setSize(t.master, i.m.Width, i.m.Height); err != nil {
			return wrap("set terminal size", err)
		}
	}
	target, err := i.create("/dev/console", false)
	if err != nil {
		return wrap("create /dev/console", err)
	}
	defer unix.Close(target)
	tree, err := unix.OpenTree(t.slave, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return wrap("bind terminal", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return wrap("bind terminal to /dev/console", err)
	}
	return nil
}
