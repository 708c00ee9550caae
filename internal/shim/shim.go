// Package shim is what lives beside each container: one small process that makes
// the container, is its parent, and owns everything that must outlive the daemon:
// the processes and their exit statuses, their streams, the log's writing half,
// held sockets and the relay for [::1]. One goroutine serves it all through epoll;
// only the making of namespaces and mounts happens on a thread of its own, which is
// thrown away. It links next to nothing: a test of cmd/muelle-shim holds the list.
package shim

import (
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
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
	log     logdriver.Writer
	main    *process
	execs   []*process
	held    []held
	exit    shimapi.Exited
	waiting []pendingShutdown
}

type pendingShutdown struct {
	c   *conn
	seq uint32
}

type held struct {
	shimapi.Held
	fd int
	r  relay
}

// relay is a held socket whose traffic the shim passes on.
type relay interface{ stop() }

// Run serves until the container has ended and nobody asks any more. The daemon
// gives it its first connection, the listening socket and the container's folder as
// descriptors 3, 4 and 5.
func Run() error {
	if err := harden(); err != nil {
		return err
	}
	l, err := newLoop()
	if err != nil {
		return err
	}
	s := &shim{loop: l, dir: shimapi.DirFD, into: -1}
	for fd := shimapi.ControlFD; fd < shimapi.FirstFree; fd++ {
		unix.CloseOnExec(fd)
	}
	if s.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if err := unix.SetNonblock(shimapi.ControlFD, true); err != nil {
		return err
	}
	if err := unix.SetNonblock(shimapi.ListenFD, true); err != nil {
		return err
	}
	if err := l.watch(shimapi.ListenFD, unix.EPOLLIN, &listener{s: s, fd: shimapi.ListenFD}); err != nil {
		return err
	}
	s.accept(shimapi.ControlFD)
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

func (s *shim) hello() *shimapi.Hello {
	return &shimapi.Hello{Version: shimapi.Version, Started: s.main != nil, Exit: s.exit, State: s.state}
}

// serve answers one request.
func (s *shim) serve(c *conn, h shimapi.Header, payload []byte, fds []int) {
	reply := &shimapi.Reply{}
	var out []int
	var err error
	switch h.Type {
	case shimapi.TypeStart:
		err = s.startContainer(payload, fds, reply)
		fds = nil
	case shimapi.TypeExec:
		err = s.exec(payload, fds, reply)
		fds = nil
	case shimapi.TypeAttach:
		var m shimapi.Attach
		if err = decode(payload, &m); err == nil {
			err = s.attach(&m, fds)
			fds = nil
		}
	case shimapi.TypeSignal:
		var m shimapi.Signal
		if err = decode(payload, &m); err == nil {
			err = s.signal(&m)
		}
	case shimapi.TypeResize:
		var m shimapi.Resize
		if err = decode(payload, &m); err == nil {
			err = s.resize(&m)
		}
	case shimapi.TypeHeld:
		for _, d := range s.held {
			reply.Names = append(reply.Names, d.Name)
			out = append(out, d.fd)
		}
	case shimapi.TypeNetNS:
		var fd int
		if fd, err = s.netns(); err == nil {
			defer unix.Close(fd)
			out = []int{fd}
		}
	case shimapi.TypeShutdown:
		s.shutdown(c, h.Seq)
		return
	default:
		err = &failure{code: shimapi.CodeFailed, text: "the shim does not know request " + strconv.Itoa(int(h.Type))}
	}
	closeAll(fds)
	if err != nil {
		reply.Code, reply.Error = shimapi.CodeFailed, err.Error()
		if f, ok := err.(*failure); ok {
			reply.Code = f.code
		}
	}
	c.send(shimapi.TypeReply, h.Seq, reply, out)
	if h.Type == shimapi.TypeStart && err != nil {
		s.loop.done = true
	}
}

func decode(b []byte, m shimapi.Message) error { return shimapi.Decode(b, m) }

// failure is an error with the code that goes into the reply.
type failure struct {
	code int
	text string
}

func (f *failure) Error() string { return f.text }

var errGone = &failure{code: shimapi.CodeGone, text: "process has ended"}

// wrap says what could not be done.
func wrap(what string, err error) error {
	if f, ok := err.(*failure); ok {
		return &failure{code: f.code, text: what + ": " + f.text}
	}
	return &failure{code: 128, text: what + ": " + err.Error()}
}

func (s *shim) process(id string) *process {
	if id == "" {
		return s.main
	}
	for _, p := range s.execs {
		if p.id == id {
			return p
		}
	}
	return nil
}

func (s *shim) attach(m *shimapi.Attach, fds []int) error {
	p := s.process(m.Process)
	if p == nil || len(fds) != m.Count() {
		closeAll(fds)
		return errGone
	}
	p.attach(m, fds)
	return nil
}

func (s *shim) signal(m *shimapi.Signal) error {
	p := s.process(m.Process)
	if p == nil || p.ended {
		return errGone
	}
	err := unix.PidfdSendSignal(p.pidfd, syscall.Signal(m.Signal), nil, 0)
	if err == unix.ESRCH {
		return errGone
	}
	return err
}

func (s *shim) resize(m *shimapi.Resize) error {
	p := s.process(m.Process)
	if p == nil || p.ended {
		return errGone
	}
	if p.master < 0 {
		return &failure{code: shimapi.CodeFailed, text: "process has no terminal"}
	}
	return setSize(p.master, m.Width, m.Height)
}

func (s *shim) netns() (int, error) {
	if s.main == nil || s.main.ended {
		return -1, errGone
	}
	path := strconv.Itoa(s.main.pid) + "/ns/net"
	return unix.Openat(s.proc, path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// shutdown ends whatever runs, and answers when it has ended.
func (s *shim) shutdown(c *conn, seq uint32) {
	s.waiting = append(s.waiting, pendingShutdown{c, seq})
	if s.main == nil || s.exit.Ended {
		s.quit()
		return
	}
	s.killAll()
	if !s.main.ended {
		unix.PidfdSendSignal(s.main.pidfd, unix.SIGKILL, nil, 0)
	}
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

// onThread runs f on an operating system thread of its own, which ends with it: so
// its namespaces, working directory and umask touch nothing else.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}
