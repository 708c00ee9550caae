package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/linux/thread"
	"muelle/internal/shimapi"
)

// Joining is a further process in a container that has no shim of ours.
type Joining struct {
	// PidFD is the container's first process.
	PidFD   int
	Process *shimapi.Process
	// Stdio are the streams, unless the process has a terminal.
	Stdio [3]int
	// Tasks and Into are as in Start.
	Tasks []int
	Into  int
	// User is the container's user namespace, or -1; UIDs are its users.
	User int
	UIDs []shimapi.IDRange
	// Clock is the container's time namespace, or -1.
	Clock int
	// Chroot is the container's root where its mount namespace is others', too; else -1.
	Chroot        int
	Width, Height uint16
}

// Join starts it as the caller's child. master is the terminal's, or -1.
func Join(o Joining) (child *spawn.Child, master int, err error) {
	s := &shim{main: &process{pidfd: o.PidFD}, into: -1, user: o.User, start: &shimapi.Start{UIDs: o.UIDs}}
	if s.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, -1, err
	}
	defer unix.Close(s.proc)
	j := &joining{s: s, chroot: o.Chroot, clock: o.Clock, tasks: o.Tasks, into: o.Into, p: o.Process, width: o.Width, height: o.Height,
		stdio: &stdio{child: o.Stdio, stdin: -1, stdout: -1, stderr: -1}}
	if err := thread.Run(j.run); err != nil {
		return nil, -1, err
	}
	if j.terminal == nil {
		return j.child, -1, nil
	}
	unix.Close(j.terminal.slave)
	return j.child, j.terminal.master, nil
}
