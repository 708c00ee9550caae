package ocirun

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/procfs"
	"muelle/internal/linux/spawn"
	"muelle/internal/runtime/native"
	"muelle/internal/shim"
	"muelle/internal/shimapi"
)

// entrance is how a stage gets into its namespaces.
type entrance struct {
	user int    // the user namespace to enter, or -1
	make uint64 // those to be made, CLONE_NEW…, owned by the user namespace
	time bool   // a time namespace is to be made
	in   int    // the time namespace to enter, or -1
	own  bool   // the mount namespace is made for the container
}

// enter joins, on a thread of its own, what is joined.
func (s *stage) enter(plan *native.Plan) (n entrance, err error) {
	n.user, n.in = -1, -1
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return n, err
	}
	for i, ns := range plan.Start.Namespaces {
		switch {
		case ns.Flag == unix.CLONE_NEWUSER:
			n.user = plan.Joined[i] // by the child: a threaded process cannot
		case ns.Flag == unix.CLONE_NEWTIME && ns.Joined:
			n.in = plan.Joined[i] // likewise
		case ns.Joined:
			if err := unix.Setns(plan.Joined[i], int(ns.Flag)); err != nil {
				return n, fmt.Errorf("join namespace: %w", err)
			}
		case ns.Flag == unix.CLONE_NEWCGROUP: // by the child, in its cgroup
		case ns.Flag == unix.CLONE_NEWTIME:
			n.time = true
		default:
			n.make |= ns.Flag
			n.own = n.own || ns.Flag == unix.CLONE_NEWNS
		}
	}
	return n, nil
}

const slotOffsets spawn.Slot = 4

// list is an empty one for the child. Who enters a time namespace may share memory
// with nobody.
func (n *entrance) list() (*spawn.Program, error) {
	if n.in < 0 {
		return &spawn.Program{}, nil
	}
	return spawn.Waiting()
}

// start runs the list.
func (n *entrance) start(p *spawn.Program, o spawn.Options) (*spawn.Child, error) {
	if n.in < 0 {
		return spawn.Start(p, o)
	}
	return spawn.StartApart(p, o)
}

// isolate appends to the child's list what brings it into its namespaces, and gives
// the flags that it is to be made with.
func (n *entrance) isolate(p *spawn.Program, offsets string) (flags uint64) {
	if n.in >= 0 {
		defer p.Pause("wait outside") // after the fork: its pid is known then
	}
	if n.time && offsets != "" {
		// Opened here, because who opened it must have the rights of the host's root.
		p.Do("open clocks", unix.SYS_OPENAT, spawn.Int(unix.AT_FDCWD), p.String("/proc/self/timens_offsets"), spawn.Int(unix.O_WRONLY|unix.O_CLOEXEC), spawn.Int(0)).Out(slotOffsets)
	}
	if n.in >= 0 {
		p.Do("join time namespace", unix.SYS_SETNS, spawn.Int(n.in), spawn.Int(unix.CLONE_NEWTIME))
	}
	if n.user >= 0 {
		spawn.EnterUser(p, n.user)
	}
	if n.time {
		// Entered by exec (Linux 6.0).
		p.Do("make time namespace", unix.SYS_UNSHARE, spawn.Int(unix.CLONE_NEWTIME))
		if offsets != "" {
			p.Do("set clocks", unix.SYS_WRITE, spawn.In(slotOffsets), p.String(offsets), spawn.Int(len(offsets)))
		}
	}
	switch {
	case n.user < 0:
		return n.make
	case n.make&unix.CLONE_NEWPID != 0:
		p.Fork("make namespaces", n.make)
	case n.make != 0:
		p.Do("make namespaces", unix.SYS_UNSHARE, spawn.Int(n.make))
	}
	return 0
}

// offsets are a document's, as /proc/PID/timens_offsets wants them.
func offsets(all map[string]specs.LinuxTimeOffset) (out string) {
	for clock, o := range all {
		out += clock + " " + strconv.FormatInt(o.Secs, 10) + " " + strconv.FormatUint(uint64(o.Nanosecs), 10) + "\n"
	}
	return out
}

