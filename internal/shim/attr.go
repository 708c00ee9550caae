package shim

import (
	"strconv"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/mountattr"
	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// Flags and propagation of a tree are set before it is attached, by
// mount_setattr(2). Linux before 5.12 does not have that: there the attached mount
// is remounted, named by the descriptor of its tree, so no path can be raced there
// either. Between the two the container does not run yet.

// setDetached gives a tree its flags and propagation, where the kernel can.
func setDetached(tree int, m *shimapi.Mount) error {
	if !mountattr.Supported() {
		if m.ROnly {
			return &failure{code: codeOther, text: "a recursive read-only mount needs Linux 5.12 or newer"}
		}
		return nil
	}
	set, clear := attributes(m.Flags), attributes(m.Cleared)
	if set&unix.MOUNT_ATTR__ATIME != 0 || m.Flags&unix.MS_RELATIME != 0 || clear&unix.MOUNT_ATTR__ATIME != 0 {
		clear |= unix.MOUNT_ATTR__ATIME
	}
	if m.Bind && (set != 0 || clear != 0) {
		if err := setAttributes(tree, false, set, clear, 0); err != nil {
			return err
		}
	}
	if m.ROnly {
		if err := setAttributes(tree, true, unix.MOUNT_ATTR_RDONLY, 0, 0); err != nil {
			return err
		}
	}
	if m.Propagation != 0 {
		return setAttributes(tree, m.Propagation&unix.MS_REC != 0, 0, 0, m.Propagation&^unix.MS_REC)
	}
	return nil
}

// attach moves a tree to its mount point.
func attach(tree, target int, m *shimapi.Mount) error {
	if err := unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return err
	}
	return setAttached(tree, m)
}

// setAttached does what setDetached could not.
func setAttached(tree int, m *shimapi.Mount) error {
	if mountattr.Supported() {
		return nil
	}
	path := descriptorPath(tree)
	if flags, ok, err := remountFlags(tree, m); err != nil {
		return err
	} else if ok {
		if err := unix.Mount("", path, "", flags, ""); err != nil {
			return err
		}
	}
	if m.Propagation != 0 {
		return unix.Mount("", path, "", uintptr(m.Propagation), "")
	}
	return nil
}

// setReadonly makes one attached mount read-only.
func setReadonly(fd int) error {
	if mountattr.Supported() {
		return setAttributes(fd, false, unix.MOUNT_ATTR_RDONLY, 0, 0)
	}
	return setAttached(fd, &shimapi.Mount{Bind: true, Flags: unix.MS_RDONLY})
}

// readonlyLate is setReadonly as the child's part.
func readonlyLate(p *spawn.Program, fd int) error {
	const what = "make root read-only"
	if mountattr.Supported() {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		p.Do(what, unix.SYS_MOUNT_SETATTR, spawn.Int(fd), p.String(""), spawn.Int(unix.AT_EMPTY_PATH), spawn.Pointer(p, attr), spawn.Int(unix.MOUNT_ATTR_SIZE_VER0))
		return nil
	}
	return remountLate(p, what, &late{tree: fd, Mount: shimapi.Mount{Bind: true, Flags: unix.MS_RDONLY}})
}

// remountLate is setAttached as the child's part.
func remountLate(p *spawn.Program, what string, m *late) error {
	if mountattr.Supported() {
		return nil
	}
	path, empty := p.String(descriptorPath(m.tree)), p.String("")
	flags, ok, err := remountFlags(m.tree, &m.Mount)
	if err != nil {
		return wrap(what, err)
	}
	if ok {
		p.Do(what, unix.SYS_MOUNT, empty, path, empty, spawn.Int(flags), empty)
	}
	if m.Propagation != 0 {
		p.Do(what, unix.SYS_MOUNT, empty, path, empty, spawn.Int(m.Propagation), empty)
	}
	return nil
}

// remountFlags are what a bind is to be remounted with: a remount replaces all
// flags, so those that it has are told again. ok is false where nothing changes.
func remountFlags(tree int, m *shimapi.Mount) (flags uintptr, ok bool, err error) {
	if !m.Bind || m.Flags|m.Cleared == 0 {
		return 0, false, nil
	}
	have, err := mountFlags(tree)
	const atime = unix.MS_NOATIME | unix.MS_RELATIME | unix.MS_STRICTATIME
	if (m.Flags|m.Cleared)&atime != 0 {
		have &^= atime
	}
	return uintptr(have&^m.Cleared | m.Flags | unix.MS_REMOUNT | unix.MS_BIND), true, err
}

// mountFlags are the flags that a mount has.
func mountFlags(fd int) (flags uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, err
	}
	for _, f := range [][2]uint64{
		{unix.ST_RDONLY, unix.MS_RDONLY}, {unix.ST_NOSUID, unix.MS_NOSUID}, {unix.ST_NODEV, unix.MS_NODEV},
		{unix.ST_NOEXEC, unix.MS_NOEXEC}, {unix.ST_NOATIME, unix.MS_NOATIME}, {unix.ST_NODIRATIME, unix.MS_NODIRATIME},
		{unix.ST_RELATIME, unix.MS_RELATIME}, {stNoSymfollow, unix.MS_NOSYMFOLLOW},
	} {
		if uint64(st.Flags)&f[0] != 0 {
			flags |= f[1]
		}
	}
	return flags, nil
}

// stNoSymfollow is ST_NOSYMFOLLOW of the kernel's headers.
const stNoSymfollow = 0x2000

// descriptorPath names what a descriptor refers to, in the host's /proc.
func descriptorPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func setAttributes(fd int, recursive bool, set, clear, propagation uint64) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return unix.MountSetattr(fd, "", flags, &unix.MountAttr{Attr_set: set, Attr_clr: clear, Propagation: propagation})
}

// attributes translates flags of mount(2) to those of mount_setattr(2).
func attributes(flags uint64) (attr uint64) {
	for _, f := range [][2]uint64{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV}, {unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME}, {unix.MS_STRICTATIME, unix.MOUNT_ATTR_STRICTATIME},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME}, {unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
	} {
		if flags&f[0] != 0 {
			attr |= f[1]
		}
	}
	return attr
}
