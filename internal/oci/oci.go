// Package oci turns a container's configuration, in Docker's terms and with the
// image's defaults merged in, into an OCI runtime-spec document: the whole of what
// the kernel will be asked for, as plain data. It touches nothing but the device
// nodes that it looks up.
package oci

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/userns"
)

// Options is what Spec needs to know.
type Options struct {
	// ID of the container, and Hostname and Domainname as they are to be seen inside.
	ID, Hostname, Domainname string
	// Config has Entrypoint and Cmd as they will run; HostConfig must not be nil.
	Config     *container.Config
	HostConfig *container.HostConfig
	// User is resolved: see ResolveUser. Home is its home directory.
	User specs.User
	Home string
	// LinkEnv are variables that Config's replace.
	LinkEnv []string
	// Mounts are added to the usual ones (/proc, /dev, …) and win over them where
	// the destination is the same. They may be in any order.
	Mounts []specs.Mount
	// CgroupsPath below each hierarchy's root; CgroupVersion is 1 or 2.
	CgroupsPath   string
	CgroupVersion int
	// PIDNamespace, IPCNamespace, NetNamespace and UTSNamespace are paths to join
	// ("/proc/1/ns/…"), for container:NAME modes.
	PIDNamespace, IPCNamespace, NetNamespace string
	// ShmPath is the other container's /dev/shm to bind, with IPCNamespace.
	ShmPath string
	// IDs put the container into a user namespace; nil: it has the host's ids.
	IDs *userns.Map
	// Seccomp is the daemon-wide profile as JSON; empty means Docker's default.
	Seccomp string
	// NoNewPrivileges is the daemon's default of the security option.
	NoNewPrivileges bool
	// AppArmor is the daemon-wide profile of AppArmor, "unconfined" for none; empty
	// means DefaultAppArmor.
	AppArmor string
	// Modules are the host's security modules; ProcessLabel and MountLabel SELinux's of
	// this container.
	Modules                  Modules
	ProcessLabel, MountLabel string
}

// Spec builds the document. Errors are errdefs.ErrInvalidArgument, worded for users.
func Spec(o Options) (*specs.Spec, error) {
	security, err := ParseSecurityOpt(o.HostConfig.SecurityOpt, o.Modules)
	if err != nil {
		return nil, err
	}
	if o.NoNewPrivileges && !slices.ContainsFunc(o.HostConfig.SecurityOpt, func(s string) bool { return strings.HasPrefix(s, "no-new-privileges") }) {
		security.NoNewPrivileges = true
	}
	s := &specs.Spec{
		Version:     specs.Version,
		Hostname:    o.Hostname,
		Domainname:  o.Domainname,
		Root:        &specs.Root{Path: "rootfs", Readonly: o.HostConfig.ReadonlyRootfs},
		Annotations: maps.Clone(o.HostConfig.Annotations),
		Linux: &specs.Linux{
			CgroupsPath: o.CgroupsPath,
			Namespaces:  namespaces(o),
			Sysctl:      sysctls(o),
		},
	}
	if o.IDs != nil {
		s.Linux.UIDMappings, s.Linux.GIDMappings = idMappings(o.IDs.UIDs), idMappings(o.IDs.GIDs)
	}
	if o.HostConfig.UTSMode.IsHost() {
		s.Hostname, s.Domainname = "", ""
	}
	if s.Process, err = process(o, security); err != nil {
		return nil, err
	}
	if s.Mounts, err = mounts(o); err != nil {
		return nil, err
	}
	if err := security.cgroups(s, o); err != nil {
		return nil, err
	}
	s.Process.ApparmorProfile, s.Process.SelinuxLabel, s.Linux.MountLabel = security.appArmor(o), o.ProcessLabel, o.MountLabel
	s.Linux.RootfsPropagation = rootPropagation(s.Mounts)
	paths(s, o, security)
	devices, rules, err := devices(o)
	if err != nil {
		return nil, err
	}
	s.Linux.Devices = devices
	if s.Linux.Resources, err = Resources(o.HostConfig.Resources); err != nil {
		return nil, err
	}
	s.Linux.Resources.Devices = rules
	if s.Linux.Seccomp, err = security.seccomp(s, o); err != nil {
		return nil, err
	}
	return s, nil
}

