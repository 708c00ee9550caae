package ocirun

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime/native"
	"muelle/internal/shim"
)

// execution are exec's flags.
type execution struct {
	console, cwd, user, process, pidFile string
	label, apparmor                      string
	env, groups, caps                    repeated
	tty, detach, noNewPrivs, paused      bool
	preserve                             int
}

func (e *execution) flags(f *flag.FlagSet) {
	both := func(define func(string), names ...string) {
		for _, n := range names {
			define(n)
		}
	}
	f.StringVar(&e.console, "console-socket", "", "")
	f.StringVar(&e.cwd, "cwd", "", "")
	both(func(n string) { f.Var(&e.env, n, "") }, "env", "e")
	both(func(n string) { f.BoolVar(&e.tty, n, false, "") }, "tty", "t")
	both(func(n string) { f.StringVar(&e.user, n, "", "") }, "user", "u")
	both(func(n string) { f.Var(&e.groups, n, "") }, "additional-gids", "g")
	both(func(n string) { f.StringVar(&e.process, n, "", "") }, "process", "p")
	both(func(n string) { f.BoolVar(&e.detach, n, false, "") }, "detach", "d")
	f.StringVar(&e.pidFile, "pid-file", "", "")
	f.StringVar(&e.label, "process-label", "", "")
	f.StringVar(&e.apparmor, "apparmor", "", "")
	f.BoolVar(&e.noNewPrivs, "no-new-privs", false, "")
	both(func(n string) { f.Var(&e.caps, n, "") }, "cap", "c")
	f.IntVar(&e.preserve, "preserve-fds", 0, "")
	f.BoolVar(&e.paused, "ignore-paused", false, "")
}

func (a *App) exec(args []string) error {
	f := flags()
	e := &execution{}
	e.flags(f)
	if err := parse(f, args, 1, -1); err != nil {
		return err
	}
	r, err := a.open(f.Arg(0))
	if err != nil {
		return err
	}
	defer r.close()
	status, err := r.status()
	switch {
	case err != nil:
		return err
	case status == "paused" && !e.paused:
		return errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	case status == specs.StateStopped:
		return errors.New("cannot exec in a stopped container")
	}
	p, err := e.document(r, f.Args()[1:])
	if err != nil {
		return err
	}
	return a.execute(r, e, p)
}

// document is the process to run: the given file, or the container's own with the
// flags' changes.
func (e *execution) document(r *record, args []string) (*specs.Process, error) {
	p := &specs.Process{}
	if e.process != "" {
		b, err := os.ReadFile(e.process)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, p); err != nil {
			return nil, fmt.Errorf("read %s: %w", e.process, err)
		}
		return p, nil
	}
	if len(args) == 0 {
		return nil, errors.New("process args cannot be empty")
	}
	*p = *r.Config.Process
	p.Args = args
	p.Terminal = e.tty
	if e.cwd != "" {
		p.Cwd = e.cwd
	}
	p.Env = append(append([]string{}, p.Env...), e.env...)
	p.NoNewPrivileges = p.NoNewPrivileges || e.noNewPrivs
	if e.label != "" {
		p.SelinuxLabel = e.label
	}
	if e.apparmor != "" {
		p.ApparmorProfile = e.apparmor
	}
	if e.user != "" {
		uid, gid, both := strings.Cut(e.user, ":")
		u, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--user wants UID[:GID], not %q", e.user)
		}
		p.User.UID = uint32(u)
		if both {
			g, err := strconv.ParseUint(gid, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("--user wants UID[:GID], not %q", e.user)
			}
			p.User.GID = uint32(g)
		}
	}
	for _, g := range e.groups {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("additional gid %q is no number", g)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(n))
	}
	e.addCapabilities(p)
	return p, nil
}

