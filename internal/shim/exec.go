package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/linux/thread"
	"muelle/internal/shimapi"
)

// exec starts a further process in the running container. later says that the answer
// comes when another OCI runtime has started it.
func (s *shim) exec(c *conn, seq uint32, payload []byte, fds []int, reply *shimapi.Reply) (later bool, err error) {
	m := &shimapi.Exec{}
	if err := decode(payload, m); err != nil {
		closeAll(fds)
		return false, err
	}
	entry, fds := takeEntry(m, fds)
	defer closeAll(entry)
	err = s.mayExec(m, fds)
	if err == nil && m.Outside.Path == "" {
		err = s.mayEnter(m)
	}
	if err != nil {
		closeAll(fds)
		return false, err
	}
	if m.Outside.Path != "" {
		err := s.execOutside(c, seq, m, fds)
		return err == nil, err
	}
	j := &joining{s: s, tasks: s.tasks, into: s.into}
	if len(entry) > 0 {
		j.tasks, j.into = entry[:m.Tasks], -1
		if m.Into {
			j.into = entry[m.Tasks]
		}
	}
	return false, s.execOwn(m, fds, reply, j)
}

// takeEntry parts the way into a cgroup from what is attached.
func takeEntry(m *shimapi.Exec, fds []int) (entry, rest []int) {
	n := m.Tasks
	if m.Into {
		n++
	}
	if m.Tasks < 0 || n > len(fds) {
		m.Tasks, m.Into = 0, false
		return nil, fds // mayExec counts them
	}
	n = len(fds) - n
	return fds[n:], fds[:n:n]
}

// mayExec checks a request.
func (s *shim) mayExec(m *shimapi.Exec, fds []int) error {
	if s.main == nil || s.main.ended || len(m.Attach) > 1 || (len(m.Attach) == 1 && len(fds) != m.Attach[0].Count()) {
		return errGone
	}
	if s.process(m.ID) != nil {
		return &failure{code: shimapi.CodeFailed, text: "exec " + m.ID + " runs already"}
	}
	if s.full() {
		return s.pidsFailure()
	}
	return nil
}

// execOwn starts a process; j says in which control groups, and whether it is a debug
// session.
func (s *shim) execOwn(m *shimapi.Exec, fds []int, reply *shimapi.Reply, j *joining) error {
	if !m.Unconfined {
		m.Process.Filter, m.Process.FilterFlags = s.start.Process.Filter, s.start.Process.FilterFlags
	}
	st := &stdio{child: [3]int{-1, -1, -1}, stdin: -1, stdout: -1, stderr: -1}
	var err error
	if !m.Process.Terminal {
		if st, err = newStdio(m.OpenStdin); err != nil {
			closeAll(fds)
			return wrap("make streams", err)
		}
	}
	s.loop.litter(execGarbage)
	j.chroot, j.clock, j.p, j.stdio, j.width, j.height = -1, -1, &m.Process, st, m.Width, m.Height
	err = s.fullness(thread.Run(j.run))
	st.closeChild()
	if err != nil {
		st.closeOurs()
		closeAll(fds)
		return err
	}
	return s.beganExec(m, j.child.Pid, j.child.PidFD, st, j.terminal, fds, reply, j.debug)
}

// beganExec takes over an exec that runs.
func (s *shim) beganExec(m *shimapi.Exec, pid, pidfd int, st *stdio, term *terminal, fds []int, reply *shimapi.Reply, d *debugging) error {
	p := &process{s: s, id: m.ID, pid: pid, pidfd: pidfd, record: append([]byte(nil), m.Record...)}
	if d != nil {
		p.session, p.owner = d.session, d.owner
	}
	s.execs = append(s.execs, p)
	if err := p.adopt(st, term, m.OpenStdin, true); err != nil {
		closeAll(fds)
		unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
		return wrap("watch process", err)
	}
	if len(m.Attach) == 1 {
		p.attach(&m.Attach[0], fds)
	}
	reply.Pid = p.pid
	return nil
}

// maxMissed bounds what is kept for a daemon that does not come back.
const maxMissed = 64

