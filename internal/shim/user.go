package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// hostID is the host's number for an id of the container, or the id itself where
// there is no map or it is not in it.
func hostID(ranges []shimapi.IDRange, id uint32) uint32 {
	for _, r := range ranges {
		if id >= r.Container && id-r.Container < r.Size {
			return r.Host + (id - r.Container)
		}
	}
	return id
}

// makeOwned makes the new namespaces as the user namespace's and enters them.
func (i *isolation) makeOwned(flags int) error {
	// A mount namespace can be entered only by who shares its working directory with
	// nobody.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return wrap("leave the shim's file system", err)
	}
	made, err := spawn.Namespaces(i.user, uint64(flags))
	if err != nil {
		return wrap("make namespaces", err)
	}
	for flag, fd := range made {
		err := unix.Setns(fd, int(flag))
		unix.Close(fd)
		if err != nil {
			return wrap("enter namespace", err)
		}
	}
	return nil
}

// becomeRoot gives the thread the ids of the container's root, and leaves it every
// capability: so what it makes belongs to that root, an overlay whose layers are
// shown with the map can be written, and kernel parameters of the namespaces can be
// set, for which the kernel asks who one is, not what one may. The calls concern
// this thread alone, which ends with its work.
func (i *isolation) becomeRoot() error {
	uid, gid := uintptr(hostID(i.m.UIDs, 0)), uintptr(hostID(i.m.GIDs, 0))
	keep := ^uintptr(0)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, keep, gid, keep); e != 0 {
		return wrap("become the container's root group", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, uid, keep); e != 0 {
		return wrap("become the container's root", e)
	}
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(header, &data[0]); err != nil {
		return wrap("read capabilities", err)
	}
	for n := range data {
		data[n].Effective = data[n].Permitted
	}
	if err := unix.Capset(header, &data[0]); err != nil {
		return wrap("restore capabilities", err)
	}
	return nil
}

// raiseLimits raises hard limits as long as that is allowed: root of a user
// namespace may only lower them.
func raiseLimits(p *spawn.Program, m *shimapi.Process) {
	for n := range m.Rlimits {
		r := &m.Rlimits[n]
		var own unix.Rlimit
		if unix.Getrlimit(int(r.Resource), &own) != nil || r.Hard <= own.Max {
			continue
		}
		own.Max = r.Hard
		lim := own
		p.Do("raise resource limit", unix.SYS_PRLIMIT64, spawn.Int(0), spawn.Int(r.Resource), spawn.Pointer(p, &lim), spawn.Int(0))
	}
}
