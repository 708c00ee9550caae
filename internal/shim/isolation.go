package shim

import (
	"strings"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// isolation makes one container's namespaces and file system on the thread that
// runs it, and then starts the process from there.
//
// The thread enters every namespace that a thread can enter and mounts everything
// that does not depend on the pid namespace; the child, born into that, does the
// rest: proc and what lies below it, masked paths, pivot_root. A user namespace
// cannot be entered by a thread of many: where there is one, a child makes the
// namespaces that are to belong to it and hands them back, the thread acts in the
// name of its root (see user.go), and the process itself is a child of a child that
// has entered it.
type isolation struct {
	s      *shim
	m      *shimapi.Start
	joined []int
	idmaps []int
	tasks  []int
	into   int
	stdio  *stdio
	inside bool // this process is in the pid namespace already: nothing is put off

	user   int // the user namespace, or -1
	layers []*layers
	trees  []int // binds, opened before the namespaces are entered; nil without a user namespace

	old      int // O_PATH descriptor of the old root, or -1
	root     int // and of the new one
	null     int // the host's null device, or -1
	spare    int // a number that the child may use for a descriptor, or -1
	ready    int // ends when the container's init takes signals, or -1
	late     []late
	terminal *terminal
	child    *spawn.Child
	paused   *paused // the child waits for hooks, or nil
}

// late is a mount that only the child can make or attach: proc, and what lies
// below it.
type late struct {
	shimapi.Mount
	tree int // a bind's detached tree, or -1
}

func (i *isolation) run() error {
	defer i.release()
	if err := i.openMapped(); err != nil {
		return err
	}
	if err := i.enter(); err != nil {
		return err
	}
	unix.Umask(0) // of this thread alone, since unshare
	if err := i.mountRoot(); err != nil {
		return err
	}
	for n := range i.m.Mounts {
		if err := i.mountOne(n); err != nil {
			return err
		}
	}
	if err := i.populateDev(); err != nil {
		return err
	}
	if err := i.makeCwd(); err != nil {
		return err
	}
	if err := i.setKernel(); err != nil {
		return err
	}
	if i.m.ReadonlyRoot && !i.m.Hooks.Before() {
		if err := setReadonly(i.root); err != nil {
			return wrap("make root read-only", err)
		}
	}
	if err := i.s.holdMounts(); err != nil {
		return err
	}
	if err := i.startProcess(); err != nil {
		return err
	}
	if i.ready >= 0 && i.paused == nil {
		awaitInit(i.ready)
	}
	return nil
}

// release closes what would keep the container's file systems busy.
func (i *isolation) release() {
	closeOpen(i.old, i.root, i.null, i.spare, i.ready)
	for n := range i.late {
		closeOpen(i.late[n].tree)
	}
	closeOpen(i.trees...)
	for _, l := range i.layers {
		closeOpen(l.lowerTree, l.upperTree)
	}
}

// enter joins and makes namespaces. The mount namespace comes first among the new
// ones, because nothing that follows may be seen by the host.
func (i *isolation) enter() error {
	var flags int
	for _, ns := range i.m.Namespaces {
		if !ns.Joined && ns.Flag != unix.CLONE_NEWPID && ns.Flag != unix.CLONE_NEWCGROUP {
			flags |= int(ns.Flag)
		}
	}
	if flags&unix.CLONE_NEWNS == 0 {
		return &failure{code: 128, text: "a container needs a mount namespace of its own"}
	}
	if i.user >= 0 {
		if err := i.makeOwned(flags); err != nil {
			return err
		}
	} else if err := unix.Unshare(flags); err != nil {
		return wrap("make namespaces", err)
	}
	for n, ns := range i.m.Namespaces {
		if !ns.Joined || ns.Flag == unix.CLONE_NEWUSER {
			continue
		}
		if err := unix.Setns(i.joined[n], int(ns.Flag)); err != nil {
			return wrap("join namespace", err)
		}
	}
	if i.user >= 0 {
		return i.becomeRoot()
	}
	return nil
}

// makes tells whether a namespace of the kind is to be made.
func (i *isolation) makes(flag uint64) bool {
	for _, ns := range i.m.Namespaces {
		if ns.Flag == flag {
			return !ns.Joined
		}
	}
	return false
}

// mountRoot mounts the root file system, seen by nobody else.
func (i *isolation) mountRoot() error {
	// Nothing made here may reach the host, whose mounts systemd shares. Only where the
	// root is to be shared, binds must stay what they are there: then what the root
	// file system is mounted on must not be shared, which pivot_root wants too.
	propagation := uintptr(unix.MS_SLAVE | unix.MS_REC)
	shared := i.m.RootPropagation&unix.MS_SHARED != 0
	if shared {
		propagation = uintptr(i.m.RootPropagation)
	}
	if err := unix.Mount("", "/", "", propagation, ""); err != nil {
		return wrap("set propagation of /", err)
	}
	dir := i.m.Root
	if i.user >= 0 && len(i.m.Hooks.CreateContainer) > 0 {
		if err := i.showBundle(); err != nil {
			return wrap("make the hooks' bundle", err)
		}
	}
	if shared {
		// A mount already, where another engine has made it; otherwise there is none.
		if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil && err != unix.EINVAL {
			return wrap("make root file system private", err)
		}
		if err := makeParentPrivate(dir); err != nil {
			return err
		}
	}
	for n := range i.m.Rootfs {
		mount := mountAt
		if i.m.Rootfs[n].IDMap > 0 {
			mount = i.mountMapped
		}
		if err := mount(&i.m.Rootfs[n], dir); err != nil {
			return wrap("mount root file system", err)
		}
	}
	if shared { // so may be a bind that is the root
		if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
			return wrap("make root file system private", err)
		}
	}
	var err error
	if i.root, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return wrap("open root file system", err)
	}
	if i.old, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return wrap("open old root", err)
	}
	return nil
}

