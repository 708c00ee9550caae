package native

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/seccomp"
	"muelle/internal/linux/security"
	"muelle/internal/linux/userns"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// plan is a Start message with the descriptors that go with it.
type plan struct {
	filters *seccomp.Cache
	start   shimapi.Start
	fds     []int
	close   []*os.File // ours, once the shim has them
	ids     *userns.Map
	idmaps  []int // descriptors of user namespaces; the container's own is the first
	// apart: the caller isolates, in processes of the container's own user namespace, so
	// ids are told as they are counted there.
	apart bool
}

func (p *plan) release() { closeFiles(p.close) }

// pass appends a file that is closed when the plan is done with.
func (p *plan) pass(f *os.File) {
	p.fds = append(p.fds, int(f.Fd()))
	p.close = append(p.close, f)
}

func unsupported(what string) error {
	return errdefs.ErrNotImplemented.WithMessage(what + " is not supported")
}

// compile turns the OCI document into what the shim does.
func (r *Runtime) compile(c *runtime.Container, g *cgroup.Group, apart bool) (*plan, error) {
	s := c.Spec
	if s == nil || s.Process == nil || s.Linux == nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("runtime document without process or linux part")
	}
	p := &plan{filters: &r.filters, apart: apart, start: shimapi.Start{
		BootID: r.bootID, ID: c.ID, CgroupsPath: g.Path(), Root: filepath.Join(c.Dir, shimapi.RootDir),
		Hostname: s.Hostname, Domainname: s.Domainname,
		OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce, Width: c.ConsoleWidth, Height: c.ConsoleHeight,
		Log: c.Log, Init: c.Init, Idle: c.Idle, Masked: s.Linux.MaskedPaths, Readonly: s.Linux.ReadonlyPaths,
		OOMFile: g.OOMFile(), KillFile: g.KillFile(), ProcsFile: g.ProcsFile(),
	}}
	steps := []func(*runtime.Container, *cgroup.Group) error{
		p.refuse, p.namespaces, p.enterGroup, p.root, p.mounts, p.devices, p.sysctls, p.process, p.hooks,
	}
	for _, step := range steps {
		if err := step(c, g); err != nil {
			p.release()
			return nil, err
		}
	}
	return p, nil
}

// refuse names what a document may ask and this runtime does not do.
func (p *plan) refuse(c *runtime.Container, _ *cgroup.Group) error {
	l := c.Spec.Linux
	switch {
	case l.MountLabel != "" && !security.SELinux("/"):
		return errdefs.ErrInvalidArgument.WithMessage("SELinux label given, and SELinux is not enabled on this host")
	case l.IntelRdt != nil:
		return unsupported("Intel RDT")
	}
	return CheckHooks(c.Spec.Hooks)
}

var namespaceFlags = map[specs.LinuxNamespaceType]uint64{
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.MountNamespace: unix.CLONE_NEWNS, specs.IPCNamespace: unix.CLONE_NEWIPC,
	specs.UTSNamespace: unix.CLONE_NEWUTS, specs.CgroupNamespace: unix.CLONE_NEWCGROUP,
	specs.UserNamespace: unix.CLONE_NEWUSER,
}

func (p *plan) namespaces(c *runtime.Container, _ *cgroup.Group) error {
	ownPID, ownUTS := false, false
	for _, ns := range c.Spec.Linux.Namespaces {
		flag, ok := namespaceFlags[ns.Type]
		if ns.Type == specs.TimeNamespace && p.apart {
			flag, ok = unix.CLONE_NEWTIME, true
		}
		if !ok {
			return unsupported(string(ns.Type) + " namespace")
		}
		n := shimapi.Namespace{Flag: flag}
		switch {
		case ns.Path != "":
			f, err := os.Open(ns.Path)
			if err != nil {
				return fmt.Errorf("open %s namespace: %w", ns.Type, err)
			}
			n.Joined = true
			if ns.Type == specs.UserNamespace {
				p.joinUser(c.Spec.Linux, int(f.Fd()))
			}
			p.pass(f)
		case ns.Type == specs.UserNamespace:
			if err := p.makeUser(c); err != nil {
				return err
			}
			n.Joined = true
		case ns.Type == specs.NetworkNamespace && c.NetNS != nil:
			n.Joined = true
			p.fds = append(p.fds, int(c.NetNS.Fd()))
		}
		if ns.Type == specs.MountNamespace && n.Joined && !p.apart {
			return unsupported("joining a mount namespace")
		}
		ownPID = ownPID || ns.Type == specs.PIDNamespace && !n.Joined
		ownUTS = ownUTS || ns.Type == specs.UTSNamespace && !n.Joined
		p.start.Namespaces = append(p.start.Namespaces, n)
	}
	p.start.SharedPID = !ownPID
	if !ownUTS {
		// The name of the host, or of the container whose namespace is joined.
		p.start.Hostname, p.start.Domainname = "", ""
	}
	return nil
}

func (p *plan) enterGroup(_ *runtime.Container, g *cgroup.Group) error {
	e, err := g.Entry()
	if err != nil {
		return err
	}
	for _, f := range e.Tasks {
		p.pass(f)
	}
	p.start.Tasks = len(e.Tasks)
	if e.Into != nil {
		p.pass(e.Into)
		p.start.Into = true
	}
	return nil
}