func (e *execution) addCapabilities(p *specs.Process) {
	if len(e.caps) == 0 {
		return
	}
	c := specs.LinuxCapabilities{}
	if p.Capabilities != nil {
		c = *p.Capabilities
	}
	add := func(set []string) []string { return append(append([]string{}, set...), e.caps...) }
	c.Bounding, c.Effective, c.Permitted = add(c.Bounding), add(c.Effective), add(c.Permitted)
	if p.Capabilities != nil && len(c.Inheritable) > 0 {
		c.Inheritable, c.Ambient = add(c.Inheritable), add(c.Ambient)
	}
	p.Capabilities = &c
}

func (a *App) execute(r *record, e *execution, p *specs.Process) error {
	if p.Terminal && e.console == "" && e.detach {
		return errors.New("cannot allocate tty if muelle-oci will detach without setting console socket")
	}
	if !p.Terminal && e.console != "" {
		return errors.New("cannot use console socket if the process has no terminal")
	}
	o, entry, err := r.joining(p)
	if err != nil {
		return err
	}
	defer entry.Close()
	o.Process.Keep = e.preserve
	if o.PidFD, err = unix.PidfdOpen(r.Pid, 0); err != nil {
		return fmt.Errorf("reach the container: %w", err)
	}
	defer unix.Close(o.PidFD)
	// Two pids may have been the same one's: the start time tells.
	if !r.alive() {
		return errors.New("cannot exec in a stopped container")
	}
	console, err := dialConsole(e.console)
	if err != nil {
		return err
	}
	defer closeFD(console)
	if err := r.enterable(o); err != nil {
		return err
	}
	defer closeFD(o.User)
	defer closeFD(o.Chroot)
	defer closeFD(o.Clock)
	child, master, err := shim.Join(*o)
	if err != nil {
		return err
	}
	defer unix.Close(child.PidFD)
	r.close()
	if err == nil && master >= 0 && console >= 0 {
		err = sendConsole(console, master)
		unix.Close(master)
		master = -1
	}
	if err == nil {
		err = writePid(e.pidFile, child.Pid)
	}
	if err != nil {
		unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0)
		return err
	}
	if e.detach {
		return nil
	}
	return a.attend(child.Pid, master)
}

// enterable opens what of a container the process's descriptor does not lead to.
func (r *record) enterable(o *shim.Joining) (err error) {
	dir := "/proc/" + strconv.Itoa(r.Pid)
	if _, ok := has(r.Config, specs.UserNamespace); ok {
		if o.User, err = unix.Open(dir+"/ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("reach the container's user namespace: %w", err)
		}
		if o.UIDs, err = users(r.Pid); err != nil {
			return err
		}
	}
	if _, ok := has(r.Config, specs.TimeNamespace); ok {
		if o.Clock, err = unix.Open(dir+"/ns/time", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("reach the container's time namespace: %w", err)
		}
	}
	if ns, ok := has(r.Config, specs.MountNamespace); !ok || ns.Path != "" {
		if o.Chroot, err = unix.Open(dir+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("reach the container's root: %w", err)
		}
	}
	if !r.alive() {
		err = errors.New("cannot exec in a stopped container")
	}
	return err
}

// joining is what Join needs to know of a container.
func (r *record) joining(p *specs.Process) (*shim.Joining, *cgroup.Entry, error) {
	one, err := native.CompileProcess(p)
	if err != nil {
		return nil, nil, err
	}
	if s := r.Config.Linux.Seccomp; s != nil {
		if one.Filter, one.FilterFlags, err = native.CompileSeccomp(s); err != nil {
			return nil, nil, err
		}
	}
	g, err := r.group()
	if err != nil {
		return nil, nil, err
	}
	entry, err := g.Entry()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.New("container's cgroup is not there any more")
	}
	if err != nil {
		return nil, nil, err
	}
	o := &shim.Joining{Process: &one, Stdio: [3]int{0, 1, 2}, Into: -1, User: -1, Clock: -1, Chroot: -1}
	for _, f := range entry.Tasks {
		o.Tasks = append(o.Tasks, int(f.Fd()))
	}
	if entry.Into != nil {
		o.Into = int(entry.Into.Fd())
	}
	if p.ConsoleSize != nil {
		o.Width, o.Height = uint16(p.ConsoleSize.Width), uint16(p.ConsoleSize.Height)
	}
	return o, entry, nil
}
