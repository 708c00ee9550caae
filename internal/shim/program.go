package shim

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"muelle/internal/linux/spawn"
	"muelle/internal/shimapi"
)

// Slots of the child's list.
const (
	slotTarget spawn.Slot = 1
	slotTree   spawn.Slot = 2
	slotFile   spawn.Slot = 3
)

var zeroByte = [...]byte{'0'}

// enterCgroup makes the child join its v1 control groups: writing "0" to `tasks`
// moves the writer alone and waits for nobody. It comes first, so that everything
// else is accounted.
func enterCgroup(p *spawn.Program, tasks []int) {
	zero := spawn.Pointer(p, &zeroByte)
	for _, fd := range tasks {
		p.Do("enter cgroup", unix.SYS_WRITE, spawn.Int(fd), zero, spawn.Int(1))
	}
}

func setOOMScore(p *spawn.Program, proc int, m *shimapi.Process) {
	if !m.SetOOM {
		return
	}
	v := strconv.Itoa(m.OOMScoreAdj)
	p.Do("open oom_score_adj", unix.SYS_OPENAT, spawn.Int(proc), p.String("self/oom_score_adj"), spawn.Int(unix.O_WRONLY|unix.O_CLOEXEC), spawn.Int(0)).Out(slotFile)
	p.Do("set oom_score_adj", unix.SYS_WRITE, spawn.In(slotFile), p.String(v), spawn.Int(len(v)))
	p.Do("close oom_score_adj", unix.SYS_CLOSE, spawn.In(slotFile))
}

// setLabel asks for the profile or label that the program is to be executed under. It
// is written in the host's /proc, which the container cannot have prepared
// (CVE-2025-52881).
func setLabel(p *spawn.Program, proc int, m *shimapi.Process) {
	if m.Attr == "" {
		return
	}
	p.Do("open "+m.Attr, unix.SYS_OPENAT, spawn.Int(proc), p.String("self/attr/"+m.Attr), spawn.Int(unix.O_WRONLY|unix.O_CLOEXEC), spawn.Int(0)).Out(slotFile)
	p.Do("set "+m.Label, unix.SYS_WRITE, spawn.In(slotFile), p.String(m.Label), spawn.Int(len(m.Label)))
	p.Do("close "+m.Attr, unix.SYS_CLOSE, spawn.In(slotFile))
}

// execTarget is what the child executes: a path in the container, perhaps by an init.
type execTarget struct {
	path string
	// init is not -1: the binary that becomes PID 1 and executes path; ready is what
	// it closes when it can take signals.
	init, ready int
}

// finishProgram appends what every process does once it is where it belongs:
// working directory, streams, limits, identity, seccomp, exec. root is a
// descriptor of the container's root directory.
func finishProgram(p *spawn.Program, root int, m *shimapi.Process, stdio [3]int, target execTarget) {
	// The working directory is opened below the container's root and through no
	// magic link, so no inherited descriptor leads out of it (CVE-2024-21626).
	cwd := m.Cwd
	if cwd == "" {
		cwd = "/"
	}
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	p.Do("open working directory", unix.SYS_OPENAT2, spawn.Int(root), p.String(cwd), spawn.Pointer(p, how), spawn.Int(unix.SizeofOpenHow)).Out(slotFile)
	p.Do("change to working directory", unix.SYS_FCHDIR, spawn.In(slotFile))
	p.Do("close working directory", unix.SYS_CLOSE, spawn.In(slotFile))
	fds := stdio[:]
	if target.init >= 0 {
		fds = append(fds[:len(fds):len(fds)], target.ready)
	}
	p.Move(fds...)
	if m.Terminal {
		p.Do("take terminal", unix.SYS_IOCTL, spawn.Int(0), spawn.Int(unix.TIOCSCTTY), spawn.Int(0))
	}
	p.CloseOnExec(len(fds) + m.Keep)
	for i := range m.Rlimits {
		r := &m.Rlimits[i]
		lim := &unix.Rlimit{Cur: r.Soft, Max: r.Hard}
		p.Do("set resource limit", unix.SYS_PRLIMIT64, spawn.Int(0), spawn.Int(r.Resource), spawn.Pointer(p, lim), spawn.Int(0))
	}
	umask := m.Umask
	if umask < 0 {
		umask = 0o022
	}
	p.Do("set umask", unix.SYS_UMASK, spawn.Int(umask))
	setScheduling(p, m)
	if !m.Keyring {
		// Otherwise the host's session keyring would be shared.
		p.Do("join new keyring", unix.SYS_KEYCTL, spawn.Int(unix.KEYCTL_JOIN_SESSION_KEYRING), spawn.Int(0)).
			Tolerate(0, unix.ENOSYS, unix.EDQUOT, unix.EACCES)
	}
	// Without no_new_privs a filter needs CAP_SYS_ADMIN, which goes away below; with
	// it, it comes last, so that it need not allow the calls in between.
	if !m.NoNewPrivs {
		setFilter(p, m)
	}
	setIdentity(p, m)
	p.ResetSignals()
	if m.NoNewPrivs {
		p.Do("set no_new_privs", unix.SYS_PRCTL, spawn.Int(unix.PR_SET_NO_NEW_PRIVS), spawn.Int(1), spawn.Int(0), spawn.Int(0), spawn.Int(0))
		setFilter(p, m)
	}
	if target.init >= 0 {
		args := m.Args
		if target.path == "" {
			args = nil // idle
		}
		p.Exec(target.init, "", initArgs(target.path, args), withFiles(m))
		return
	}
	p.Exec(-1, target.path, m.Args, m.Env)
}

