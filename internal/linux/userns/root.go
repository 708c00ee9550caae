package userns

import (
	"fmt"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/thread"
)

// AsRoot runs f in the name of the map's root, as far as files are concerned, and with
// every capability of this process: what f makes below a mount that is shown with the
// map belongs to that root. f runs on a thread of its own, which ends with it. With a
// nil map f runs as it is.
func (m *Map) AsRoot(f func() error) error {
	if m == nil {
		return f()
	}
	return thread.Run(func() error {
		if err := m.becomeRoot(); err != nil {
			return err
		}
		return f()
	})
}

func (m *Map) becomeRoot() error {
	uid, _ := m.HostUID(0)
	gid, _ := m.HostGID(0)
	// Errors of these two are told by nothing but the value of a second call.
	unix.RawSyscall(unix.SYS_SETFSGID, uintptr(gid), 0, 0)
	unix.RawSyscall(unix.SYS_SETFSUID, uintptr(uid), 0, 0)
	if now, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, ^uintptr(0), 0, 0); uint32(now) != uid {
		return fmt.Errorf("act as user %d: %w", uid, unix.EPERM)
	}
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
	}
	if err := unix.Capset(header, &data[0]); err != nil {
		return fmt.Errorf("restore capabilities: %w", err)
	}
	return nil
}