// rootPropagation is private unless a mount is to be shared with the host: that it
// can be only below a root that is shared too.
func rootPropagation(mounts []specs.Mount) string {
	for _, m := range mounts {
		if slices.Contains(m.Options, "shared") || slices.Contains(m.Options, "rshared") {
			return "shared"
		}
	}
	return "private"
}

func namespaces(o Options) []specs.LinuxNamespace {
	h := o.HostConfig
	var ns []specs.LinuxNamespace
	if o.IDs != nil {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UserNamespace})
	}
	ns = append(ns, specs.LinuxNamespace{Type: specs.MountNamespace})
	if !h.NetworkMode.IsHost() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: o.NetNamespace})
	}
	if !h.PidMode.IsHost() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.PIDNamespace, Path: o.PIDNamespace})
	}
	if !h.IpcMode.IsHost() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.IPCNamespace, Path: o.IPCNamespace})
	}
	if !h.UTSMode.IsHost() {
		ns = append(ns, specs.LinuxNamespace{Type: specs.UTSNamespace})
	}
	if privateCgroupNS(o) {
		ns = append(ns, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	return ns
}

// privateCgroupNS: Docker's default is private on cgroup v2 and host on v1; a
// privileged container on v2 gets a private one as well.
func privateCgroupNS(o Options) bool {
	switch o.HostConfig.CgroupnsMode {
	case container.CgroupnsModePrivate:
		return true
	case container.CgroupnsModeHost:
		return false
	}
	return o.CgroupVersion == 2
}

// sysctls lets unprivileged users of a container's own network namespace bind low
// ports and ping, as Docker does since 20.10, unless the user says otherwise.
func sysctls(o Options) map[string]string {
	s := map[string]string{}
	if !o.HostConfig.NetworkMode.IsHost() && !o.HostConfig.NetworkMode.IsContainer() {
		s["net.ipv4.ip_unprivileged_port_start"] = "0"
		s["net.ipv4.ping_group_range"] = "0 " + strconv.FormatUint(uint64(lastGroup(o.IDs)), 10)
	}
	maps.Copy(s, o.HostConfig.Sysctls)
	if len(s) == 0 {
		return nil
	}
	return s
}

// lastGroup is the highest group that the kernel takes in a range for all.
func lastGroup(m *userns.Map) uint32 {
	const most = 1<<31 - 1 // older kernels refuse more
	last := uint32(most)
	if m != nil {
		last = 0
		for _, r := range m.GIDs {
			if r.Container <= last+1 {
				last = max(last, r.Container+(r.Size-1))
			}
		}
	}
	return min(last, most)
}

func idMappings(ranges []userns.Range) (out []specs.LinuxIDMapping) {
	for _, r := range ranges {
		out = append(out, specs.LinuxIDMapping{ContainerID: r.Container, HostID: r.Host, Size: r.Size})
	}
	return out
}

func process(o Options, security Security) (*specs.Process, error) {
	c, h := o.Config, o.HostConfig
	args := slices.Concat(c.Entrypoint, c.Cmd)
	if len(args) == 0 {
		return nil, errdefs.ErrInvalidArgument.WithMessage("no command specified")
	}
	caps, err := capabilities(h)
	if err != nil {
		return nil, err
	}
	p := &specs.Process{
		Terminal:        c.Tty,
		User:            o.User,
		Args:            args,
		Env:             environment(o),
		Cwd:             workingDir(c.WorkingDir),
		NoNewPrivileges: security.NoNewPrivileges,
		Capabilities:    effective(caps, o.User.UID),
		OOMScoreAdj:     &h.OomScoreAdj,
	}
	if h.Umask != nil {
		p.User.Umask = h.Umask
	}
	if c.Tty && (h.ConsoleSize[0] > 0 || h.ConsoleSize[1] > 0) {
		p.ConsoleSize = &specs.Box{Height: h.ConsoleSize[0], Width: h.ConsoleSize[1]}
	}
	for _, u := range h.Ulimits {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard),
		})
	}
	return p, nil
}