// missed keeps how an exec ended that no daemon knows of; the last ones.
func (s *shim) missed(p *process) {
	for _, c := range s.conns {
		if c.told {
			return
		}
	}
	if len(s.ended) == maxMissed {
		s.ended = s.ended[1:]
	}
	s.ended = append(s.ended, shimapi.Execed{ID: p.id, Record: p.record, Exit: p.exit})
}

// tellExecs lists the execs that run, and, once, those that ended unseen.
func (s *shim) tellExecs(c *conn, reply *shimapi.Reply) {
	c.told = true
	reply.Execs, s.ended = s.ended, nil
	for _, p := range s.execs {
		reply.Execs = append(reply.Execs, shimapi.Execed{ID: p.id, Pid: p.pid, Record: p.record})
	}
}

// joining is an exec's way into the container.
type joining struct {
	s             *shim
	p             *shimapi.Process
	path          string // of a hook, whose arguments need not begin with it; else empty
	stdio         *stdio
	width, height uint16
	terminal      *terminal
	child         *spawn.Child
	debug         *debugging // nil: an ordinary exec
	tasks         []int      // the container's control groups
	into          int
	clock         int // a time namespace to enter, or -1
	chroot        int // where the container's mount namespace is others', too, its root; else -1
}

func (j *joining) run() error {
	s := j.s
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return wrap("leave the shim's file system", err)
	}
	// Namespaces that are the host's are joined without effect.
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if err := unix.Setns(s.main.pidfd, all); err != nil {
		if err == unix.ESRCH {
			return errGone
		}
		return wrap("join namespaces", err)
	}
	if j.chroot >= 0 {
		if err := unix.Fchdir(j.chroot); err != nil {
			return wrap("enter the container's root", err)
		}
		if err := unix.Chroot("."); err != nil {
			return wrap("enter the container's root", err)
		}
	}
	if j.debug != nil {
		if err := j.debug.mount(s); err != nil {
			return err
		}
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open root", err)
	}
	defer unix.Close(root)
	if j.p.Terminal {
		if j.terminal, err = openTerminal(root); err != nil {
			return err
		}
		if j.width > 0 {
			if err := setSize(j.terminal.master, j.width, j.height); err != nil {
				j.terminal.close()
				return wrap("set terminal size", err)
			}
		}
		j.stdio.child = [3]int{j.terminal.slave, j.terminal.slave, j.terminal.slave}
		defer func() { j.stdio.child = [3]int{-1, -1, -1} }()
	}
	path := j.path
	if path == "" {
		path, err = findProgram(root, j.p)
	}
	if err == nil {
		err = ownStreams(j.stdio.child, j.stdio.stdin >= 0 || j.p.Terminal, hostID(s.start.UIDs, j.p.UID))
	}
	if err == nil {
		j.child, err = j.enter(root, path)
	}
	if err != nil && j.terminal != nil {
		j.terminal.close()
	}
	return err
}

// enter starts the program from where this thread is.
func (j *joining) enter(root int, path string) (*spawn.Child, error) {
	s := j.s
	p, launch := &spawn.Program{}, spawn.Start
	if j.clock >= 0 {
		var err error
		if p, err = spawn.Waiting(); err != nil {
			return nil, wrap("make process", err)
		}
		launch = spawn.StartApart
		p.Pause("wait outside")
		p.Do("join time namespace", unix.SYS_SETNS, spawn.Int(j.clock), spawn.Int(unix.CLONE_NEWTIME))
	}
	enterCgroup(p, j.tasks)
	// From inside the namespace nobody may be moved into it where namespaces are
	// delegation boundaries (the mount option nsdelegate of cgroup v2).
	p.Do("join cgroup namespace", unix.SYS_SETNS, spawn.Int(s.main.pidfd), spawn.Int(unix.CLONE_NEWCGROUP))
	p.Do("become session leader", unix.SYS_SETSID)
	setOOMScore(p, s.proc, j.p)
	if s.user >= 0 {
		raiseLimits(p, j.p)
		spawn.EnterUser(p, s.user)
	}
	// The descriptor of the root is the container's own: it leads nowhere else.
	setLabel(p, s.proc, j.p)
	finishProgram(p, root, j.p, j.stdio.child, execTarget{path: path, init: -1})
	return startBy(launch, p, spawn.Options{Cgroup: j.into}, root, j.p)
}