// setScheduling sets execution domain, scheduler and I/O priority.
func setScheduling(p *spawn.Program, m *shimapi.Process) {
	if m.SetDomain {
		p.Do("set personality", unix.SYS_PERSONALITY, spawn.Int(m.Personality))
	}
	if len(m.Scheduler) > 0 {
		// The first field is the structure's size: the copy has an address that stays.
		attr := append([]byte(nil), m.Scheduler...)
		p.Do("set scheduler", unix.SYS_SCHED_SETATTR, spawn.Int(0), spawn.Pointer(p, &attr[0]), spawn.Int(0))
	}
	if m.IOPriority != 0 {
		const whoProcess = 1
		p.Do("set I/O priority", unix.SYS_IOPRIO_SET, spawn.Int(whoProcess), spawn.Int(0), spawn.Int(m.IOPriority))
	}
}

func setFilter(p *spawn.Program, m *shimapi.Process) {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	if len(m.Filter) < size {
		return
	}
	// The kernel copies it from wherever it lies: a copy of our own would be most of
	// an exec's garbage.
	prog := &unix.SockFprog{Len: uint16(len(m.Filter) / size), Filter: (*unix.SockFilter)(unsafe.Pointer(&m.Filter[0]))}
	p.Do("set seccomp filter", unix.SYS_SECCOMP, spawn.Int(unix.SECCOMP_SET_MODE_FILTER), spawn.Int(m.FilterFlags), spawn.Pointer(p, prog))
}

// setIdentity sets groups, user and capabilities. The inheritable set is what the
// daemon says, which is nothing (CVE-2022-29162).
func setIdentity(p *spawn.Program, m *shimapi.Process) {
	prctl := func(what string, option int, args ...int) spawn.Call {
		v := [5]spawn.Value{spawn.Int(option)}
		for n, a := range args {
			v[n+1] = spawn.Int(a)
		}
		return p.Do(what, unix.SYS_PRCTL, v[:]...)
	}
	last := lastCap()
	for c := 0; c <= last; c++ {
		if m.Bounding&(1<<c) == 0 {
			prctl("drop capability", unix.PR_CAPBSET_DROP, c)
		}
	}
	prctl("keep capabilities", unix.PR_SET_KEEPCAPS, 1)
	groups := spawn.Int(0)
	if len(m.Groups) > 0 {
		g := append([]uint32(nil), m.Groups...)
		groups = spawn.Pointer(p, &g[0])
	}
	p.Do("set groups", unix.SYS_SETGROUPS, spawn.Int(len(m.Groups)), groups)
	p.Do("set group", unix.SYS_SETRESGID, spawn.Int(m.GID), spawn.Int(m.GID), spawn.Int(m.GID))
	p.Do("set user", unix.SYS_SETRESUID, spawn.Int(m.UID), spawn.Int(m.UID), spawn.Int(m.UID))
	header := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{
		{Effective: uint32(m.Effective), Permitted: uint32(m.Permitted), Inheritable: uint32(m.Inheritable)},
		{Effective: uint32(m.Effective >> 32), Permitted: uint32(m.Permitted >> 32), Inheritable: uint32(m.Inheritable >> 32)},
	}
	p.Do("set capabilities", unix.SYS_CAPSET, spawn.Pointer(p, header), spawn.Pointer(p, data))
	prctl("clear ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for c := 0; c <= last; c++ {
		if m.Ambient&(1<<c) != 0 {
			prctl("raise ambient capability", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0)
		}
	}
	prctl("stop keeping capabilities", unix.PR_SET_KEEPCAPS, 0)
}

// lastCap is the highest capability that this kernel knows.
func lastCap() int {
	for c := unix.CAP_LAST_CAP + 1; c < 64; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil {
			return c - 1
		}
	}
	return 63
}