// makeParentPrivate finds the mount point that dir lies on: the longest directory
// above it that can be changed.
func makeParentPrivate(dir string) error {
	for {
		n := strings.LastIndexByte(dir, '/')
		if n < 0 {
			return &failure{code: 128, text: "no mount above the root file system"}
		}
		dir = dir[:n]
		at := dir
		if at == "" {
			at = "/"
		}
		err := unix.Mount("", at, "", unix.MS_PRIVATE, "")
		if err == nil {
			return nil
		}
		if err != unix.EINVAL || at == "/" {
			return wrap("make parent mount private", err)
		}
	}
}

// setKernel sets names and kernel parameters of the new namespaces. The host's
// /proc is used, which the image cannot have prepared (CVE-2025-52881).
func (i *isolation) setKernel() error {
	if i.m.Hostname != "" {
		if err := unix.Sethostname([]byte(i.m.Hostname)); err != nil {
			return wrap("set hostname", err)
		}
	}
	if i.m.Domainname != "" {
		if err := unix.Setdomainname([]byte(i.m.Domainname)); err != nil {
			return wrap("set domain name", err)
		}
	}
	for _, c := range i.m.Sysctls {
		fd, err := unix.Openat(i.s.proc, "sys/"+c.Path, unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return wrap("open sysctl "+c.Path, err)
		}
		_, err = unix.Write(fd, []byte(c.Value))
		unix.Close(fd)
		if err != nil {
			return wrap("write sysctl "+c.Path, err)
		}
	}
	return nil
}

// makeCwd makes the working directory where the image has none, as Docker does.
func (i *isolation) makeCwd() error {
	cwd := i.m.Process.Cwd
	if cwd == "" || cwd == "/" || i.isLate(cwd) {
		return nil
	}
	fd, err := i.create(cwd, true)
	if err != nil {
		// A file in the way is told by the child, in the words of exec.
		return nil
	}
	return unix.Close(fd)
}

