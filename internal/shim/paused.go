package shim

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/linux/thread"
	"muelle/internal/shimapi"
)

// paused is a container's first process that waits for hooks: its namespaces and its
// file system are there, but its root is the host's still.
type paused struct {
	s     *shim
	m     *shimapi.Start
	child *spawn.Paused
	user  int // the container's user namespace, or -1
	tasks []int
	into  int
	root  int // to say what the program lacks
	ready int // see isolation
}

// pauseForHooks is the place in the child's list where hooks of the creation run. They
// may change the root file system: only then it becomes read-only.
func (i *isolation) pauseForHooks(p *spawn.Program) error {
	if !i.m.Hooks.Before() {
		return nil
	}
	p.Pause("wait for hooks")
	if !i.m.ReadonlyRoot {
		return nil
	}
	return readonlyLate(p, i.root)
}

// showBundle gives hooks that run as a user namespace's root a way to their bundle and the
// root file system: a file system in memory covers the first folder on it that only its
// owner may enter, in this mount namespace. What else lies there has been opened before.
func (i *isolation) showBundle() error {
	dir := i.m.Hooks.Dir
	fd, err := unix.Openat(i.s.dir, shimapi.BundleFile, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	document, err := readAll(fd)
	if err != nil {
		return err
	}
	closed := ""
	for end := range i.m.Root {
		if i.m.Root[end] != '/' || end == 0 {
			continue
		}
		at := i.m.Root[:end]
		if closed != "" {
			if err := unix.Mkdir(at, 0o755); err != nil {
				return err
			}
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			return err
		}
		if st.Mode&0o001 == 0 {
			closed = at
			if err := mountAt(&shimapi.Mount{Type: "tmpfs", Source: "hooks", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, Options: []string{"mode=755"}}, at); err != nil {
				return err
			}
		}
	}
	if closed == "" {
		return nil // everybody may enter it
	}
	if err := unix.Mkdir(i.m.Root, 0o755); err != nil {
		return err
	}
	out, err := unix.Open(dir+"/"+shimapi.BundleFile, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	if n, err := unix.Write(out, document); err != nil || n < len(document) {
		return unix.ENOSPC
	}
	return nil
}

// pause starts the child and lets it come to its first pause.
func (i *isolation) pause(p *spawn.Program, o spawn.Options) error {
	if p.Err() != nil {
		_, err := start(p, o, i.root, &i.m.Process)
		return err
	}
	child, err := spawn.Begin(p, o)
	if err != nil {
		return startFailure(err, i.root, &i.m.Process)
	}
	i.child = &child.Child
	i.paused = &paused{s: i.s, m: i.m, child: child, user: i.user, tasks: i.tasks, into: i.into, root: i.root, ready: i.ready}
	i.root, i.ready = -1, -1 // not ours to close any more
	return nil
}

// run runs the hooks, and lets the child go on to its program. It is not called where
// the isolation was made: the thread is one of the shim's own again.
func (w *paused) run() error {
	defer closeOpen(w.root, w.ready)
	h := &w.m.Hooks
	if err := w.create(h); err != nil {
		w.child.Kill()
		return err
	}
	if err := w.child.Resume(); err != nil {
		return startFailure(err, w.root, &w.m.Process)
	}
	if len(h.StartContainer) > 0 {
		inside, err := w.inside()
		if err == nil {
			err = runHooks("startContainer", h.StartContainer, hookState(h, "created", inside), w.within(&w.m.Process))
		}
		if err != nil {
			w.child.Kill()
			return err
		}
		if err := w.child.Resume(); err != nil {
			return startFailure(err, w.root, &w.m.Process)
		}
	}
	if w.ready >= 0 {
		awaitInit(w.ready)
	}
	return nil
}

// create runs the hooks of the creation.
func (w *paused) create(h *shimapi.Hooks) error {
	state := hookState(h, "creating", w.child.Pid)
	if err := runHooks("prestart", h.Prestart, state, beside(h.Dir)); err != nil {
		return err
	}
	if err := runHooks("createRuntime", h.CreateRuntime, state, beside(h.Dir)); err != nil {
		return err
	}
	if len(h.CreateContainer) == 0 {
		return nil
	}
	inside, err := w.inside()
	if err != nil {
		return err
	}
	all, err := ownCapabilities()
	if err != nil {
		return err
	}
	root := &shimapi.Process{Umask: -1, Bounding: ^uint64(0), Effective: all, Permitted: all}
	return runHooks("createContainer", h.CreateContainer, hookState(h, "creating", inside), w.within(root))
}

// within starts a hook in the container's namespaces and control group, as a process
// that may do what the given one may.
func (w *paused) within(as *shimapi.Process) launcher {
	return func(h *shimapi.Hook, fds [3]int) (*spawn.Child, error) {
		s := &shim{proc: w.s.proc, into: -1, user: w.user, main: &process{pidfd: w.child.PidFD}, start: &shimapi.Start{UIDs: w.m.UIDs}}
		j := &joining{s: s, chroot: -1, clock: -1, tasks: w.tasks, into: w.into, p: asHook(as, h), path: h.Path, stdio: &stdio{child: fds, stdin: -1, stdout: -1, stderr: -1}}
		err := thread.Run(j.run)
		return j.child, err
	}
}

// asHook is a process that is a hook.
func asHook(as *shimapi.Process, h *shimapi.Hook) *shimapi.Process {
	m := *as
	m.Args, m.Env, m.Cwd, m.Terminal = hookArgs(h), h.Env, "/", false
	return &m
}

// hookState is the document that hooks read.
func hookState(h *shimapi.Hooks, status string, pid int) []byte {
	b := append([]byte(nil), h.State...)
	return append(b, `,"status":"`+status+`","pid":`+strconv.Itoa(pid)+"}"...)
}

// inside is the first process's number as the container counts.
func (w *paused) inside() (int, error) {
	fd, err := unix.Openat(w.s.proc, strconv.Itoa(w.child.Pid)+"/status", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, wrap("look at the container's first process", err)
	}
	defer unix.Close(fd)
	data, err := readAll(fd)
	if err != nil {
		return 0, wrap("look at the container's first process", err)
	}
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		if list, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok {
			numbers := bytes.Fields(list)
			return strconv.Atoi(string(numbers[len(numbers)-1]))
		}
	}
	return 0, &failure{code: codeOther, text: "the kernel does not tell the container's process numbers"}
}

// ownCapabilities are what the shim may: no hook gets more.
func ownCapabilities() (uint64, error) {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return 0, wrap("read capabilities", err)
	}
	return uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted), nil
}