func workingDir(dir string) string {
	return path.Join("/", dir)
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment puts PATH, HOSTNAME and TERM before the container's own variables,
// which replace them, and HOME at the end where nobody set it.
func environment(o Options) []string {
	env := []string{defaultPath, "HOSTNAME=" + o.Hostname}
	if o.Config.Tty {
		env = append(env, "TERM=xterm")
	}
	env = ReplaceEnv(append(env, o.LinkEnv...), o.Config.Env)
	return withHome(env, o.Home)
}

func withHome(env []string, home string) []string {
	for _, kv := range env {
		if strings.HasPrefix(kv, "HOME=") {
			return env
		}
	}
	if home == "" {
		home = "/"
	}
	return append(env, "HOME="+home)
}

// ReplaceEnv gives base with overrides put in: a variable of the same name is
// replaced in its place, a new one is appended, one without "=" is removed.
func ReplaceEnv(base, overrides []string) []string {
	env := slices.Clone(base)
	at := make(map[string]int, len(env)+len(overrides))
	for i, kv := range env {
		if name, _, ok := strings.Cut(kv, "="); ok {
			if _, again := at[name]; !again {
				at[name] = i
			}
		}
	}
	gone := map[int]bool{}
	for _, kv := range overrides {
		name, _, hasValue := strings.Cut(kv, "=")
		i, have := at[name]
		switch {
		case !hasValue && have:
			gone[i] = true
			delete(at, name)
		case !hasValue:
		case have:
			env[i] = kv
		default:
			at[name] = len(env)
			env = append(env, kv)
		}
	}
	if len(gone) == 0 {
		return env
	}
	left := env[:0]
	for i, kv := range env {
		if !gone[i] {
			left = append(left, kv)
		}
	}
	return left
}

// ExecOptions describes a further process of a container.
type ExecOptions struct {
	Args, Env  []string
	WorkingDir string
	// User overrides the container's, with its Home.
	User       *specs.User
	Home       string
	Tty        bool
	Privileged bool
	// Height and Width of the terminal, or zero.
	Height, Width uint
}

// ExecProcess gives the process document of an exec in the container of s: its
// environment, user, limits and capabilities unless overridden.
func ExecProcess(s *specs.Spec, o ExecOptions) (*specs.Process, error) {
	if len(o.Args) == 0 {
		return nil, errdefs.ErrInvalidArgument.WithMessage("No exec command specified")
	}
	p := *s.Process
	p.Args, p.Terminal, p.ConsoleSize = o.Args, o.Tty, nil
	p.Env = slices.Clone(p.Env)
	if o.Tty {
		p.Env = ReplaceEnv([]string{"TERM=xterm"}, p.Env)
	}
	if o.User != nil {
		p.Env = slices.DeleteFunc(p.Env, func(kv string) bool { return kv == homeOf(s) })
		p.User = *o.User
		p.User.Umask = s.Process.User.Umask
		p.Env = withHome(p.Env, o.Home)
	}
	p.Env = ReplaceEnv(p.Env, o.Env)
	if o.WorkingDir != "" {
		p.Cwd = workingDir(o.WorkingDir)
	}
	caps := s.Process.Capabilities.Bounding
	if o.Privileged {
		caps = allCapabilities()
	}
	p.Capabilities = effective(caps, p.User.UID)
	if o.Tty && (o.Height > 0 || o.Width > 0) {
		p.ConsoleSize = &specs.Box{Height: o.Height, Width: o.Width}
	}
	return &p, nil
}

// homeOf gives the HOME variable of the container's process if it stands last,
// where this package puts the one that it derived itself.
func homeOf(s *specs.Spec) string {
	if n := len(s.Process.Env); n > 0 && strings.HasPrefix(s.Process.Env[n-1], "HOME=") {
		return s.Process.Env[n-1]
	}
	return ""
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}
