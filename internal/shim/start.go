package shim

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/thread"
	"muelle/internal/logdriver"
	"muelle/internal/shimapi"
)

// taken are the descriptors of a Start, told apart.
type taken struct {
	joined []int // one per namespace, -1 where it is new
	tasks  []int
	into   int
	attach [][]int
	held   []int
	idmaps []int
}

func take(m *shimapi.Start, fds []int) (*taken, error) {
	t := &taken{into: -1}
	ok := true
	next := func() int {
		if len(fds) == 0 {
			ok = false
			return -1
		}
		fd := fds[0]
		fds = fds[1:]
		return fd
	}
	for _, n := range m.Namespaces {
		fd := -1
		if n.Joined {
			fd = next()
		}
		t.joined = append(t.joined, fd)
	}
	for range m.Tasks {
		t.tasks = append(t.tasks, next())
	}
	if m.Into {
		t.into = next()
	}
	for i := range m.Attach {
		var a []int
		for range m.Attach[i].Count() {
			a = append(a, next())
		}
		t.attach = append(t.attach, a)
	}
	for range m.Held {
		t.held = append(t.held, next())
	}
	for range m.IDMaps {
		t.idmaps = append(t.idmaps, next())
	}
	if !ok || len(fds) > 0 {
		return nil, shimapi.ErrMalformed
	}
	return t, nil
}

// startContainer makes the container and runs its process. After an error the shim
// ends, which frees everything that was made.
func (s *shim) startContainer(payload []byte, fds []int, reply *shimapi.Reply) error {
	if s.main != nil {
		closeAll(fds)
		return &failure{code: shimapi.CodeFailed, text: "the shim has a container already"}
	}
	m := &shimapi.Start{}
	if err := decode(payload, m); err != nil {
		closeAll(fds)
		return err
	}
	t, err := take(m, fds)
	if err != nil {
		closeAll(fds)
		return err
	}
	setName("shim:" + m.ID)
	s.start, s.tasks, s.into = m, t.tasks, t.into
	if s.log, err = s.openLog(m); err != nil {
		return err
	}
	st := &stdio{child: [3]int{-1, -1, -1}, stdin: -1, stdout: -1, stderr: -1}
	if !m.Process.Terminal {
		if st, err = newStdio(m.OpenStdin); err != nil {
			return wrap("make streams", err)
		}
	}
	if m.Outside.Create.Path != "" {
		if err := s.startOutside(t, st); err != nil {
			return err
		}
		reply.State = s.state
		return nil
	}
	iso := &isolation{s: s, m: m, old: -1, root: -1, null: -1, spare: -1, ready: -1, user: -1, joined: t.joined, idmaps: t.idmaps, tasks: t.tasks, into: t.into, stdio: st}
	if err := s.fullness(thread.Run(iso.run)); err != nil {
		return err
	}
	if iso.paused != nil {
		if err := s.fullness(iso.paused.run()); err != nil {
			return err
		}
	}
	st.closeChild()
	for n, fd := range t.joined {
		if m.Namespaces[n].Flag == unix.CLONE_NEWUSER {
			s.user = fd // exec enters it
		} else {
			closeOpen(fd)
		}
	}
	closeAll(t.idmaps)
	s.main = &process{s: s, pid: iso.child.Pid, pidfd: iso.child.PidFD}
	if err := s.settleStart(t, st, iso.terminal); err != nil {
		unix.PidfdSendSignal(s.main.pidfd, unix.SIGKILL, nil, 0)
		return err
	}
	if err := runHooks("poststart", m.Hooks.Poststart, hookState(&m.Hooks, "running", s.main.pid), beside(m.Hooks.Dir)); err != nil {
		unix.PidfdSendSignal(s.main.pidfd, unix.SIGKILL, nil, 0)
		return err
	}
	reply.State = s.state
	return nil
}

// settleStart takes over a container whose process runs.
func (s *shim) settleStart(t *taken, st *stdio, term *terminal) error {
	m := s.start
	if term != nil && m.Width > 0 {
		if err := setSize(term.master, m.Width, m.Height); err != nil {
			return wrap("set terminal size", err)
		}
	}
	if err := s.main.adopt(st, term, m.OpenStdin, m.StdinOnce); err != nil {
		return wrap("watch process", err)
	}
	for i := range m.Attach {
		s.main.attach(&m.Attach[i], t.attach[i])
	}
	if err := s.hold(m.Held, t.held); err != nil {
		return err
	}
	if err := s.beginRelays(); err != nil {
		return wrap("relay published ports", err)
	}
	self := unix.Getpid()
	s.state = shimapi.State{
		Version: shimapi.Version, BootID: m.BootID, ID: m.ID, CgroupsPath: m.CgroupsPath,
		ShimPid: self, ShimStart: s.startTime("self"),
		Pid: s.main.pid, PidStart: s.startTime(strconv.Itoa(s.main.pid)),
		StartedAt: time.Now().UnixNano(), Terminal: m.Process.Terminal,
	}
	if err := s.writeFile(shimapi.StateFile, shimapi.Encode(&s.state)); err != nil {
		return wrap("write state", err)
	}
	// Of the document only what exec needs is kept: the rest is memory that each
	// running container would pay for.
	s.start = &shimapi.Start{
		OOMFile: m.OOMFile, KillFile: m.KillFile, ProcsFile: m.ProcsFile, SharedPID: m.SharedPID, Idle: m.Idle, UIDs: m.UIDs, GIDs: m.GIDs,
		Process: shimapi.Process{Filter: append([]byte(nil), m.Process.Filter...), FilterFlags: m.Process.FilterFlags},
		Log:     logdriver.Config{Path: m.Log.Path, MaxSize: m.Log.MaxSize, MaxFile: m.Log.MaxFile, Extra: m.Log.Extra},
	}
	return nil
}

func (s *shim) logOf(p *process) *output {
	if p.id != "" {
		return nil
	}
	return s.log
}
