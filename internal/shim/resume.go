package shim

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/jsonfile"
	"muelle/internal/shimapi"
)

// resume takes over what renew has handed on.
func (s *shim) resume(state string) error {
	k, err := kept(state)
	if err != nil {
		return wrap("read the state", err)
	}
	for _, fd := range k.Descriptors() {
		unix.CloseOnExec(fd)
	}
	setName("shim:" + k.State.ID)
	s.state, s.start, s.tasks, s.into, s.user, s.mounts = k.State, &k.Start, k.Tasks, k.Into, k.User, k.Mounts
	s.logged, s.ended = k.Logged, k.Ended
	if err := s.resumeLog(&k.Log); err != nil {
		return wrap("open log", err)
	}
	for i := range k.Processes {
		p, err := s.resumeProcess(&k.Processes[i])
		if err != nil {
			return wrap("watch process", err)
		}
		if i == 0 {
			s.main = p
		} else {
			s.execs = append(s.execs, p)
		}
	}
	for i := range k.Held {
		if err := s.resumeHeld(&k.Held[i]); err != nil {
			return wrap("relay", err)
		}
	}
	for _, x := range k.Conns {
		c := &conn{s: s, fd: x.FD, told: x.Told}
		if err := s.loop.watch(c.fd, unix.EPOLLIN, c); err != nil {
			return wrap("watch connection", err)
		}
		s.conns = append(s.conns, c)
	}
	return nil
}

func kept(state string) (*shimapi.Kept, error) {
	fd, err := strconv.Atoi(state)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	b := make([]byte, st.Size)
	if n, err := unix.Pread(fd, b, 0); err != nil || n < len(b) {
		return nil, shimapi.ErrMalformed
	}
	k := &shimapi.Kept{}
	if err := decode(b, k); err != nil || len(k.Processes) == 0 {
		return nil, shimapi.ErrMalformed
	}
	return k, nil
}

func (s *shim) resumeLog(k *shimapi.KeptLog) error {
	if k.FD < 0 {
		return nil
	}
	w, err := jsonfile.Resume(&s.start.Log, k.FD, k.Next)
	if err != nil {
		return err
	}
	w.Use(s.loop.log)
	w.Lines().Continue(k.Partial)
	for _, l := range k.Lines {
		w.Lines().Hold(logdriver.Stream(l.Stream), l.Text, time.Unix(0, l.Since))
	}
	s.log = &output{s: s, file: w}
	return nil
}

// resumeProcess is what adopt does with a process that is ours already.
func (s *shim) resumeProcess(k *shimapi.KeptProcess) (*process, error) {
	p := &process{s: s, id: k.ID, pid: k.Pid, pidfd: k.PidFD, master: k.Master, slave: k.Slave, record: k.Record}
	if k.In.FD >= 0 {
		in, err := newStdin(s, k.In.FD, k.In.Once, k.In.TTY)
		if err != nil {
			return nil, err
		}
		p.in = in
		for _, fd := range k.In.Feeders {
			in.attach(fd)
		}
	}
	for _, o := range k.Outputs {
		src := &source{s: s, fd: o.FD, stream: logdriver.Stream(o.Stream), log: s.logOf(p), ended: p.settle, eof: o.FD < 0}
		p.outputs = append(p.outputs, src)
		if src.eof {
			continue
		}
		for _, fd := range o.Sinks {
			src.attach(fd)
		}
		if err := src.begin(); err != nil {
			return nil, err
		}
	}
	return p, s.loop.watch(p.pidfd, unix.EPOLLIN, p)
}

func (s *shim) resumeHeld(k *shimapi.KeptHeld) (err error) {
	h := held{Held: k.Held, fd: k.FD}
	if to := sockaddr(k.Held.Relay, int(k.Held.RelayPort)); to != nil {
		h.r, err = s.relayTo(h.fd, &k.Held, to)
	}
	h.Relay = nil
	s.held = append(s.held, h)
	return err
}
