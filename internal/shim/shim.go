// Package shim is what lives beside each container: one small process that makes
// the container, is its parent, and owns everything that must outlive the daemon:
// the processes and their exit statuses, their streams, the log's writing half,
// held sockets and the relay for [::1]. One goroutine serves it all through epoll;
// only the making of namespaces and mounts happens on a thread of its own, which is
// thrown away. It links next to nothing: a test of cmd/muelle-shim holds the list.
package shim

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// grace is how long output is awaited from whoever keeps a process's streams open
// after its end; Docker gives two seconds too.
const grace = 2 * time.Second

type shim struct {
	loop  *loop
	conns []*conn
	dir   int // the container's folder
	proc  int // the host's /proc

	state   shimapi.State
	start   *shimapi.Start // what exec needs of it; nil before Start
	tasks   []int          // v1 cgroup files to enter by
	into    int            // v2 cgroup directory, or -1
	user    int            // the container's user namespace, or -1
	log     *output        // nil: none
	logged  shimapi.Logged
	main    *process
	execs   []*process
	ended   []shimapi.Execed // execs that ended while no daemon was connected
	held    []held
	early   []early // relays that were asked for before there is a container
	mounts  int     // the container's mount namespace, or -1
	exit    shimapi.Exited
	waiting []pendingShutdown

	outside bool      // another OCI runtime makes the processes; what they leave comes to us
	pending int       // its execs that have not begun
	helpers []*helped // programs that send the log and have not ended

	args     []string // the shim's own
	stubborn bool     // it could not be renewed
}

type pendingShutdown struct {
	c   *conn
	seq uint32
}

// Run serves until the container has ended and nobody asks any more. The daemon
// gives it its first connection, the listening socket and the container's folder as
// descriptors 3, 4 and 5. args are the shim's own; a third one is the descriptor that
// renew has left.
func Run(args []string) error {
	if err := harden(); err != nil {
		return err
	}
	l, err := newLoop()
	if err != nil {
		return err
	}
	s := &shim{loop: l, dir: shimapi.DirFD, into: -1, user: -1, mounts: -1, args: args}
	l.renew = s.renew
	for fd := shimapi.ControlFD; fd < shimapi.FirstFree; fd++ {
		unix.CloseOnExec(fd)
	}
	if s.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.SetNonblock(shimapi.ListenFD, true); err != nil {
		return err
	}
	if err := l.watch(shimapi.ListenFD, unix.EPOLLIN, &listener{s: s, fd: shimapi.ListenFD}); err != nil {
		return err
	}
	if len(args) > 2 {
		if err := s.resume(args[2]); err != nil {
			return wrap("go on", err)
		}
		return l.run()
	}
	if err := unix.SetNonblock(shimapi.ControlFD, true); err != nil {
		return err
	}
	s.accept(shimapi.ControlFD, true)
	return l.run()
}

// harden keeps the shim out of reach: no core dump or ptrace by what runs in the
// container (CVE-2016-9962), no end by a signal that was meant for the daemon's
// session.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	ignore := [8]uint64{1} // struct sigaction with SIG_IGN
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE} {
		if err := sigaction(sig, &ignore); err != nil {
			return err
		}
	}
	return nil
}

// quit answers those who asked for the end, and ends when the last slow reader of
// the output has it.
func (s *shim) quit() {
	for _, w := range s.waiting {
		if w.c.fd >= 0 {
			w.c.send(shimapi.TypeReply, w.seq, &shimapi.Reply{}, nil)
		}
	}
	s.waiting = nil
	s.loop.close(shimapi.ListenFD)
	for len(s.conns) > 0 {
		s.conns[0].close()
	}
	s.maybeQuit()
}

// maybeQuit ends the shim of an ended container when nobody is connected and
// nobody still reads.
func (s *shim) maybeQuit() {
	if len(s.conns) > 0 || (s.main != nil && !s.exit.Ended) {
		return
	}
	s.releaseMounts()
	if s.log != nil && s.log.closed && s.log.busy() || len(s.helpers) > 0 {
		return
	}
	if s.main != nil {
		for _, src := range s.main.outputs {
			if len(src.sinks) > 0 {
				return
			}
		}
	}
	s.loop.done = true
}

// broadcast tells every daemon that a process has ended.
func (s *shim) broadcast(e *shimapi.Exited) {
	for _, c := range append([]*conn(nil), s.conns...) {
		if c.fd >= 0 {
			c.send(shimapi.TypeExited, 0, e, nil)
		}
	}
}

// complain keeps what nobody is there to be told of.
func (s *shim) complain(what string, err error) {
	fd, e := unix.Openat(s.dir, "shim.log", unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if e != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Size < 64<<10 {
		unix.Write(fd, []byte(what+": "+err.Error()+"\n"))
	}
}
