package port

import (
	"net/netip"

	sockets "muelle/internal/linux/socket"
)

// Holder names the process of this network namespace that has the port, as
// "nginx (pid 123)", or gives "".
func Holder(e *TakenError) string {
	all, err := sockets.Listeners()
	if err != nil {
		return ""
	}
	var inodes []uint64
	for _, l := range all {
		if l.Proto == string(e.Proto) && l.Addr.Port() == e.Host.Port() && Overlap(l.Addr.Addr(), e.Host.Addr()) {
			inodes = append(inodes, l.Inode)
		}
	}
	return sockets.Holder(inodes...)
}

// Overlap tells whether two sockets bound to the addresses are in each other's way. One
// on [::] mostly takes the addresses of IPv4 too.
func Overlap(a, b netip.Addr) bool {
	switch {
	case a == b, a.Is6() && a.IsUnspecified(), b.Is6() && b.IsUnspecified():
		return true
	}
	return a.Is4() && b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}
