package shim

import (
	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/linux/thread"
	"muelle/internal/shimapi"
)

// startOutside lets another OCI runtime make the container and start it. Its
// processes become the shim's own when the runtime's command ends, because the shim
// is their nearest subreaper. The root file system is mounted in a mount namespace
// of the calling thread, from which the container's is a copy: the host never sees it.
func (s *shim) startOutside(t *taken, st *stdio) error {
	m := s.start
	s.outside = true
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return wrap("become subreaper", err)
	}
	sock, err := consoleSocket(m.Outside.Create.Console)
	if err != nil {
		return err
	}
	defer closeOpen(sock)
	ready := [2]int{-1, -1}
	if m.Init {
		if ready[0], ready[1], err = pipe(); err != nil {
			return wrap("make pipe", err)
		}
		defer unix.Close(ready[0])
	}
	err = thread.Run(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return wrap("make mount namespace", err)
		}
		iso := &isolation{s: s, m: m, old: -1, root: -1, null: -1, spare: -1, ready: -1, user: -1}
		defer iso.release()
		if err := iso.mountRoot(); err != nil {
			return err
		}
		if err := iso.presentParts(); err != nil {
			return err
		}
		if err := ownStreams(st.child, m.OpenStdin, m.Process.UID); err != nil && !m.Process.Terminal {
			return err
		}
		return run(&m.Outside.Create, st.child, ready[1])
	})
	st.closeChild()
	closeOpen(ready[1])
	if err != nil {
		return err
	}
	pid, pidfd, err := created(&m.Outside.Create)
	if err != nil {
		return err
	}
	s.main = &process{s: s, pid: pid, pidfd: pidfd}
	var term *terminal
	if sock >= 0 {
		term, err = receiveTerminal(sock)
	}
	if err == nil {
		err = thread.Run(func() error { return run(&m.Outside.Start, [3]int{-1, -1, -1}, -1) })
	}
	if err == nil && ready[0] >= 0 {
		awaitInit(ready[0])
	}
	if err == nil {
		err = s.settleStart(t, st, term)
	}
	if err != nil {
		unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	}
	return err
}

// presentParts mounts what another runtime could not find by a path, parts of
// folders, where the bundle's document says: in this thread's mount namespace alone.
func (i *isolation) presentParts() error {
	for n := range i.m.Mounts {
		m := &i.m.Mounts[n]
		tree, isDir, err := i.sourceTree(n)
		if err != nil {
			return wrap("mount "+quote(m.Source), err)
		}
		defer unix.Close(tree)
		if isDir {
			err = unix.Mkdir(m.Destination, 0o700)
		} else {
			err = unix.Mknod(m.Destination, unix.S_IFREG|0o600, 0)
		}
		if err == nil || err == unix.EEXIST {
			err = unix.MoveMount(tree, "", unix.AT_FDCWD, m.Destination, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		if err != nil {
			return wrap("mount "+quote(m.Source), err)
		}
	}
	return nil
}

// outsideExec is an exec that another runtime is about to start.
type outsideExec struct {
	s     *shim
	c     *conn
	seq   uint32
	m     *shimapi.Exec
	fds   []int
	st    *stdio
	sock  int
	child *spawn.Child
}

// execOutside begins an exec; the loop goes on meanwhile.
func (s *shim) execOutside(c *conn, seq uint32, m *shimapi.Exec, fds []int) error {
	s.loop.litter(execGarbage)
	e := &outsideExec{s: s, c: c, seq: seq, m: m, fds: fds, st: &stdio{child: [3]int{-1, -1, -1}, stdin: -1, stdout: -1, stderr: -1}}
	var err error
	if !m.Process.Terminal {
		if e.st, err = newStdio(m.OpenStdin); err != nil {
			closeAll(fds)
			return wrap("make streams", err)
		}
	}
	if e.sock, err = consoleSocket(m.Outside.Console); err == nil && !m.Process.Terminal {
		err = ownStreams(e.st.child, m.OpenStdin, m.Process.UID)
	}
	if err == nil {
		e.child, err = call(&m.Outside, e.st.child, -1)
	}
	e.st.closeChild()
	if err == nil {
		err = s.loop.watch(e.child.PidFD, unix.EPOLLIN, e)
	}
	if err != nil {
		closeOpen(e.sock)
		e.st.closeOurs()
		closeAll(fds)
		return err
	}
	m.Record = append([]byte(nil), m.Record...) // it lies where the next event is read to
	s.pending++
	return nil
}

// ready: the runtime's command has ended.
func (e *outsideExec) ready(uint32) {
	e.s.loop.close(e.child.PidFD)
	e.s.pending--
	reply := &shimapi.Reply{}
	if err := e.begin(reply); err != nil {
		reply.Code, reply.Error = shimapi.CodeFailed, err.Error()
		if f, ok := err.(*failure); ok {
			reply.Code = f.code
		}
	}
	closeOpen(e.sock)
	if e.c.fd >= 0 {
		e.c.send(shimapi.TypeReply, e.seq, reply, nil)
	}
	e.s.reapOrphans()
}

func (e *outsideExec) begin(reply *shimapi.Reply) error {
	err := outcome(&e.m.Outside, e.child.Pid, 0)
	var pid, pidfd int
	if err == nil {
		pid, pidfd, err = created(&e.m.Outside)
	}
	var term *terminal
	if err == nil && e.sock >= 0 {
		term, err = receiveTerminal(e.sock)
	}
	if err != nil {
		e.st.closeOurs()
		closeAll(e.fds)
		return err
	}
	if term != nil && e.m.Width > 0 {
		if err := setSize(term.master, e.m.Width, e.m.Height); err != nil {
			return wrap("set terminal size", err)
		}
	}
	return e.s.beganExec(e.m, pid, pidfd, e.st, term, e.fds, reply, nil)
}

// reapOrphans takes what processes of another runtime have left, which comes to the
// shim as their subreaper. While an exec begins nothing is taken: it could be that.
func (s *shim) reapOrphans() {
	if !s.outside {
		return
	}
	for s.pending == 0 {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for _, p := range append([]*process{s.main}, s.execs...) {
			if p.pid == pid && !p.ended {
				p.over(status)
				break
			}
		}
	}
}
