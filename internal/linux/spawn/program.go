package spawn

import (
	"cmp"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const maxSlots = 16

// op is one raw system call of the child. It holds no Go pointer, because it lies
// outside of Go's heap.
type op struct {
	args     [6]uintptr
	call     uint16
	what     uint16   // index of a text
	slots    uint8    // bit i: args[i] is the number of a slot
	out      int8     // the slot that takes the result, or -1
	then     uint8    // how many operations are left out after success
	skip     uint8    // and after a tolerated error
	tolerate [3]uint8 // errors that do not end the program
	flags    uint8
}

const (
	opOptional = 1 << iota // no error ends the program
	opExec                 // success does not return
	opFork                 // a second child takes over
	opEnd                  // the child ends by itself
)

// Program is a list of system calls, built before the fork. Errors of building
// (a string with a NUL, too many operations) are kept and returned by Err.
//
// The list and its strings lie in memory mapped for them and given back by Start: a
// shim builds hundreds of operations for every container and exec, and what lies in
// Go's heap would stay with it for as long as its container runs.
type Program struct {
	ops   []op
	texts []string
	arena []byte // unused rest
	area  []byte
	keep  []any // what the operations point to in Go's heap
	err   error
	pid   *int32 // the child's, as its parent sees it; there before the first operation
	forks bool   // the child is a second one: see Fork
	halt  *halt  // of a list that can wait: see Waiting
}

// areaSize is only reserved: memory is what is touched of it. Command line and
// environment go through the heap, they may be larger.
const (
	maxOps    = 4096
	areaSize  = maxOps*int(unsafe.Sizeof(op{})) + arenaSize
	arenaSize = 256 << 10
)

func (p *Program) prepare() bool {
	if p.area != nil || p.err != nil {
		return p.err == nil
	}
	if p.area, p.err = mapped(areaSize, unix.MAP_PRIVATE); p.err != nil {
		return false
	}
	p.ops = unsafe.Slice((*op)(unsafe.Pointer(&p.area[0])), maxOps)[:0]
	p.arena = p.area[areaSize-arenaSize:]
	// Enough for an exec, so that they do not grow in steps.
	p.texts, p.keep = make([]string, 0, 32), append(make([]any, 0, 32), p.keep...)
	return true
}

// mapped is anonymous memory. unix.Mmap would keep a list of what it gave, which costs
// every shim pages.
func mapped(size, flags int) ([]byte, error) {
	at, err := unix.MmapPtr(-1, 0, nil, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(at), size), nil
}

func unmap(area []byte) { unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(area)), uintptr(len(area))) }

// Discard gives the memory of a list back that is not started.
func (p *Program) Discard() {
	if p.area != nil {
		unmap(p.area)
	}
	if p.halt != nil {
		p.halt.release()
	}
	*p = Program{err: syscall.EINVAL}
}

// Value is an argument of a call.
type Value struct {
	v    uintptr
	slot bool
}

// Slot holds the result of a call for the arguments of later ones.
type Slot int8

// Call is one operation that can still be qualified.
type Call struct {
	p *Program
	i int
}

// Int is a plain number; FD reads better for descriptors.
func Int[T ~int | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr](v T) Value {
	return Value{v: uintptr(v)}
}

// In takes an earlier result.
func In(s Slot) Value { return Value{v: uintptr(s), slot: true} }

// String is a NUL-terminated string.
func (p *Program) String(s string) Value {
	if !p.prepare() {
		return Value{}
	}
	if len(s) >= len(p.arena) || strings.IndexByte(s, 0) >= 0 {
		p.err = syscall.EINVAL
		return Value{}
	}
	n := copy(p.arena, s)
	v := Value{v: uintptr(unsafe.Pointer(&p.arena[0]))}
	p.arena = p.arena[n+1:]
	return v
}

// Strings is a NULL-terminated vector, as for execve.
func (p *Program) Strings(all []string) Value {
	v, err := syscall.SlicePtrFromStrings(all)
	if err != nil {
		p.err = err
		return Value{}
	}
	p.keep = append(p.keep, v)
	return Value{v: uintptr(unsafe.Pointer(&v[0]))}
}

// Pointer passes memory that the kernel reads or writes. v must be on the heap.
func Pointer[T any](p *Program, v *T) Value {
	p.keep = append(p.keep, v)
	return Value{v: uintptr(unsafe.Pointer(v))}
}

// PidPointer points to the child's own process id, for calls that read it from
// memory.
func (p *Program) PidPointer() Value {
	if p.pid == nil {
		p.pid = new(int32)
		p.keep = append(p.keep, p.pid)
	}
	return Value{v: uintptr(unsafe.Pointer(p.pid))}
}

// Err is what went wrong while the list was built.
func (p *Program) Err() error { return p.err }

// Len is the number of operations so far.
func (p *Program) Len() int { return len(p.ops) }