func (p *plan) root(c *runtime.Container, _ *cgroup.Group) (err error) {
	p.start.ReadonlyRoot = c.Spec.Root != nil && c.Spec.Root.Readonly
	if v := c.Spec.Linux.RootfsPropagation; v != "" {
		flag, ok := propagationOptions[v]
		if !ok {
			return errdefs.ErrInvalidArgument.WithMessage("unknown root propagation " + v)
		}
		p.start.RootPropagation = flag
	}
	if p.start.Rootfs, err = rootMounts(c); err != nil {
		return err
	}
	for n := range p.start.Rootfs {
		if p.start.Rootfs[n].Type == "overlay" {
			labelled(&p.start.Rootfs[n], c.Spec.Linux.MountLabel)
		}
		if p.start.Rootfs[n].IDMap > 0 && p.ids == nil {
			return errdefs.ErrInvalidArgument.WithMessage("the root file system is to be shown with the ids of a user namespace, and there is none")
		}
	}
	return nil
}

func (p *plan) mounts(c *runtime.Container, g *cgroup.Group) error {
	for _, m := range c.Spec.Mounts {
		if m.Type == "cgroup" || m.Type == "cgroup2" {
			if err := p.cgroupMounts(c, m, g); err != nil {
				return err
			}
			continue
		}
		one, err := mount(m.Destination, m.Type, m.Source, m.Options)
		if err != nil {
			return err
		}
		one.Subpath = c.Subpaths[m.Destination]
		if p.apart {
			// whoever mounts it counts as the container does
		} else if one.Options, err = p.ids.TranslateOptions(one.Options); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("mount of %s: %s", m.Destination, err))
		}
		if one.Type == "tmpfs" || one.Type == "devpts" || one.Type == "mqueue" || one.Type == "overlay" {
			labelled(&one, c.Spec.Linux.MountLabel)
		}
		if err := p.mapMount(&one, m); err != nil {
			return err
		}
		p.start.Mounts = append(p.start.Mounts, one)
	}
	return nil
}

// cgroupMounts shows the container its own part of each hierarchy, by binds: from
// inside its cgroup namespace that looks as a mount made there would. Read-only as
// the document says, without which a container could name a release agent
// (CVE-2022-0492).
func (p *plan) cgroupMounts(c *runtime.Container, m specs.Mount, g *cgroup.Group) error {
	base, err := mount(m.Destination, "bind", "", m.Options)
	if err != nil {
		return err
	}
	bind := func(source, destination string) {
		p.start.Mounts = append(p.start.Mounts, shimapi.Mount{
			Bind: true, Source: source, Destination: destination,
			Flags: base.Flags, Cleared: base.Cleared, Propagation: base.Propagation,
		})
	}
	if cgroup.Version() == 2 {
		source := g.Dir("")
		if !hasNamespace(c.Spec, specs.CgroupNamespace) {
			source = cgroup.Root
		}
		bind(source, m.Destination)
		return nil
	}
	all, err := cgroup.Hierarchies()
	if err != nil {
		return err
	}
	p.start.Mounts = append(p.start.Mounts, shimapi.Mount{
		Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"},
		Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC,
	})
	seen := map[string]bool{}
	for _, h := range all {
		if h.Name == "" {
			continue // Docker shows v1 hierarchies only, on a hybrid host too
		}
		name := filepath.Base(h.Mountpoint)
		if !seen[name] {
			seen[name] = true
			bind(g.Dir(h.Name), path.Join(m.Destination, name))
		}
		// cpu,cpuacct is known by each of its names.
		if n := strings.TrimPrefix(h.Name, "name="); n != name {
			p.start.Links = append(p.start.Links, shimapi.Link{Path: path.Join(m.Destination, n), Target: name})
		}
	}
	if base.Flags&unix.MS_RDONLY != 0 {
		// The links must be there first; the mount points are made on the way.
		p.start.Readonly = append([]string{m.Destination}, p.start.Readonly...)
	}
	return nil
}

func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == t {
			return true
		}
	}
	return false
}

// sysctls checks that what is set belongs to a namespace of the container's own: a
// runtime that did not look would set it for the host.
func (p *plan) sysctls(c *runtime.Container, _ *cgroup.Group) error {
	private := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range c.Spec.Linux.Namespaces {
		private[ns.Type] = true
	}
	for key, value := range c.Spec.Linux.Sysctl {
		file := sysctlPath(key)
		need := sysctlNamespace(file)
		if need == "" {
			return errdefs.ErrInvalidArgument.WithMessage("sysctl " + key + " is not in a separate kernel namespace")
		}
		if !private[need] {
			return errdefs.ErrInvalidArgument.WithMessage("sysctl " + key + " is not allowed: the container shares the host's " + string(need) + " namespace")
		}
		p.start.Sysctls = append(p.start.Sysctls, shimapi.Sysctl{Path: file, Value: value})
	}
	return nil
}

// sysctlPath turns dots into slashes, and where the first separator is a slash
// (net/ipv4/conf/eth0.1/…) leaves dots alone, as sysctl(8) does.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

func sysctlNamespace(file string) specs.LinuxNamespaceType {
	if path.Clean("/"+file) != "/"+file {
		return ""
	}
	switch {
	case strings.HasPrefix(file, "net/"):
		return specs.NetworkNamespace
	case strings.HasPrefix(file, "fs/mqueue/"), strings.HasPrefix(file, "kernel/msg"), strings.HasPrefix(file, "kernel/shm"), file == "kernel/sem":
		return specs.IPCNamespace
	case file == "kernel/domainname", file == "kernel/hostname":
		return specs.UTSNamespace
	}
	return ""
}
