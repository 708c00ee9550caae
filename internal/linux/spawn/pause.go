package spawn

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// halt is what a list with pauses shares with its child, which has a copy of the
// memory: a page for results, a pipe by which it tells that it waits, and an event
// that lets it go on. An event, because a pipe's end would be read as a permission
// where the parent is killed meanwhile.
type halt struct {
	page       []byte
	r, w, gate int
}

// shared lies in the page.
type shared struct {
	res   result
	slots [maxSlots]uintptr
	pid   int32
}

func (h *halt) shared() *shared { return (*shared)(unsafe.Pointer(&h.page[0])) }

// release gives everything back, once.
func (h *halt) release() {
	if h.page == nil {
		return
	}
	unmap(h.page)
	h.page = nil
	for _, fd := range []int{h.r, h.w, h.gate} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Waiting makes a list whose child can wait on its way: it is started by Begin, and
// its child is made by an ordinary fork, which costs more but does not let the parent
// stand still.
func Waiting() (*Program, error) {
	h := &halt{r: -1, w: -1, gate: -1}
	var err error
	if h.page, err = mapped(unix.Getpagesize(), unix.MAP_SHARED); err != nil {
		return nil, err
	}
	var p [2]int
	if err = unix.Pipe2(p[:], unix.O_CLOEXEC); err == nil {
		h.r, h.w = p[0], p[1]
		h.gate, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	if err != nil {
		h.release()
		return nil, err
	}
	return &Program{halt: h, pid: &h.shared().pid}, nil
}

// Pause lets the child of a Waiting list wait here for Paused.Resume.
func (p *Program) Pause(what string) {
	if p.halt == nil {
		p.err = syscall.EINVAL
		return
	}
	count := new([8]byte)
	p.Do(what, unix.SYS_WRITE, Int(p.halt.w), Pointer(p, count), Int(1))
	p.Do(what, unix.SYS_READ, Int(p.halt.gate), Pointer(p, count), Int(len(count)))
}

// Paused is a child that waits on its way to its program.
type Paused struct {
	Child
	p     *Program
	first *Child // of two, see Program.Fork; it ends when the second has executed its program
	ended bool
}

// Begin runs a Waiting list in a new process and returns when that waits at its first
// pause. After an error nothing is left of it, and the list is used up.
func Begin(p *Program, o Options) (*Paused, error) {
	if len(p.ops) == 0 || p.err != nil || p.halt == nil {
		p.Discard()
		return nil, &Error{What: "prepare child", Errno: syscall.EINVAL}
	}
	h := p.halt
	pidfd := new(int32)
	*pidfd = -1
	first := Pointer(p, new(int32)).v
	args := &cloneArgs{
		flags:      o.Flags | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PARENT_SETTID,
		parentTid:  uint64(first),
		pidfd:      uint64(uintptr(unsafe.Pointer(pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if o.Cgroup >= 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(o.Cgroup)
	}
	p.keep = append(p.keep, args, pidfd)
	syscall.ForkLock.Lock()
	pid, errno := fork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0, &p.ops[0], uintptr(len(p.ops)), &h.shared().slots, &h.shared().res)
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(p)
	if errno != 0 {
		p.Discard()
		return nil, &Error{What: "clone", Errno: syscall.Errno(errno)}
	}
	unix.Close(h.w)
	h.w = -1
	c := &Paused{p: p, Child: Child{Pid: int(pid), PidFD: int(*pidfd), slots: &h.shared().slots}}
	if err := c.arrive(); err != nil {
		return nil, err
	}
	if second := int(h.shared().pid); p.forks && second != 0 {
		first := c.Child
		c.first, c.Pid, c.PidFD = &first, second, -1
		fd, err := unix.PidfdOpen(second, 0)
		if err != nil {
			c.Kill()
			return nil, &Error{What: "open pidfd", Errno: err.(syscall.Errno)}
		}
		unix.CloseOnExec(fd)
		c.PidFD = fd
	}
	return c, nil
}

// Resume lets the child go on, to its next pause or to its program. After an error
// nothing is left of it.
func (c *Paused) Resume() error {
	one := [8]byte{}
	*(*uint64)(unsafe.Pointer(&one)) = 1
	if _, err := unix.Write(c.p.halt.gate, one[:]); err != nil {
		c.Kill()
		return err
	}
	return c.arrive()
}

// StartApart runs a Waiting list with one pause to its program, in a child that has
// memory of its own from the start: some system calls demand that, setns(2) into a
// time namespace is one.
func StartApart(p *Program, o Options) (*Child, error) {
	c, err := Begin(p, o)
	if err != nil {
		return nil, err
	}
	if err := c.Resume(); err != nil {
		return nil, err
	}
	return &c.Child, nil
}

// arrive waits for the next pause, or for the end of the list, which closes the pipe.
func (c *Paused) arrive() error {
	h := c.p.halt
	var b [1]byte
	for {
		n, err := unix.Read(h.r, b[:])
		if err == unix.EINTR {
			continue
		}
		if n == 1 {
			return nil
		}
		break
	}
	at, errno := h.shared().res.at, h.shared().res.errno
	last := c.p.ops[min(int(at), len(c.p.ops)-1)]
	if errno == 0 && last.flags&opExec != 0 {
		c.over()
		return nil
	}
	if errno == 0 && last.flags&opEnd != 0 {
		c.discard()
		c.over()
		return nil
	}
	e := &Error{What: c.p.texts[last.what], Errno: syscall.Errno(errno), Exec: last.flags&opExec != 0}
	if errno == 0 {
		e.Errno = syscall.EPERM // killed on its way
	}
	c.Kill()
	return e
}

// over gives back what belongs to the list.
func (c *Paused) over() {
	if c.ended {
		return
	}
	c.ended = true
	if c.first != nil {
		c.first.discard()
	}
	c.slots = nil // they lie in the page
	c.p.Discard()
}

// Kill ends the child, and what belongs to it.
func (c *Paused) Kill() {
	if c.Pid > 0 {
		unix.Kill(c.Pid, unix.SIGKILL) // ours, and not reaped yet: the number is its own
		c.discard()
	}
	if c.first != nil {
		unix.Kill(c.first.Pid, unix.SIGKILL)
	} else if c.p.forks && c.p.halt.shared().pid != 0 {
		// The second of two, which ended before it was known.
		(&Child{Pid: int(c.p.halt.shared().pid), PidFD: -1}).discard()
	}
	c.over()
}
