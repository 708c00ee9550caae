package rootfs

import (
	"os"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/mountattr"
)

// liveTree clones what is mounted in the namespace that the thread is in, or gives -1
// where nothing is.
func liveTree(m Mount) (int, error) {
	at, err := unix.Openat2(unix.AT_FDCWD, m.Destination, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	var st unix.Statx_t
	if err := unix.Statx(at, "", unix.AT_EMPTY_PATH, 0, &st); err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return -1, err
	}
	return unix.OpenTree(at, "", treeFlags(m)|unix.AT_EMPTY_PATH)
}

func treeFlags(m Mount) uint {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if !m.NonRecursive {
		flags |= unix.AT_RECURSIVE
	}
	return flags
}

// sourceTree clones a source of the host. A subpath may lie in a volume that another
// container writes to: it is followed inside the volume only.
func sourceTree(m Mount) (int, error) {
	if m.Subpath == "" {
		return unix.OpenTree(unix.AT_FDCWD, m.Source, treeFlags(m))
	}
	f, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	source := NewRoot(f)
	defer source.Close()
	fd, err := source.Open(m.Subpath, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return unix.OpenTree(fd, "", treeFlags(m)|unix.AT_EMPTY_PATH)
}

func readOnly(tree int, recursive bool) error {
	if !mountattr.Supported() {
		return unix.Mount("", FDPath(tree), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return setAttributes(tree, recursive, unix.MOUNT_ATTR_RDONLY)
}

func setAttributes(tree int, recursive bool, attributes uint64) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(tree, "", flags, &unix.MountAttr{Attr_set: attributes})
}
