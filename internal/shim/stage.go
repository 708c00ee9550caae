package shim

import (
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// stage is a container's first process before the user's program: it makes the
// container's file system in the namespaces that it was born into, waits for the
// start, and becomes the program. Everything happens on one locked thread, because
// identity and seccomp belong to a thread until exec.
type stage struct {
	isolation
	m      *shimapi.Stage
	ctl    int
	listen int
	path   string // of the program
	base   int    // what a detached root is attached to while it is made
}

// Stage runs a stage; its arguments name the descriptors of the creator's socket
// and of the one for the start. It returns an exit status if there is no exec.
func Stage(args []string) int {
	runtime.LockOSThread()
	if len(args) != 3 {
		return 125
	}
	st := &stage{}
	var err1, err2 error
	st.ctl, err1 = strconv.Atoi(args[1])
	st.listen, err2 = strconv.Atoi(args[2])
	if err1 != nil || err2 != nil {
		return 125
	}
	unix.CloseOnExec(st.ctl)
	unix.CloseOnExec(st.listen)
	// No ptrace by what the container's hooks or an exec run (CVE-2016-9962).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 125
	}
	if err := st.create(); err != nil {
		tell(st.ctl, err)
		return 125
	}
	conn, err := acceptStart(st.listen)
	if err != nil {
		return 125
	}
	err = st.begin()
	tell(conn, err)
	return 125
}

// tell sends a failure.
func tell(fd int, err error) {
	r := &shimapi.Reply{Code: shimapi.CodeFailed, Error: err.Error()}
	if f, ok := err.(*failure); ok {
		r.Code = f.code
	}
	sendFrame(fd, shimapi.TypeReply, r, -1)
}

func sendFrame(fd int, t shimapi.Type, m shimapi.Message, pass int) error {
	n := 0
	var oob []byte
	if pass >= 0 {
		n, oob = 1, unix.UnixRights(pass)
	}
	b := shimapi.AppendFrame(nil, t, 0, n, m)
	for len(b) > 0 {
		sent, err := unix.SendmsgN(fd, b, oob, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b, oob = b[sent:], nil
	}
	return nil
}

// receive reads one frame and its descriptors.
func receive(fd int) (shimapi.Header, []byte, []int, error) {
	var in []byte
	var fds []int
	oob := make([]byte, unix.CmsgSpace(shimapi.MaxFDs*4))
	buf := make([]byte, 32<<10)
	for {
		n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = errGone
		}
		if err != nil {
			return shimapi.Header{}, nil, nil, err
		}
		c := conn{}
		c.takeFDs(oob[:oobn])
		fds = append(fds, c.fds...)
		in = append(in, buf[:n]...)
		if len(in) < shimapi.HeaderSize {
			continue
		}
		h, ok := shimapi.ParseHeader(in)
		if !ok {
			return h, nil, nil, shimapi.ErrMalformed
		}
		if end := shimapi.HeaderSize + int(h.Length); len(in) >= end && len(fds) >= int(h.FDs) {
			return h, in[shimapi.HeaderSize:end], fds, nil
		}
	}
}

func acceptStart(fd int) (int, error) {
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != unix.EINTR && err != unix.ECONNABORTED {
			return conn, err
		}
	}
}

// create makes the container and says so.
func (st *stage) create() error {
	h, payload, fds, err := receive(st.ctl)
	if err != nil || h.Type != shimapi.TypeStage {
		return wrap("read what to create", shimapi.ErrMalformed)
	}
	st.m = &shimapi.Stage{}
	if err := shimapi.Decode(payload, st.m); err != nil {
		return err
	}
	st.isolation = isolation{s: &shim{}, m: &st.m.Start, old: -1, root: -1, null: -1, spare: -1, ready: -1, user: -1, inside: true}
	if st.s.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return wrap("open /proc", err)
	}
	if err := st.passTrees(fds); err != nil {
		return err
	}
	root := st.mountRoot
	if st.m.Remapped || st.m.Detached {
		root = st.takeRoot
	}
	steps := []func() error{
		root, st.mountAll, st.populateDev, st.makeCwd, st.setKernel, st.finishMounts, st.hooks, st.pivot, st.prepare,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	pass := -1
	if st.terminal != nil {
		pass = st.terminal.master
	}
	// While it waits for its start nothing of the host's is within reach.
	closeOpen(st.old, st.null)
	st.old, st.null = -1, -1
	if err := sendFrame(st.ctl, shimapi.TypeCreated, &shimapi.Empty{}, pass); err != nil {
		return err
	}
	if pass >= 0 {
		unix.Close(pass)
	}
	return unix.Close(st.ctl)
}

func (st *stage) mountAll() error {
	unix.Umask(0)
	for n := range st.m.Start.Mounts {
		if err := st.mountOne(n); err != nil {
			return err
		}
	}
	return nil
}

// finishMounts makes what a shim leaves to its child: this is the child already.
func (st *stage) finishMounts() error {
	p := &spawn.Program{}
	for n := range st.late {
		if err := st.mountLate(p, &st.late[n]); err != nil {
			return err
		}
	}
	if err := here(p); err != nil {
		return err
	}
	if st.m.Detached {
		if err := st.sealRoot(); err != nil {
			return err
		}
	}
	return nil
}

// hooks lets the creator run its hooks, and runs those of the container's namespaces.
func (st *stage) hooks() error {
	if err := sendFrame(st.ctl, shimapi.TypeHooks, &shimapi.Empty{}, -1); err != nil {
		return wrap("ask for hooks", err)
	}
	if h, _, _, err := receive(st.ctl); err != nil || h.Type != shimapi.TypeHooks {
		return &failure{code: codeOther, text: "the creator has gone"}
	}
	return st.runHooks("createContainer", st.m.Start.Hooks.CreateContainer, "creating", beside(""))
}

