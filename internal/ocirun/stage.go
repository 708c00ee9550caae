package ocirun

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/spawn"
	"muelle/internal/linux/thread"
	"muelle/internal/runtime/native"
	"muelle/internal/shimapi"
)

// stage is the making of a container's first process.
type stage struct {
	a     *App
	r     *record
	c     *creation
	group *cgroup.Group
	stdio [3]int

	copied []string // destinations with tmpcopyup

	ctl    int // our side of the stage's socket, or -1
	pidfd  int
	binary *sealing
}

// make starts the stage, lets it create the container and runs the hooks.
func (s *stage) make() error {
	s.ctl, s.pidfd = -1, -1
	spec := *s.r.Config
	spec.Hooks = nil
	var err error
	if s.copied, err = copyUps(&spec); err != nil {
		return err
	}
	plan, err := native.Compile(&spec, s.r.ID, s.r.dir, s.group)
	if err != nil {
		return err
	}
	defer plan.Release()
	m, err := s.message(plan)
	if err != nil {
		return err
	}
	trees, err := s.adapt(m, plan)
	if err != nil {
		return err
	}
	defer closeAll(trees)
	console, err := dialConsole(s.c.console)
	if err != nil {
		return err
	}
	defer closeFD(console)
	if err := s.launch(plan); err != nil {
		return err
	}
	if m.Remapped {
		if err := s.grant(&m.Start.Process); err != nil {
			return err
		}
	}
	if _, ok := has(&spec, specs.TimeNamespace); ok {
		if err := s.timeEntered(); err != nil {
			return err
		}
	}
	if err := sendFrame(s.ctl, shimapi.TypeStage, m, trees); err != nil {
		return fmt.Errorf("tell the stage: %w", err)
	}
	if err := s.converse(console); err != nil {
		return err
	}
	closeFD(s.ctl)
	s.ctl = -1
	return nil
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// message is what the stage is told.
func (s *stage) message(plan *native.Plan) (*shimapi.Stage, error) {
	m := &shimapi.Stage{
		Start: plan.Start, NoPivot: s.c.noPivot,
	}
	h := &m.Start.Hooks
	h.CreateContainer, h.StartContainer = native.Hooks(s.r.hooks("createContainer")), native.Hooks(s.r.hooks("startContainer"))
	var err error
	if h.State, err = native.StateHead(s.r.state(specs.StateCreating)); err != nil {
		return nil, err
	}
	p := &m.Start.Process
	p.Keyring, p.Keep = s.c.noKeyring, s.c.preserve
	if size := s.r.Config.Process.ConsoleSize; size != nil {
		m.Start.Width, m.Start.Height = uint16(size.Width), uint16(size.Height)
	}
	// Binds replace this, so it must be a directory nobody else mounts on.
	m.Start.Root = s.r.Rootfs
	return m, nil
}

// launch starts the stage in its namespaces and cgroup.
func (s *stage) launch(plan *native.Plan) error {
	binary, err := s.binary.wait()
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.ctl = pair[0]
	defer unix.Close(pair[1])
	listen, err := listenIn(s.r.dir)
	if err != nil {
		return err
	}
	defer unix.Close(listen)
	var child *spawn.Child
	err = thread.Run(func() error {
		ns, err := s.enter(plan)
		if err != nil {
			return err
		}
		p, flags, err := s.program(plan, &ns, int(binary.Fd()), pair[1], listen)
		if err != nil {
			return err
		}
		child, err = ns.start(p, spawn.Options{Flags: flags, Cgroup: plan.Into})
		return err
	})
	if err != nil {
		return fmt.Errorf("start the container's first process: %w", err)
	}
	s.pidfd = child.PidFD
	s.r.Pid = child.Pid
	_, s.r.PidStart = processState(child.Pid)
	return nil
}

// program is the child's way to the stage.
func (s *stage) program(plan *native.Plan, in *entrance, binary, ctl, listen int) (p *spawn.Program, flags uint64, err error) {
	if p, err = in.list(); err != nil {
		return nil, 0, err
	}
	zero := spawn.Pointer(p, &[1]byte{'0'})
	for _, fd := range plan.Tasks {
		p.Do("enter cgroup", unix.SYS_WRITE, spawn.Int(fd), zero, spawn.Int(1))
	}
	flags = in.isolate(p, offsets(s.r.Config.Linux.TimeOffsets))
	for _, ns := range plan.Start.Namespaces {
		if ns.Flag == unix.CLONE_NEWCGROUP && !ns.Joined {
			p.Do("make cgroup namespace", unix.SYS_UNSHARE, spawn.Int(unix.CLONE_NEWCGROUP))
		}
	}
	p.Do("become session leader", unix.SYS_SETSID)
	p.Move(s.stdio[:]...)
	p.CloseOnExec(3 + s.c.preserve)
	for _, fd := range []int{ctl, listen} {
		if fd < 3+s.c.preserve {
			p.Discard()
			return nil, 0, fmt.Errorf("--preserve-fds %d: descriptor %d is not open", s.c.preserve, fd)
		}
		p.Do("pass descriptor", unix.SYS_FCNTL, spawn.Int(fd), spawn.Int(unix.F_SETFD), spawn.Int(0))
	}
	p.ResetSignals()
	// The stage lives for one exec: its heap is never collected.
	p.Exec(binary, "", []string{shimapi.StageName, strconv.Itoa(ctl), strconv.Itoa(listen)}, []string{"GOMAXPROCS=1", "GOGC=off"})
	return p, flags, nil
}

// converse runs the hooks when the stage asks for them, until it has created the
// container; console is where the terminal goes.
func (s *stage) converse(console int) error {
	for {
		h, payload, fds, err := receiveFrame(s.ctl)
		if err != nil {
			return fmt.Errorf("the container's first process ended: %w", err)
		}
		switch h.Type {
		case shimapi.TypeHooks:
			if err := s.r.runHooks("prestart", specs.StateCreating); err != nil {
				return err
			}
			if err := s.r.runHooks("createRuntime", specs.StateCreating); err != nil {
				return err
			}
			if err := sendFrame(s.ctl, shimapi.TypeHooks, &shimapi.Empty{}, nil); err != nil {
				return err
			}
		case shimapi.TypeCreated:
			for _, fd := range fds {
				err = errors.Join(err, sendConsole(console, fd))
				unix.Close(fd)
			}
			return err
		default:
			return replied(h, payload)
		}
	}
}

// replied is the error that a Reply carries.
func replied(h shimapi.Header, payload []byte) error {
	m := &shimapi.Reply{}
	if h.Type != shimapi.TypeReply {
		return shimapi.ErrMalformed
	}
	if err := shimapi.Decode(payload, m); err != nil {
		return err
	}
	return errors.New(m.Error)
}

// undo ends a stage that is not to go on.
func (s *stage) undo() error {
	closeFD(s.ctl)
	s.ctl = -1
	if s.pidfd < 0 {
		return nil
	}
	unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
	for {
		if _, err := unix.Wait4(s.r.Pid, nil, 0, nil); err != unix.EINTR {
			break
		}
	}
	unix.Close(s.pidfd)
	s.pidfd = -1
	return nil
}
