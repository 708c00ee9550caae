package shim

import (
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// process is the container's first process, or an exec.
type process struct {
	s       *shim
	id      string
	pid     int
	pidfd   int
	in      *stdin // nil: /dev/null
	outputs []*source
	master  int // the terminal's master side, or -1
	slave   int // kept open, so that the master does not see hang-ups of others
	ended   bool
	exit    shimapi.Exited
	settled bool
	session uint64 // a debug session's mount namespace, or 0
	owner   *conn  // who asked for the session, which ends with it
	record  []byte // of an exec: the daemon's own
}

// stdio is what a process gets as descriptors 0, 1 and 2, and our sides of it.
type stdio struct {
	child  [3]int
	stdin  int // ours, or -1
	stdout int
	stderr int
}

// newStdio makes the pipes of a process without a terminal.
func newStdio(openStdin bool) (*stdio, error) {
	st := &stdio{child: [3]int{-1, -1, -1}, stdin: -1, stdout: -1, stderr: -1}
	var err error
	if openStdin {
		st.child[0], st.stdin, err = pipe()
	} else {
		st.child[0], err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		st.stdout, st.child[1], err = pipe()
	}
	if err == nil {
		st.stderr, st.child[2], err = pipe()
	}
	if err == nil && st.stdin >= 0 {
		err = unix.SetNonblock(st.stdin, true)
	}
	if err == nil {
		err = unix.SetNonblock(st.stdout, true)
	}
	if err == nil {
		err = unix.SetNonblock(st.stderr, true)
	}
	if err != nil {
		st.closeChild()
		st.closeOurs()
		return nil, err
	}
	return st, nil
}

func pipe() (r, w int, err error) {
	var p [2]int
	err = unix.Pipe2(p[:], unix.O_CLOEXEC)
	if err != nil {
		return -1, -1, err
	}
	return p[0], p[1], nil
}

func (st *stdio) closeChild() { closeOpen(st.child[:]...) }
func (st *stdio) closeOurs()  { closeOpen(st.stdin, st.stdout, st.stderr) }

func closeOpen(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// adopt begins to serve a process that runs: its end and its streams.
func (p *process) adopt(st *stdio, t *terminal, openStdin, once bool) error {
	s := p.s
	p.master, p.slave = -1, -1
	if t != nil {
		p.master, p.slave = t.master, t.slave
		if err := unix.SetNonblock(t.master, true); err != nil {
			return err
		}
		p.outputs = []*source{{s: s, fd: t.master, stream: 1, log: s.logOf(p), ended: p.settle}}
		if openStdin {
			fd, err := unix.FcntlInt(uintptr(t.master), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return err
			}
			if p.in, err = newStdin(s, fd, once, true); err != nil {
				return err
			}
		}
	} else {
		p.outputs = []*source{
			{s: s, fd: st.stdout, stream: 1, log: s.logOf(p), ended: p.settle},
			{s: s, fd: st.stderr, stream: 2, log: s.logOf(p), ended: p.settle},
		}
		if st.stdin >= 0 {
			var err error
			if p.in, err = newStdin(s, st.stdin, once, false); err != nil {
				return err
			}
		}
	}
	for _, src := range p.outputs {
		if err := src.begin(); err != nil {
			return err
		}
	}
	return s.loop.watch(p.pidfd, unix.EPOLLIN, p)
}

// attach connects pipes; what is not there is closed, which tells the reader so.
func (p *process) attach(m *shimapi.Attach, fds []int) {
	if m.Stdin {
		if p.in != nil {
			p.in.attach(fds[0])
		} else {
			unix.Close(fds[0])
		}
		fds = fds[1:]
	}
	for i, want := range []bool{m.Stdout, m.Stderr} {
		if !want {
			continue
		}
		if i < len(p.outputs) {
			p.outputs[i].attach(fds[0])
		} else {
			unix.Close(fds[0])
		}
		fds = fds[1:]
	}
}

// ready: the process has ended.
func (p *process) ready(uint32) {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(p.pid, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err == nil && pid == 0 {
			return
		}
		break
	}
	p.over(status)
	p.s.reapOrphans()
}

// over is the process's end, by its status.
func (p *process) over(status unix.WaitStatus) {
	p.ended = true
	p.exit = shimapi.Exited{Process: p.id, Ended: true, At: time.Now().UnixNano(), Code: status.ExitStatus()}
	if status.Signaled() {
		p.exit.Signal = int(status.Signal())
		p.exit.Code = 128 + p.exit.Signal
	}
	p.s.loop.close(p.pidfd)
	if p.in != nil {
		p.in.close()
	}
	if p.session != 0 {
		p.s.endSession(p.session)
	}
	if p.id == "" && p.s.start.SharedPID {
		p.s.killAll()
	}
	if p.slave >= 0 {
		unix.Close(p.slave)
		p.slave = -1
	}
	for _, src := range p.outputs {
		src.drain()
	}
	p.settle()
	if !p.settled {
		p.s.loop.after(grace, func() {
			for _, src := range p.outputs {
				src.drain()
				src.end()
			}
		})
	}
}

// settle tells the end once the process has ended and its output is complete.
func (p *process) settle() {
	if !p.ended || p.settled {
		return
	}
	for _, src := range p.outputs {
		if !src.eof {
			return
		}
	}
	p.settled = true
	p.master = -1
	if p.id == "" {
		p.s.finish()
		return
	}
	p.s.missed(p)
	p.s.broadcast(&p.exit)
	for i, o := range p.s.execs {
		if o == p {
			p.s.execs = append(p.s.execs[:i], p.s.execs[i+1:]...)
			break
		}
	}
	if len(p.s.execs) == 0 {
		p.s.endIdle()
	}
}
