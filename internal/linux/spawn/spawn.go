// Package spawn starts a process whose child half is a prepared list of raw system
// calls. The child is made by clone3 with CLONE_VM and CLONE_VFORK: it borrows the
// parent's memory and stack while the parent's thread waits, so it may neither
// allocate nor grow its stack nor meet the scheduler. That is why everything it
// does is written down beforehand as a Program. It costs 0.4 ms where a second Go
// runtime as init costs two.
//
// The list must not wait for anything: with GOMAXPROCS=1 the whole parent stands
// still until the child has executed its program.
package spawn

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Error says which step of a Program failed.
type Error struct {
	What  string
	Errno syscall.Errno
	// Exec is true for the execve itself: the program's fault, not ours.
	Exec bool
}

func (e *Error) Error() string { return e.What + ": " + e.Errno.Error() }

// Unwrap gives the errno.
func (e *Error) Unwrap() error { return e.Errno }

// Options say how the child is made.
type Options struct {
	// Flags are namespaces to make: CLONE_NEW….
	Flags uint64
	// Cgroup is a directory of the unified hierarchy for CLONE_INTO_CGROUP, or -1.
	Cgroup int
}

// Child is a process that has executed its program.
type Child struct {
	Pid   int // 0 after a list that ends with End
	PidFD int // close-on-exec; the caller's; -1 where clone3 is forbidden

	slots *[maxSlots]uintptr
}

// Result is what an operation of the child put into a slot.
func (c *Child) Result(s Slot) int { return int(c.slots[s]) }

// cloneArgs is the kernel's struct clone_args.
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal uint64
	stack, stackSize, tls, setTid, setTidSize     uint64
	cgroup                                        uint64
}

// result is written by the child, in the memory that it shares.
type result struct {
	at    uintptr // the operation that runs, or ran last
	errno uintptr
}

// vfork makes one of the clone system calls, with three arguments and zeroes.
func vfork(call, a1, a2, a3 uintptr) (pid, errno uintptr)

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

// Start runs p in a new process and returns once that has executed its program. A
// failed child is reaped; nothing is left of it. The program is used up.
func Start(p *Program, o Options) (*Child, error) {
	defer p.Discard()
	pidfd := new(int32)
	*pidfd = -1
	// The first of two children: the second one's number is the child's.
	first := p.PidPointer().v
	if p.forks {
		first = Pointer(p, new(int32)).v
	}
	args := &cloneArgs{
		flags: o.Flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD |
			unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PARENT_SETTID,
		parentTid:  uint64(first),
		pidfd:      uint64(uintptr(unsafe.Pointer(pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if o.Cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(o.Cgroup)
	}
	res := new(result)
	slots := new([maxSlots]uintptr)
	// What the kernel and the child write to must not be on a stack, which may move.
	p.keep = append(p.keep, args, pidfd, res, slots)
	if len(p.ops) == 0 || p.err != nil {
		return nil, &Error{What: "prepare child", Errno: syscall.EINVAL}
	}

	syscall.ForkLock.Lock()
	pid, errno := fork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0, &p.ops[0], uintptr(len(p.ops)), slots, res)
	if syscall.Errno(errno) == unix.ENOSYS && o.Flags == 0 && o.Cgroup < 0 {
		// Docker's seccomp profile hides clone3 from containers, where an init spawns.
		pid, errno = fork(unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_PARENT_SETTID|uintptr(unix.SIGCHLD), 0, p.PidPointer().v, &p.ops[0], uintptr(len(p.ops)), slots, res)
	}
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(p)
	if errno != 0 {
		return nil, &Error{What: "clone", Errno: syscall.Errno(errno)}
	}
	c := &Child{Pid: int(pid), PidFD: int(*pidfd), slots: slots}
	last := p.ops[min(int(res.at), len(p.ops)-1)]
	if p.forks && *p.pid != 0 {
		if err := c.handOver(int(*p.pid)); err != nil {
			return nil, err
		}
	}
	switch {
	case res.errno != 0:
	case last.flags&opExec != 0:
		return c, nil
	case last.flags&opEnd != 0:
		c.discard()
		return c, nil
	}
	c.discard()
	e := &Error{What: p.texts[last.what], Errno: syscall.Errno(res.errno), Exec: last.flags&opExec != 0}
	if res.errno == 0 {
		// It was killed by a signal between two operations, most likely by its own
		// seccomp filter.
		e.Errno = syscall.EPERM
	}
	return nil, e
}

// handOver makes the second child, which Fork made, the one that is spoken of.
func (c *Child) handOver(second int) error {
	c.discard()
	c.Pid = second
	fd, err := unix.PidfdOpen(second, 0)
	if err != nil {
		unix.Kill(second, unix.SIGKILL)
		c.discard()
		return &Error{What: "open pidfd", Errno: err.(syscall.Errno)}
	}
	unix.CloseOnExec(fd)
	c.PidFD = fd
	return nil
}

// discard reaps a child that has ended, or is about to, and closes its descriptor.
func (c *Child) discard() {
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(c.Pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	if c.PidFD >= 0 {
		unix.Close(c.PidFD)
	}
	c.Pid, c.PidFD = 0, -1
}

// fork has no local that the child could spoil for the parent, and returns at once.
//
//go:noinline
//go:norace
func fork(call, a1, a2, a3 uintptr, ops *op, n uintptr, slots *[maxSlots]uintptr, res *result) (pid, errno uintptr) {
	beforeFork()
	pid, errno = vfork(call, a1, a2, a3)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	child(ops, n, slots, res)
	return 0, 0
}

// child interprets the list. It may call nothing but raw system calls.
//
//go:nosplit
//go:norace
func child(ops *op, n uintptr, slots *[maxSlots]uintptr, res *result) {
	for pc := uintptr(0); pc < n; pc++ {
		o := (*op)(unsafe.Add(unsafe.Pointer(ops), pc*unsafe.Sizeof(op{})))
		res.at = pc
		if o.flags&opFork != 0 {
			second, errno := vfork(uintptr(o.call), o.args[0], o.args[1], o.args[2])
			if second != 0 {
				// What the second child left of this frame is of no use any more.
				for {
					syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
				}
			}
			if errno != 0 {
				res.errno = errno
				break
			}
			continue
		}
		r, _, e := syscall.RawSyscall6(uintptr(o.call),
			arg(o, slots, 0), arg(o, slots, 1), arg(o, slots, 2),
			arg(o, slots, 3), arg(o, slots, 4), arg(o, slots, 5))
		if e == 0 {
			if o.out >= 0 {
				slots[o.out&(maxSlots-1)] = r
			}
			pc += uintptr(o.then)
			continue
		}
		if t := uint8(e); (e > 255 || t != o.tolerate[0] && t != o.tolerate[1] && t != o.tolerate[2]) && o.flags&opOptional == 0 {
			res.errno = uintptr(e)
			break
		}
		pc += uintptr(o.skip)
	}
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 253, 0, 0)
	}
}

//go:nosplit
//go:norace
func arg(o *op, slots *[maxSlots]uintptr, i int) uintptr {
	if o.slots&(1<<(i&7)) != 0 {
		return slots[o.args[i]&(maxSlots-1)]
	}
	return o.args[i]
}
