package shim

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal of the container's own devpts.
type terminal struct {
	master, slave int
}

// openTerminal allocates one below the container's root. The slave comes from the
// master by TIOCGPTPEER, never by a path that the container could have prepared
// (CVE-2025-52565).
func openTerminal(root int) (*terminal, error) {
	fd, err := openIn(root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, wrap("open /dev/pts/ptmx", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		unix.Close(fd)
		return nil, &failure{code: 128, text: "/dev/pts is not a devpts file system"}
	}
	var unlock int32
	err = ioctl(fd, unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock)))
	if err != nil {
		unix.Close(fd)
		return nil, wrap("unlock terminal", err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		unix.Close(fd)
		return nil, wrap("open terminal", errno)
	}
	return &terminal{master: fd, slave: int(slave)}, nil
}

func (t *terminal) close() { closeOpen(t.master, t.slave) }

func setSize(fd int, width, height uint16) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
}

func ioctl(fd int, request, arg uintptr) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg); e != 0 {
		return e
	}
	return nil
}