// Do appends a system call; what is for the error's text.
func (p *Program) Do(what string, call uintptr, args ...Value) Call {
	if !p.prepare() || len(p.ops) == maxOps {
		p.err = cmp.Or(p.err, error(syscall.E2BIG))
		return Call{p: p, i: -1}
	}
	if n := len(p.texts); n == 0 || p.texts[n-1] != what {
		p.texts = append(p.texts, what)
	}
	o := op{call: uint16(call), what: uint16(len(p.texts) - 1), out: -1}
	for i, a := range args {
		o.args[i] = a.v
		if a.slot {
			o.slots |= 1 << i
		}
	}
	p.ops = append(p.ops, o)
	return Call{p: p, i: len(p.ops) - 1}
}

// Out keeps the result.
func (c Call) Out(s Slot) Call {
	if c.i < 0 {
		return c
	}
	c.p.ops[c.i].out = int8(s)
	return c
}

// Tolerate goes on after these errors, three at most, leaving out the next skip operations.
func (c Call) Tolerate(skip int, errs ...syscall.Errno) Call {
	if c.i < 0 {
		return c
	}
	o := &c.p.ops[c.i]
	o.skip = uint8(skip)
	for i, e := range errs {
		o.tolerate[i] = uint8(e)
	}
	return c
}

// Optional goes on after any error.
func (c Call) Optional() Call {
	if c.i < 0 {
		return c
	}
	c.p.ops[c.i].flags |= opOptional
	return c
}

// Then leaves out the next skip operations after success.
func (c Call) Then(skip int) Call {
	if c.i < 0 {
		return c
	}
	c.p.ops[c.i].then = uint8(skip)
	return c
}

// Move puts descriptors at the numbers 0, 1, 2 … in the child, without
// close-on-exec. Sources are first copied out of the way, so any order is right.
func (p *Program) Move(fds ...int) {
	const high = 16 // beyond whatever is a target
	for i, fd := range fds {
		p.Do("duplicate descriptor", unix.SYS_FCNTL, Int(fd), Int(unix.F_DUPFD_CLOEXEC), Int(high)).Out(Slot(maxSlots - 1 - i))
	}
	for i := range fds {
		p.Do("place descriptor", unix.SYS_DUP3, In(Slot(maxSlots-1-i)), Int(i), Int(0))
	}
}

// ResetSignals gives back default actions, which execve keeps only for signals
// that are not ignored, and an empty mask.
func (p *Program) ResetSignals() {
	zero := Pointer(p, new([64]byte))
	// All 64: make, for one, hands on the two ignored that the C library keeps for itself.
	for sig := 1; sig <= 64; sig++ {
		if sig == int(unix.SIGKILL) || sig == int(unix.SIGSTOP) {
			continue
		}
		p.Do("reset signal", unix.SYS_RT_SIGACTION, Int(sig), zero, Int(0), Int(8))
	}
	p.Do("unblock signals", unix.SYS_RT_SIGPROCMASK, Int(unix.SIG_SETMASK), zero, Int(0), Int(8))
}

// CloseOnExec marks every descriptor from first on, whoever left it open. Before
// Linux 5.11 it does nothing: then it rests on each descriptor's own mark.
func (p *Program) CloseOnExec(first int) {
	p.Do("mark descriptors", unix.SYS_CLOSE_RANGE, Int(first), Int(^uint32(0)), Int(unix.CLOSE_RANGE_CLOEXEC)).
		Tolerate(0, unix.ENOSYS, unix.EINVAL)
}

// Exec ends the list by executing path, or the descriptor fd where path is empty.
// Seccomp profiles that know execve only are many: execveat is used for the
// descriptor alone.
func (p *Program) Exec(fd int, path string, args, env []string) {
	if path != "" {
		p.Do("exec", unix.SYS_EXECVE, p.String(path), p.Strings(args), p.Strings(env))
	} else {
		p.Do("exec", unix.SYS_EXECVEAT, Int(fd), p.String(""), p.Strings(args), p.Strings(env), Int(unix.AT_EMPTY_PATH))
	}
	if p.err == nil {
		p.ops[len(p.ops)-1].flags |= opExec
	}
}

// End ends the list, and the child, without executing anything: for what is done by
// a process only, such as making namespaces in a user namespace. Results are given
// by Child.Result.
func (p *Program) End() {
	p.Do("end", unix.SYS_EXIT_GROUP, Int(0))
	if p.err == nil {
		p.ops[len(p.ops)-1].flags |= opEnd
	}
}

// Fork lets a second child of the same parent take over here, made with the given
// CLONE_NEW… flags: so its namespaces belong to the user namespace that the first
// one has entered. The first waits and ends. Once in a list.
func (p *Program) Fork(what string, flags uint64) {
	args := &cloneArgs{
		flags:     flags | unix.CLONE_PARENT | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_CLEAR_SIGHAND | unix.CLONE_PARENT_SETTID,
		parentTid: uint64(p.PidPointer().v),
	}
	p.Do(what, unix.SYS_CLONE3, Pointer(p, args), Int(unsafe.Sizeof(*args)), Int(0))
	if p.err == nil {
		p.ops[len(p.ops)-1].flags |= opFork
		p.forks = true
	}
}
