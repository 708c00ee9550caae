package shim

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// debugging is what makes an exec a debug session.
type debugging struct {
	tree    int // the tools, attached nowhere
	at      string
	owner   *conn
	session uint64 // the inode number of its mount namespace
}

// debug starts a process beside the container's with tools that only it can see.
func (s *shim) debug(c *conn, payload []byte, fds []int, reply *shimapi.Reply) error {
	m := &shimapi.Debug{}
	err := decode(payload, m)
	if err == nil && len(fds) == 0 {
		err = unix.EBADF
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	last := len(fds) - 1
	d := &debugging{tree: fds[last], at: m.At, owner: c}
	defer unix.Close(d.tree)
	fds = fds[:last]
	err = s.mayExec(&m.Exec, fds)
	if err == nil && m.Exec.Outside.Path != "" {
		err = &failure{code: shimapi.CodeFailed, text: "debug of a container that another OCI runtime runs is not supported"}
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	return s.execOwn(&m.Exec, fds, reply, d)
}

// mount gives the thread, which has joined the container and shares nothing with others,
// a copy of the container's mounts and mounts the tools in it. No mount event leaves it.
func (d *debugging) mount(s *shim) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return wrap("copy the container's mounts", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return wrap("copy the container's mounts", err)
	}
	// The container decides what stands there: a link would lead elsewhere.
	target, err := openIn(unix.AT_FDCWD, d.at, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return wrap("mount the tools at "+d.at, err)
	}
	defer unix.Close(target)
	if err := unix.MoveMount(d.tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return wrap("mount the tools at "+d.at, err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(s.proc, "thread-self/ns/mnt", &st, 0); err != nil {
		return wrap("identify the session", err)
	}
	d.session = st.Ino
	return nil
}

// endSessionsOf ends the sessions that a connection asked for: its daemon is gone.
func (s *shim) endSessionsOf(c *conn) {
	for _, p := range s.execs {
		if p.owner == c && !p.ended {
			unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
		}
	}
}

// endSession kills what a debug session left behind: every process of the container
// with the session's mounts. They may fork meanwhile.
func (s *shim) endSession(session uint64) {
	for range 16 {
		found := false
		for _, pid := range s.processes() {
			var st unix.Stat_t
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				continue
			}
			// Looked at after the descriptor was opened: the number is still its own.
			if unix.Fstatat(s.proc, strconv.Itoa(pid)+"/ns/mnt", &st, 0) == nil && st.Ino == session {
				found = true
				unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			}
			unix.Close(fd)
		}
		if !found {
			return
		}
	}
}

// processes lists the container's cgroup.
func (s *shim) processes() (pids []int) {
	fd, err := unix.Open(s.start.ProcsFile, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var all []byte
	b := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, b)
		if err != nil || n <= 0 {
			break
		}
		all = append(all, b[:n]...)
	}
	for _, line := range bytes.Fields(all) {
		if pid, err := strconv.Atoi(string(line)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
