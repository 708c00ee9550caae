package shim

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

func (s *shim) hello() *shimapi.Hello {
	return &shimapi.Hello{Version: shimapi.Version, Started: s.main != nil, Exit: s.exit, State: s.state}
}

// serve answers one request. What starts the container is apart from the rest, whose
// variables would make the stack grow, for good.
func (s *shim) serve(c *conn, h shimapi.Header, payload []byte, fds []int) {
	reply := &shimapi.Reply{}
	if h.Type != shimapi.TypeStart {
		s.serveRunning(c, h, payload, fds, reply)
		return
	}
	err := s.startContainer(payload, fds, reply)
	c.reply(h.Seq, reply, nil, err)
	if err != nil {
		s.endHelpers()
		s.loop.done = true
	}
}

func (s *shim) serveRunning(c *conn, h shimapi.Header, payload []byte, fds []int, reply *shimapi.Reply) {
	var out []int
	var err error
	switch h.Type {
	case shimapi.TypeExec:
		var later bool
		if later, err = s.exec(c, h.Seq, payload, fds, reply); later {
			return
		}
		fds = nil
	case shimapi.TypeDebug:
		err = s.debug(c, payload, fds, reply)
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
	case shimapi.TypeHold:
		var m shimapi.Hold
		if err = decode(payload, &m); err == nil {
			err = s.hold(m.Held, fds)
			fds = nil
		}
	case shimapi.TypeLetGo:
		var m shimapi.LetGo
		if err = decode(payload, &m); err == nil {
			s.letGo(m.Names)
		}
	case shimapi.TypeNetNS:
		var fd int
		if fd, err = s.netns(); err == nil {
			defer unix.Close(fd)
			out = []int{fd}
		}
	case shimapi.TypeExecs:
		s.tellExecs(c, reply)
	case shimapi.TypeLogged:
		reply.Logged = s.logged
	case shimapi.TypeShutdown:
		s.shutdown(c, h.Seq)
		return
	default:
		err = &failure{code: shimapi.CodeFailed, text: shimapi.UnknownRequest + strconv.Itoa(int(h.Type))}
	}
	closeAll(fds)
	c.reply(h.Seq, reply, out, err)
}

// reply answers a request, err's with what it says.
func (c *conn) reply(seq uint32, reply *shimapi.Reply, fds []int, err error) {
	if err != nil {
		reply.Code, reply.Error = shimapi.CodeFailed, err.Error()
		if f, ok := err.(*failure); ok {
			reply.Code = f.code
		}
	}
	c.send(shimapi.TypeReply, seq, reply, fds)
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
