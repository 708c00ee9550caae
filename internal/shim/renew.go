package shim

import (
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// What Go's runtime takes for its garbage and for collecting it, it keeps: after some
// hundred execs that is more than all else that a shim needs. So a shim that has had
// enough of them executes its program anew, in the same process, when nothing is under
// way: children, descriptors and what lies in pipes and sockets stay where they are, and
// what only memory knows goes along, as shimapi.Kept. It does so between two events, at
// most once for twenty execs, and takes two milliseconds. A shim that cannot, because
// something is always under way, collects its garbage.

// renewAfter is the garbage that is worth it, in bytes: what some twenty execs leave.
const renewAfter = 192 << 10

// renew does not return where it succeeds. Else nothing has changed.
func (s *shim) renew() {
	if !s.atRest() {
		return
	}
	k := s.keep()
	fds := append(k.Descriptors(), shimapi.ListenFD, s.dir)
	if !s.complete(fds) {
		return
	}
	if err := s.execute(shimapi.Encode(k), fds); err != nil {
		s.stubborn = true // what the kernel refuses once it refuses always
		s.complain("execute the shim anew", err)
	}
}

// execute hands state and descriptors to the same program in this process.
func (s *shim) execute(state []byte, fds []int) error {
	fd, err := unix.MemfdCreate("muelle-shim-state", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if n, err := unix.Write(fd, state); err != nil {
		return err
	} else if n < len(state) {
		return unix.ENOSPC
	}
	fds = append(fds, fd)
	// Exec gives back the limit that Go raised at the start, as the next start expects.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	for _, fd := range fds {
		if _, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			break
		}
	}
	if err == nil {
		err = syscall.Exec("/proc/self/exe", append(s.args[:2:2], strconv.Itoa(fd)), syscall.Environ())
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &files) // it was so before
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return err
}

// atRest tells that nothing is under way which Kept has no place for.
func (s *shim) atRest() bool {
	if s.stubborn || len(s.args) < 2 || s.main == nil || s.exit.Ended || s.outside ||
		len(s.loop.timers)+len(s.waiting)+len(s.helpers)+len(s.early)+s.pending > 0 ||
		s.log != nil && (s.log.remote != nil || s.log.closed) {
		return false
	}
	for _, c := range s.conns {
		if len(c.in)+len(c.fds) > 0 {
			return false
		}
	}
	for _, h := range s.held {
		if h.r == nil {
			continue
		}
		if _, quiet := h.r.rest(); !quiet {
			return false
		}
	}
	if !s.main.atRest() {
		return false
	}
	for _, p := range s.execs {
		if !p.atRest() {
			return false
		}
	}
	return true
}

func (p *process) atRest() bool {
	if p.ended || p.session != 0 || p.owner != nil {
		return false
	}
	if p.in != nil && (p.in.closing || p.in.pending.chunk != nil || len(p.in.pending.rest) > 0) {
		return false
	}
	for _, src := range p.outputs {
		if src.blocked > 0 {
			return false
		}
		for _, k := range src.sinks {
			if k.pending.chunk != nil || len(k.pending.rest) > 0 {
				return false
			}
		}
	}
	return true
}

// complete tells whether all that the loop watches is among fds: what atRest does not
// know of would be closed.
func (s *shim) complete(fds []int) bool {
	known := make([]bool, len(s.loop.handlers))
	for _, fd := range fds {
		if fd < len(known) {
			known[fd] = true
		}
	}
	for fd, h := range s.loop.handlers {
		if h != nil && !known[fd] {
			return false
		}
	}
	return true
}

// keep collects what the next program has to know.
func (s *shim) keep() *shimapi.Kept {
	k := &shimapi.Kept{
		State: s.state, Start: *s.start, Tasks: s.tasks, Into: s.into, User: s.user, Mounts: s.mounts,
		Log: shimapi.KeptLog{FD: -1}, Logged: s.logged, Ended: s.ended,
	}
	if s.log != nil && s.log.file != nil {
		w := s.log.file
		k.Log.FD, k.Log.Next = w.Position()
		k.Log.Partial = w.Partial()
		for _, src := range s.main.outputs {
			if line, since := w.Lines().Unfinished(src.stream); len(line) > 0 {
				k.Log.Lines = append(k.Log.Lines, shimapi.KeptLine{Stream: uint8(src.stream), Text: line, Since: since.UnixNano()})
			}
		}
	}
	k.Processes = append(k.Processes, s.main.keep())
	for _, p := range s.execs {
		k.Processes = append(k.Processes, p.keep())
	}
	for _, c := range s.conns {
		k.Conns = append(k.Conns, shimapi.KeptConn{FD: c.fd, Told: c.told})
	}
	for _, h := range s.held {
		kept := shimapi.KeptHeld{FD: h.fd, Held: h.Held}
		if h.r != nil {
			to, _ := h.r.rest()
			addr, port := address(to)
			kept.Held.Relay, kept.Held.RelayPort = addr, uint16(port)
		}
		k.Held = append(k.Held, kept)
	}
	return k
}

func (p *process) keep() shimapi.KeptProcess {
	k := shimapi.KeptProcess{ID: p.id, Pid: p.pid, PidFD: p.pidfd, Master: -1, Slave: p.slave, Record: p.record, In: shimapi.KeptStdin{FD: -1}}
	if in := p.in; in != nil && in.fd >= 0 {
		k.In = shimapi.KeptStdin{FD: in.fd, Once: in.once, TTY: in.tty}
		for _, f := range in.feeders {
			k.In.Feeders = append(k.In.Feeders, f.fd)
		}
	}
	for _, src := range p.outputs {
		o := shimapi.KeptOutput{FD: src.fd, Stream: uint8(src.stream)}
		if src.eof {
			o.FD = -1
		} else if p.master == src.fd {
			k.Master = p.master
		}
		for _, sink := range src.sinks {
			o.Sinks = append(o.Sinks, sink.fd)
		}
		k.Outputs = append(k.Outputs, o)
	}
	return k
}
