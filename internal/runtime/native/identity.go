package native

import (
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

func (p *plan) process(c *runtime.Container, _ *cgroup.Group) error {
	one, err := translate(c.Spec.Process)
	if err != nil {
		return err
	}
	if c.Spec.Linux.Seccomp != nil {
		f, err := p.filters.Assemble(c.Spec.Linux.Seccomp)
		if err != nil {
			return fmt.Errorf("assemble seccomp profile: %w", err)
		}
		one.Filter, one.FilterFlags = f.Program, f.Flags
	}
	p.start.Process = one
	return personality(&p.start.Process, c.Spec.Linux.Personality)
}

// translate gives what is the same for the container's process and an exec.
func translate(in *specs.Process) (shimapi.Process, error) {
	out := shimapi.Process{
		Args: in.Args, Env: in.Env, Cwd: in.Cwd, UID: in.User.UID, GID: in.User.GID,
		Groups: in.User.AdditionalGids, Umask: -1, NoNewPrivs: in.NoNewPrivileges, Terminal: in.Terminal,
	}
	if len(in.Args) == 0 {
		return out, &runtime.StartError{Code: 125, Err: errdefs.ErrInvalidArgument.WithMessage("no command specified")}
	}
	if in.Cwd != "" && !strings.HasPrefix(in.Cwd, "/") {
		return out, errdefs.ErrInvalidArgument.WithMessage("the working directory '" + in.Cwd + "' is invalid, it needs to be an absolute path")
	}
	switch {
	case in.ExecCPUAffinity != nil:
		return out, unsupported("CPU affinity of exec")
	}
	if err := setLabel(&out, in, "/"); err != nil {
		return out, err
	}
	if in.User.Umask != nil {
		out.Umask = int(*in.User.Umask)
	}
	if in.OOMScoreAdj != nil {
		out.OOMScoreAdj, out.SetOOM = *in.OOMScoreAdj, true
	}
	err := scheduling(&out, in)
	if err != nil {
		return out, err
	}
	if out.Rlimits, err = limits(in.Rlimits); err != nil {
		return out, err
	}
	if in.Capabilities == nil {
		return out, nil
	}
	for _, set := range []struct {
		names []string
		to    *uint64
	}{
		{in.Capabilities.Bounding, &out.Bounding}, {in.Capabilities.Effective, &out.Effective},
		{in.Capabilities.Permitted, &out.Permitted}, {in.Capabilities.Inheritable, &out.Inheritable},
		{in.Capabilities.Ambient, &out.Ambient},
	} {
		for _, name := range set.names {
			bit, ok := capabilities()[name]
			if !ok {
				return out, errdefs.ErrInvalidArgument.WithMessage("unknown capability " + name)
			}
			*set.to |= bit
		}
	}
	// What the kernel does not know, or this machine's root does not have, cannot be
	// given; Docker leaves it out too.
	have := ownBounding()
	out.Bounding &= have
	out.Permitted &= have
	out.Effective &= have
	// Ambient needs the inheritable set; nothing else does (CVE-2022-29162).
	out.Inheritable &= have & out.Ambient
	out.Ambient &= out.Inheritable & out.Permitted
	return out, nil
}

// softFiles is the soft limit of open files that a login or a service has.
const softFiles = 1024

// limits translates resource limits. That of open files cannot be inherited: Go
// raises its soft half to the hard one in every program, the daemon and the shim,
// and what a container runs may close or allocate for each possible descriptor.
func limits(in []specs.POSIXRlimit) (out []shimapi.Rlimit, err error) {
	files := false
	for _, l := range in {
		n, ok := rlimits[l.Type]
		if !ok {
			return nil, errdefs.ErrInvalidArgument.WithMessage("unknown resource limit " + l.Type)
		}
		files = files || n == unix.RLIMIT_NOFILE
		out = append(out, shimapi.Rlimit{Resource: n, Soft: l.Soft, Hard: l.Hard})
	}
	if !files {
		var own unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
			return nil, fmt.Errorf("read limit of open files: %w", err)
		}
		out = append(out, shimapi.Rlimit{Resource: unix.RLIMIT_NOFILE, Soft: min(softFiles, own.Max), Hard: own.Max})
	}
	return out, nil
}

var capabilities = sync.OnceValue(func() map[string]uint64 {
	m := map[string]uint64{}
	for _, c := range capability.ListKnown() {
		m["CAP_"+strings.ToUpper(c.String())] = 1 << uint(c)
	}
	return m
})

// ownBounding is what this process may give.
var ownBounding = sync.OnceValue(func() (set uint64) {
	for c := 0; c < 64; c++ {
		v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			break
		}
		set |= uint64(v) << c
	}
	return set
})

var rlimits = map[string]uint32{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4,
	"RLIMIT_RSS": 5, "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9,
	"RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13,
	"RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}
