package shim

import "golang.org/x/sys/unix"

// fionbio is FIONBIO of asm-generic/ioctls.h, the same on amd64 and arm64.
const fionbio = 0x5421

// sockaddr makes an address of 4 or 16 bytes; package netip would cost every shim
// memory.
func sockaddr(addr []byte, port int) unix.Sockaddr {
	switch len(addr) {
	case 4:
		return &unix.SockaddrInet4{Port: port, Addr: [4]byte(addr)}
	case 16:
		return &unix.SockaddrInet6{Port: port, Addr: [16]byte(addr)}
	}
	return nil
}

// address is what sockaddr was given.
func address(to unix.Sockaddr) (addr []byte, port int) {
	switch a := to.(type) {
	case *unix.SockaddrInet4:
		return a.Addr[:], a.Port
	case *unix.SockaddrInet6:
		return a.Addr[:], a.Port
	}
	return nil, 0
}

func dial(to unix.Sockaddr, kind int) (int, error) {
	family := unix.AF_INET
	if _, ok := to.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
