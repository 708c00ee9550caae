package shim

import (
	"golang.org/x/sys/unix"

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
		p.Do(what, unix.SYS_OPENAT2, spawn.Int(i.root), p.String(path), how, size).Out(slotTarget).Tolerate(10, unix.ENOENT, unix.ENOTDIR)
		p.Do(what, unix.SYS_OPEN_TREE, spawn.Int(i.null), empty, spawn.Int(clone)).Out(slotTree)
		// A file cannot cover a directory: then an empty file system does.
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
