package shim

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sigaction sets a signal's action below the Go runtime, which os/signal would
// otherwise have to be linked for.
func sigaction(sig syscall.Signal, act *[8]uint64) error {
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(act)), 0, 8, 0, 0); e != 0 {
		return e
	}
	return nil
}

// setName is what ps shows as the command.
func setName(name string) {
	b := make([]byte, 16)
	copy(b[:15], name)
	unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0, 0)
}

// openIn opens a path below a root directory, as if that were "/": no symbolic
// link, ".." or magic link leads out of it.
func openIn(root int, path string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | resolve}
	for {
		fd, err := unix.Openat2(root, path, &how)
		// EAGAIN: a rename raced with a ".." of the path.
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
