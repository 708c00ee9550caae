package rtnl

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is that of linux/ethtool.h: a command, and what it gives.
type ethtoolValue [2]uint32

// ethtoolRequest is a struct ifreq that points to data.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data *ethtoolValue
	_    [16]byte
}

const ethtoolLink = 0xa // ETHTOOL_GLINK

// Carry has interfaces carry packets from when it returns, in order. One whose other end
// was switched on later does so only when a worker of the kernel's has come to it
// (net/core/link_watch.c), and a port of a bridge as well; on a busy machine that is after a
// container's first packets, which are lost. Who asks for the state has it brought about.
func Carry(names ...string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	for _, name := range names {
		r := ethtoolRequest{data: &ethtoolValue{ethtoolLink}}
		copy(r.name[:unix.IFNAMSIZ-1], name)
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); errno != 0 {
			return fmt.Errorf("ask for the carrier of %s: %w", name, errno)
		}
	}
	return nil
}