// startProcess builds the child's list and runs it.
func (i *isolation) startProcess() error {
	m := i.m
	p := &spawn.Program{}
	if m.Hooks.Before() {
		var err error
		if p, err = spawn.Waiting(); err != nil {
			return wrap("prepare for hooks", err)
		}
	}
	enterCgroup(p, i.tasks)
	flags := uint64(unix.CLONE_NEWPID)
	if !i.makes(unix.CLONE_NEWPID) {
		flags = 0
	}
	setOOMScore(p, i.s.proc, &m.Process)
	if i.user >= 0 {
		raiseLimits(p, &m.Process)
		spawn.EnterUser(p, i.user)
		if flags != 0 {
			// In a joined pid namespace the first child is born already.
			p.Fork("make pid namespace", flags)
			flags = 0
		}
	}
	if i.makes(unix.CLONE_NEWCGROUP) {
		p.Do("make cgroup namespace", unix.SYS_UNSHARE, spawn.Int(unix.CLONE_NEWCGROUP))
	}
	p.Do("become session leader", unix.SYS_SETSID)
	for n := range i.late {
		if err := i.mountLate(p, &i.late[n]); err != nil {
			return err
		}
	}
	if err := i.pauseForHooks(p); err != nil {
		return err
	}
	if err := i.hide(p); err != nil {
		return err
	}
	here := p.String(".")
	p.Do("change to root file system", unix.SYS_FCHDIR, spawn.Int(i.root))
	p.Do("pivot root", unix.SYS_PIVOT_ROOT, here, here)
	// Or else the host would lose what is mounted below its shared mounts.
	p.Do("change to old root", unix.SYS_FCHDIR, spawn.Int(i.old))
	p.Do("make old root a slave", unix.SYS_MOUNT, p.String(""), here, p.String(""), spawn.Int(unix.MS_SLAVE|unix.MS_REC), spawn.Int(0))
	p.Do("leave old root", unix.SYS_UMOUNT2, here, spawn.Int(unix.MNT_DETACH))
	if m.RootPropagation != 0 {
		p.Do("set propagation of root", unix.SYS_MOUNT, p.String(""), p.String("/"), p.String(""), spawn.Int(m.RootPropagation), spawn.Int(0))
	}
	if i.terminal != nil {
		i.stdio.child = [3]int{i.terminal.slave, i.terminal.slave, i.terminal.slave}
		defer func() { i.stdio.child = [3]int{-1, -1, -1} }()
	}
	if err := ownStreams(i.stdio.child, m.OpenStdin || m.Process.Terminal, hostID(m.UIDs, m.Process.UID)); err != nil {
		return err
	}
	path := ""
	if !m.Idle {
		var err error
		if path, err = findProgram(i.root, &m.Process); err != nil {
			if f, ok := err.(*failure); ok && m.Hooks.Before() {
				f.text += " (it is looked for before hooks run: one that a hook makes is named by its whole path)"
			}
			return err
		}
	}
	target := execTarget{path: path, init: -1}
	var err error
	if m.Init || m.Idle {
		if target.init, err = unix.Openat(i.s.proc, "self/exe", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
			return wrap("open init", err)
		}
		defer unix.Close(target.init)
		if i.ready, target.ready, err = pipe(); err != nil {
			return wrap("make pipe", err)
		}
		defer unix.Close(target.ready)
	}
	if len(m.Hooks.StartContainer) > 0 {
		p.Pause("wait for startContainer hooks")
	}
	setLabel(p, i.s.proc, &m.Process)
	finishProgram(p, i.root, &m.Process, i.stdio.child, target)
	if m.Hooks.Before() {
		return i.pause(p, spawn.Options{Flags: flags, Cgroup: i.into})
	}
	i.child, err = start(p, spawn.Options{Flags: flags, Cgroup: i.into}, i.root, &m.Process)
	return err
}

// ownStreams lets the process's user open /dev/stdout and the terminal again. What is
// not ours to give stays: the null device, and what lies where nothing is changed.
func ownStreams(fds [3]int, stdin bool, uid uint32) error {
	if uid == 0 {
		return nil
	}
	for n, fd := range fds {
		if n == 0 && !stdin {
			continue // the host's /dev/null
		}
		var info unix.Stat_t
		if err := unix.Fstat(fd, &info); err != nil {
			return wrap("look at streams", err)
		}
		if info.Uid == uid || info.Mode&unix.S_IFMT == unix.S_IFCHR && info.Rdev == unix.Mkdev(1, 3) {
			continue
		}
		if err := unix.Fchown(fd, int(uid), -1); err != nil && err != unix.EINVAL && err != unix.EPERM && err != unix.EROFS {
			return wrap("give streams to user", err)
		}
	}
	return nil
}
