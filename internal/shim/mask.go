package shim

import (
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/mountattr"
	"muelle/internal/linux/spawn"
)

// hide masks paths and makes others read-only. It is the child's part, because
// most of them lie below proc. What covers a file is the host's own null device,
// held by descriptor: the container's /dev/null cannot be put in its place
// (CVE-2025-31133).
func (i *isolation) hide(p *spawn.Program) error {
	empty := p.String("")
	how := spawn.Pointer(p, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	size := spawn.Int(unix.SizeofOpenHow)
	if len(i.m.Masked) > 0 {
		var err error
		if i.null, err = hostNull(); err != nil {
			return err
		}
	}
	attach := spawn.Int(unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH)
	clone := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	for _, path := range i.m.Masked {
		what := "mask " + path
		p.Do(what, unix.SYS_OPENAT2, spawn.Int(i.root), p.String(path), how, size).Out(slotTarget).Tolerate(11, unix.ENOENT, unix.ENOTDIR)
		// A file cannot cover a directory: then an empty file system does. Learning that from
		// the failed move costs a grace period, 0.1 to 1.5 ms, for the tree that is given up;
		// that a directory can be gone to costs nothing. The root becomes the working
		// directory before anything else looks at it.
		p.Do(what, unix.SYS_FCHDIR, spawn.In(slotTarget)).Tolerate(0, unix.ENOTDIR, unix.EACCES).Then(3)
		p.Do(what, unix.SYS_OPEN_TREE, spawn.Int(i.null), empty, spawn.Int(clone)).Out(slotTree)
		p.Do(what, unix.SYS_MOVE_MOUNT, spawn.In(slotTree), empty, spawn.In(slotTarget), empty, attach).Tolerate(0, unix.EINVAL, unix.ENOTDIR).Then(6)
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotTree))
		p.Do(what, unix.SYS_FSOPEN, p.String("tmpfs"), spawn.Int(unix.FSOPEN_CLOEXEC)).Out(slotFile)
		p.Do(what, unix.SYS_FSCONFIG, spawn.In(slotFile), spawn.Int(unix.FSCONFIG_CMD_CREATE), spawn.Int(0), spawn.Int(0), spawn.Int(0))
		p.Do(what, unix.SYS_FSMOUNT, spawn.In(slotFile), spawn.Int(unix.FSMOUNT_CLOEXEC), spawn.Int(unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)).Out(slotTree)
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotFile))
		p.Do(what, unix.SYS_MOVE_MOUNT, spawn.In(slotTree), empty, spawn.In(slotTarget), empty, attach)
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotTree))
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotTarget))
	}
	if len(i.m.Readonly) == 0 {
		return nil
	}
	if !mountattr.Supported() {
		return i.remountReadonly(p, how)
	}
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	for _, path := range i.m.Readonly {
		what := "make " + path + " read-only"
		p.Do(what, unix.SYS_OPENAT2, spawn.Int(i.root), p.String(path), how, size).Out(slotTarget).Tolerate(5, unix.ENOENT, unix.ENOTDIR)
		p.Do(what, unix.SYS_OPEN_TREE, spawn.In(slotTarget), empty, spawn.Int(clone|unix.AT_RECURSIVE)).Out(slotTree)
		p.Do(what, unix.SYS_MOUNT_SETATTR, spawn.In(slotTree), empty, spawn.Int(unix.AT_EMPTY_PATH|unix.AT_RECURSIVE), spawn.Pointer(p, attr), spawn.Int(unix.MOUNT_ATTR_SIZE_VER0))
		p.Do(what, unix.SYS_MOVE_MOUNT, spawn.In(slotTree), empty, spawn.In(slotTarget), empty, attach)
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotTree))
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotTarget))
	}
	return nil
}

// remountReadonly is for kernels without mount_setattr(2): a path is bound to
// itself and that mount made read-only, but not what is mounted below it.
func (i *isolation) remountReadonly(p *spawn.Program, how spawn.Value) (err error) {
	// The mount is named by its descriptor, whose number must be known beforehand.
	if i.spare, err = unix.FcntlInt(uintptr(i.root), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return wrap("duplicate descriptor", err)
	}
	empty, name := p.String(""), p.String(descriptorPath(i.spare))
	for _, path := range i.m.Readonly {
		what := "make " + path + " read-only"
		flags := i.flagsAt(path) | unix.MS_RDONLY | unix.MS_REMOUNT | unix.MS_BIND
		p.Do(what, unix.SYS_OPENAT2, spawn.Int(i.root), p.String(path), how, spawn.Int(unix.SizeofOpenHow)).Out(slotTarget).Tolerate(6, unix.ENOENT, unix.ENOTDIR)
		p.Do(what, unix.SYS_OPEN_TREE, spawn.In(slotTarget), empty, spawn.Int(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)).Out(slotTree)
		p.Do(what, unix.SYS_MOVE_MOUNT, spawn.In(slotTree), empty, spawn.In(slotTarget), empty, spawn.Int(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
		p.Do(what, unix.SYS_DUP3, spawn.In(slotTree), spawn.Int(i.spare), spawn.Int(unix.O_CLOEXEC))
		p.Do(what, unix.SYS_MOUNT, empty, name, empty, spawn.Int(flags), empty)
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotTree))
		p.Do(what, unix.SYS_CLOSE, spawn.In(slotTarget))
	}
	return nil
}

// flagsAt are the flags of the mount that a path of the container will lie on.
func (i *isolation) flagsAt(dest string) uint64 {
	for n := len(i.late) - 1; n >= 0; n-- {
		if l := &i.late[n]; l.tree < 0 && (dest == l.Destination || strings.HasPrefix(dest, l.Destination+"/")) {
			return l.Flags
		}
	}
	fd, err := openIn(i.root, dest, unix.O_PATH, 0)
	if err != nil {
		return 0 // the child does not find it either
	}
	defer unix.Close(fd)
	flags, err := mountFlags(fd)
	if err != nil {
		return 0
	}
	return flags
}

// hostNull opens the host's null device and makes sure that it is one.
func hostNull() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, wrap("open /dev/null", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		unix.Close(fd)
		return -1, &failure{code: 128, text: "/dev/null of the host is not the null device"}
	}
	return fd, nil
}
