package spawn

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// Here runs p in the calling thread instead of a child: for a process that becomes
// the program itself. The caller has locked the thread and never uses it for
// anything else, as its identity may have changed already when a step fails. It
// returns nil at the list's end, and not at all after a successful exec. The
// program is used up.
func Here(p *Program) error {
	defer p.Discard()
	if p.err != nil {
		return &Error{What: "prepare process", Errno: syscall.EINVAL}
	}
	slots := new([maxSlots]uintptr)
	for pc := 0; pc < len(p.ops); pc++ {
		o := &p.ops[pc]
		r, _, e := syscall.RawSyscall6(uintptr(o.call),
			arg(o, slots, 0), arg(o, slots, 1), arg(o, slots, 2),
			arg(o, slots, 3), arg(o, slots, 4), arg(o, slots, 5))
		if e == 0 {
			if o.out >= 0 {
				slots[o.out&(maxSlots-1)] = r
			}
			pc += int(o.then)
			continue
		}
		if e == unix.EINTR {
			pc--
			continue
		}
		if t := uint8(e); (e > 255 || t != o.tolerate[0] && t != o.tolerate[1] && t != o.tolerate[2]) && o.flags&opOptional == 0 {
			return &Error{What: p.texts[o.what], Errno: e, Exec: o.flags&opExec != 0}
		}
		pc += int(o.skip)
	}
	return nil
}