// adapt changes the message where the stage cannot do all by itself: in a user
// namespace, or in a mount namespace that is others' as well. What it could not open
// or make is opened here; the descriptors are given in the message's order.
func (s *stage) adapt(m *shimapi.Stage, plan *native.Plan) (fds []int, err error) {
	own := false
	for i, ns := range m.Start.Namespaces {
		own = own || ns.Flag == unix.CLONE_NEWNS && !ns.Joined
		if ns.Flag == unix.CLONE_NEWUSER {
			m.Remapped = plan.Joined[i] >= 0
		}
	}
	m.Detached = !own
	if m.Detached && m.Start.RootPropagation&unix.MS_SHARED != 0 {
		return nil, errors.New("rootfsPropagation shared needs a mount namespace of the container's own")
	}
	if m.Remapped {
		if err := bindDevices(&m.Start); err != nil {
			return nil, err
		}
	}
	all := []*shimapi.Mount{}
	for i := range m.Start.Rootfs {
		r := &m.Start.Rootfs[i]
		if m.Detached {
			// Or what is mounted below it would be seen where it is mounted itself.
			r.Propagation = unix.MS_PRIVATE | unix.MS_REC
		}
		all = append(all, r)
	}
	for i := range m.Start.Mounts {
		o := &m.Start.Mounts[i]
		if o.Type == "overlay" && m.Detached {
			return nil, fmt.Errorf("mount of %s: an overlay needs a mount namespace of the container's own", o.Destination)
		}
		if m.Detached && o.Bind && o.Propagation == 0 {
			o.Propagation = unix.MS_SLAVE | unix.MS_REC
		}
		all = append(all, o)
	}
	for _, o := range all {
		if o.Type == "tmpfs" && slices.Contains(s.copied, path.Clean("/"+o.Destination)) {
			tree, err := copyUp(s.r.Rootfs, o)
			if err != nil {
				closeAll(fds)
				return nil, fmt.Errorf("mount of %s: copy what is there: %w", o.Destination, err)
			}
			if tree >= 0 {
				*o = shimapi.Mount{Destination: o.Destination, Bind: true, Passed: true}
				fds = append(fds, tree)
			}
			continue
		}
		if !o.Bind || !m.Remapped && !m.Detached && o.IDMap == 0 {
			continue
		}
		tree, err := shim.OpenMount(o, plan.IDMaps)
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		o.Passed, o.IDMap = true, 0
		fds = append(fds, tree)
	}
	if len(fds) > shimapi.MaxFDs {
		closeAll(fds)
		return nil, fmt.Errorf("%d mounts are more than %d", len(fds), shimapi.MaxFDs)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// bindDevices lets the host's devices be bound, as no user namespace may make any.
func bindDevices(m *shimapi.Start) error {
	for _, d := range m.Devices {
		var st unix.Stat_t
		if err := unix.Lstat(d.Path, &st); err != nil {
			return fmt.Errorf("device %s: in a user namespace the host's is bound: %w", d.Path, err)
		}
		if st.Mode&unix.S_IFMT != d.Mode&unix.S_IFMT || st.Rdev != d.Number {
			return fmt.Errorf("device %s is another one on the host: in a user namespace the host's is bound", d.Path)
		}
		m.Mounts = append(m.Mounts, shimapi.Mount{Bind: true, Source: d.Path, Destination: d.Path})
	}
	m.Devices = nil
	return nil
}

// grant does for a stage in a user namespace what only the host's root may: lower
// the score, raise hard limits.
func (s *stage) grant(p *shimapi.Process) error {
	if p.SetOOM {
		if err := os.WriteFile("/proc/"+strconv.Itoa(s.r.Pid)+"/oom_score_adj", []byte(strconv.Itoa(p.OOMScoreAdj)), 0); err != nil {
			return fmt.Errorf("set oom_score_adj: %w", err)
		}
		p.SetOOM = false
	}
	for _, r := range p.Rlimits {
		var own unix.Rlimit
		if err := unix.Prlimit(s.r.Pid, int(r.Resource), nil, &own); err != nil {
			return fmt.Errorf("read resource limit: %w", err)
		}
		if r.Hard <= own.Max {
			continue
		}
		own.Max = r.Hard
		if err := unix.Prlimit(s.r.Pid, int(r.Resource), &own, nil); err != nil {
			return fmt.Errorf("raise resource limit: %w", err)
		}
	}
	return nil
}

// timeEntered makes sure that the stage is where its clocks were set.
func (s *stage) timeEntered() error {
	dir := "/proc/" + strconv.Itoa(s.r.Pid) + "/ns/"
	is, err := os.Readlink(dir + "time")
	if err != nil {
		return err
	}
	wanted, err := os.Readlink(dir + "time_for_children")
	if err == nil && is != wanted {
		err = errors.New("time namespaces need Linux 6.0 or newer")
	}
	return err
}

// has tells whether a document names a namespace of a kind.
func has(s *specs.Spec, kind specs.LinuxNamespaceType) (ns specs.LinuxNamespace, ok bool) {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == kind {
			return ns, true
		}
	}
	return ns, false
}

// users reads the map of a container's user namespace.
func users(pid int) (out []shimapi.IDRange, err error) {
	lines, err := procfs.Lines(pid, "uid_map")
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		var r shimapi.IDRange
		if _, err := fmt.Sscan(l, &r.Container, &r.Host, &r.Size); err != nil {
			return nil, fmt.Errorf("read map of users %q: %w", l, err)
		}
		out = append(out, r)
	}
	return out, nil
}
