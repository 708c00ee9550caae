package shim

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/shimapi"
)

// debugging is what makes an exec a debug session.
type debugging struct {
	tree    int // the tools, attached nowhere
	at      string
	target  string // in the tree, which becomes the root; or empty
	owner   *conn
	session uint64 // the inode number of its mount namespace
}

// debug starts a process beside the container's with tools that only it can see.
func (s *shim) debug(c *conn, payload []byte, fds []int, reply *shimapi.Reply) error {
	m := &shimapi.Debug{}
	err := decode(payload, m)
	own := 1 + m.Tasks
	if m.Into {
		own++
	}
	if err == nil && (m.Tasks < 0 || len(fds) < own) {
		err = unix.EBADF
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	own = len(fds) - own
	defer closeAll(fds[own:])
	d := &debugging{at: m.At, target: m.Target, owner: c, tree: fds[len(fds)-1]}
	j := &joining{s: s, tasks: s.tasks, into: s.into, debug: d}
	if s.outside {
		j.tasks = fds[own : own+m.Tasks]
		if m.Into {
			j.into = fds[own+m.Tasks]
		}
	}
	fds = fds[:own]
	if err = s.mayExec(&m.Exec, fds); err == nil {
		err = s.mayEnter(&m.Exec)
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	return s.execOwn(&m.Exec, fds, reply, j)
}

// mayEnter refuses what only the runtime that made the container knows.
func (s *shim) mayEnter(m *shimapi.Exec) error {
	if !s.outside {
		return nil
	}
	if !m.Unconfined {
		return &failure{code: shimapi.CodeFailed, text: "the seccomp filter of a container that another OCI runtime runs is not known: debug it with --privileged"}
	}
	var own, its unix.Stat_t
	if err := unix.Fstatat(s.proc, "self/ns/user", &own, 0); err != nil {
		return wrap("look at user namespace", err)
	}
	if err := unix.Fstatat(s.proc, strconv.Itoa(s.main.pid)+"/ns/user", &its, 0); err != nil {
		return wrap("look at the container's user namespace", err)
	}
	if own.Ino != its.Ino {
		return &failure{code: shimapi.CodeFailed, text: "a container in a user namespace that another OCI runtime made cannot be entered"}
	}
	return nil
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
	whole := -1
	if d.target != "" {
		var err error
		if whole, err = unix.OpenTree(unix.AT_FDCWD, "/", cloneTree); err != nil {
			return wrap("copy the container's mounts", err)
		}
		defer unix.Close(whole)
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
	if whole >= 0 {
		if err := d.pivot(whole); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstatat(s.proc, "thread-self/ns/mnt", &st, 0); err != nil {
		return wrap("identify the session", err)
	}
	d.session = st.Ino
	return nil
}

const cloneTree = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE

// pivot makes the tools the root directory, with the container's files at the target and
// its kernel file systems and names of hosts in their usual places.
func (d *debugging) pivot(whole int) error {
	for _, name := range []string{"/proc", "/dev", "/sys", "/etc/hosts", "/etc/resolv.conf"} {
		// What the container does not have, or has made a link of, is left out; so is what
		// the tools have no place for.
		from, err := openIn(unix.AT_FDCWD, name, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			continue
		}
		tree, err := unix.OpenTree(from, "", cloneTree|unix.AT_EMPTY_PATH)
		unix.Close(from)
		if err != nil {
			return wrap("copy "+name, err)
		}
		err = d.attach(tree, name)
		unix.Close(tree)
		if err != nil && (err != unix.ENOENT || !strings.HasPrefix(name, "/etc/")) {
			return wrap("mount "+name+" beside the tools", err)
		}
	}
	if err := d.attach(whole, d.target); err != nil {
		return wrap("mount the container's files at "+d.target, err)
	}
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return wrap("open the container's root", err)
	}
	defer unix.Close(old)
	if err = unix.Fchdir(d.tree); err == nil {
		err = unix.PivotRoot(".", ".")
	}
	if err == nil {
		err = unix.Fchdir(old)
	}
	if err == nil {
		err = unix.Unmount(".", unix.MNT_DETACH)
	}
	if err == nil {
		err = unix.Chdir("/")
	}
	if err != nil {
		return wrap("make the tools the root directory", err)
	}
	return nil
}

// attach mounts a tree on a file or directory of the tools.
func (d *debugging) attach(tree int, name string) error {
	at, err := openIn(d.tree, name, unix.O_PATH, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return err
	}
	defer unix.Close(at)
	return unix.MoveMount(tree, "", at, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// endIdle ends a container that is there for a session only.
func (s *shim) endIdle() {
	if s.start != nil && s.start.Idle && s.main != nil && !s.main.ended {
		unix.PidfdSendSignal(s.main.pidfd, unix.SIGKILL, nil, 0)
	}
}

// endSessionsOf ends the sessions that a connection asked for: its daemon is gone.
func (s *shim) endSessionsOf(c *conn) {
	for _, p := range s.execs {
		if p.owner == c && !p.ended {
			unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
		}
	}
	s.endIdle()
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
