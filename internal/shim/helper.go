package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
)

// helper starts a program with a socket as its standard input and gives the other
// end. The program ends when that is closed.
func (s *shim) helper(args []string) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ours, theirs := pair[0], pair[1]
	defer unix.Close(theirs)
	child, err := s.startHelper(args, theirs)
	if err == nil {
		h := &helped{s: s, child: child}
		if err = s.loop.watch(child.PidFD, unix.EPOLLIN, h); err == nil {
			s.helpers = append(s.helpers, h)
			err = unix.SetNonblock(ours, true)
		}
	}
	if err != nil {
		unix.Close(ours)
		return -1, wrap("start "+args[0], err)
	}
	return ours, nil
}

func (s *shim) startHelper(args []string, in int) (*spawn.Child, error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(null)
	p := &spawn.Program{}
	p.Move(in, null, null)
	p.CloseOnExec(3)
	p.ResetSignals()
	p.Exec(-1, args[0], args, outsideEnv)
	return spawn.Start(p, spawn.Options{Cgroup: -1})
}

// helped reaps a helper.
type helped struct {
	s     *shim
	child *spawn.Child
}

func (h *helped) ready(uint32) { h.reap(unix.WNOHANG) }

// endHelpers ends those of a container that does not start.
func (s *shim) endHelpers() {
	for len(s.helpers) > 0 {
		h := s.helpers[0]
		unix.PidfdSendSignal(h.child.PidFD, unix.SIGKILL, nil, 0)
		h.reap(0)
	}
}

func (h *helped) reap(flags int) {
	for {
		pid, err := unix.Wait4(h.child.Pid, nil, flags, nil)
		if err == unix.EINTR {
			continue
		}
		if err == nil && pid == 0 {
			return
		}
		break
	}
	h.s.loop.close(h.child.PidFD)
	for n, other := range h.s.helpers {
		if other == h {
			h.s.helpers = append(h.s.helpers[:n], h.s.helpers[n+1:]...)
			break
		}
	}
	h.s.maybeQuit()
}
