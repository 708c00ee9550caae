package spawn

import (
	"golang.org/x/sys/unix"
)

// namespaceFiles name what can be made by unshare(2) and handed back.
var namespaceFiles = []struct {
	flag uint64
	file string
}{
	{unix.CLONE_NEWNS, "mnt"}, {unix.CLONE_NEWIPC, "ipc"}, {unix.CLONE_NEWUTS, "uts"}, {unix.CLONE_NEWNET, "net"},
}

// Namespaces makes namespaces of the given kinds (CLONE_NEWNS, NEWIPC, NEWUTS and
// NEWNET) that belong to a user namespace, and gives a close-on-exec descriptor of
// each by its flag. A threaded process cannot enter a user namespace, so a child
// does, which shares this process's descriptors and ends. It takes the identity of
// the namespace's root, because what the kernel makes in a new namespace belongs to
// its maker.
func Namespaces(user int, flags uint64) (map[uint64]int, error) {
	p := &Program{}
	EnterUser(p, user)
	p.Do("make namespaces", unix.SYS_UNSHARE, Int(flags))
	at := unix.AT_FDCWD
	for n, f := range namespaceFiles {
		if flags&f.flag != 0 {
			p.Do("open namespace", unix.SYS_OPENAT, Int(at), p.String("/proc/self/ns/"+f.file), Int(unix.O_RDONLY|unix.O_CLOEXEC), Int(0)).Out(Slot(n + 1))
		}
	}
	p.End()
	c, err := Start(p, Options{Flags: unix.CLONE_FILES, Cgroup: -1})
	if err != nil {
		return nil, err
	}
	out := map[uint64]int{}
	for n, f := range namespaceFiles {
		if flags&f.flag != 0 {
			out[f.flag] = c.Result(Slot(n + 1))
		}
	}
	return out, nil
}

// EnterUser appends what makes the child root of a user namespace.
func EnterUser(p *Program, user int) {
	p.Do("enter user namespace", unix.SYS_SETNS, Int(user), Int(unix.CLONE_NEWUSER))
	p.Do("clear groups", unix.SYS_SETGROUPS, Int(0), Int(0))
	p.Do("become root of the user namespace", unix.SYS_SETRESGID, Int(0), Int(0), Int(0))
	p.Do("become root of the user namespace", unix.SYS_SETRESUID, Int(0), Int(0), Int(0))
}