// pivot masks paths and makes the container's root "/".
func (st *stage) pivot() error {
	if st.m.Start.ReadonlyRoot { // not before: hooks may change it
		if err := setReadonly(st.root); err != nil {
			return wrap("make root read-only", err)
		}
	}
	p := &spawn.Program{}
	if err := st.hide(p); err != nil {
		return err
	}
	if st.m.Detached {
		if err := here(p); err != nil {
			return err
		}
		return st.changeRoot()
	}
	here1 := p.String(".")
	empty, slash := p.String(""), p.String("/")
	p.Do("change to root file system", unix.SYS_FCHDIR, spawn.Int(st.root))
	if st.m.NoPivot {
		p.Do("move root", unix.SYS_MOUNT, here1, slash, empty, spawn.Int(unix.MS_MOVE), spawn.Int(0))
		p.Do("change root", unix.SYS_CHROOT, here1)
	} else {
		p.Do("pivot root", unix.SYS_PIVOT_ROOT, here1, here1)
		p.Do("change to old root", unix.SYS_FCHDIR, spawn.Int(st.old))
		p.Do("make old root a slave", unix.SYS_MOUNT, empty, here1, empty, spawn.Int(unix.MS_SLAVE|unix.MS_REC), spawn.Int(0))
		p.Do("leave old root", unix.SYS_UMOUNT2, here1, spawn.Int(unix.MNT_DETACH))
	}
	if v := st.m.Start.RootPropagation; v != 0 {
		p.Do("set propagation of root", unix.SYS_MOUNT, empty, slash, empty, spawn.Int(v), spawn.Int(0))
	}
	p.Do("change directory", unix.SYS_CHDIR, slash)
	return here(p)
}

// prepare finds the program: a creation fails where it is not there.
func (st *stage) prepare() (err error) {
	m := &st.m.Start.Process
	child := [3]int{0, 1, 2}
	if st.terminal != nil {
		child = [3]int{st.terminal.slave, st.terminal.slave, st.terminal.slave}
	}
	st.stdio = &stdio{child: child, stdin: -1, stdout: -1, stderr: -1}
	if err := ownStreams(child, true, m.UID); err != nil {
		return err
	}
	if st.terminal != nil && st.m.Start.Width > 0 {
		if err := setSize(st.terminal.master, st.m.Start.Width, st.m.Start.Height); err != nil {
			return wrap("set terminal size", err)
		}
	}
	if st.path, err = findProgram(st.root, m); err != nil {
		return err
	}
	// Relative to the working directory, which the program's path is relative to.
	file := st.path
	if file[0] != '/' {
		file = m.Cwd + "/" + file
	}
	info, err := statIn(st.root, file)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == nil && (info.Mode&unix.S_IFMT == unix.S_IFDIR || info.Mode&0o111 == 0) {
		if err == nil {
			err = unix.EACCES
		}
		return execFailure(st.root, m, err.(unix.Errno))
	}
	return nil
}

// begin becomes the program; it returns an error or not at all.
func (st *stage) begin() error {
	m := &st.m.Start.Process
	if err := st.runHooks("startContainer", st.m.Start.Hooks.StartContainer, "created", st.confined); err != nil {
		return err
	}
	p := &spawn.Program{}
	p.Do("become session leader", unix.SYS_SETSID).Optional() // the creator's side has made it one
	setOOMScore(p, st.s.proc, m)
	setLabel(p, st.s.proc, m)
	finishProgram(p, st.root, m, st.stdio.child, execTarget{path: st.path, init: -1})
	err := spawn.Here(p)
	e, ok := err.(*spawn.Error)
	if !ok {
		return err
	}
	switch {
	case e.Exec:
		return execFailure(st.root, m, e.Errno)
	case e.What == "change to working directory", e.What == "open working directory":
		return cwdFailure(m.Cwd, e.Errno)
	}
	return &failure{code: codeOther, text: e.Error()}
}

func (st *stage) runHooks(kind string, hooks []shimapi.Hook, status string, launch launcher) error {
	return runHooks(kind, hooks, hookState(&st.m.Start.Hooks, status, unix.Getpid()), launch)
}

// confined starts a hook that lies in the container, where whoever made the image has put
// it: it may do what the container's own process may.
func (st *stage) confined(h *shimapi.Hook, stdio [3]int) (*spawn.Child, error) {
	m := asHook(&st.m.Start.Process, h)
	p := &spawn.Program{}
	p.Do("become session leader", unix.SYS_SETSID)
	setOOMScore(p, st.s.proc, m)
	setLabel(p, st.s.proc, m)
	finishProgram(p, st.root, m, stdio, execTarget{path: h.Path, init: -1})
	return spawn.Start(p, spawn.Options{Cgroup: -1})
}

// here runs a list in this thread.
func here(p *spawn.Program) error {
	if p.Len() == 0 && p.Err() == nil {
		return nil
	}
	if err := spawn.Here(p); err != nil {
		return &failure{code: codeOther, text: err.Error()}
	}
	return nil
}

// passTrees gives each passed mount its tree.
func (st *stage) passTrees(fds []int) error {
	for _, all := range [][]shimapi.Mount{st.m.Start.Rootfs, st.m.Start.Mounts} {
		for n := range all {
			if !all[n].Passed {
				continue
			}
			if len(fds) == 0 {
				return shimapi.ErrMalformed
			}
			all[n].Tree = fds[0]
			fds = fds[1:]
		}
	}
	if len(fds) > 0 {
		return shimapi.ErrMalformed
	}
	return nil
}
