package native

import (
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/seccomp"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// Plan is a compiled document, for a caller that isolates by itself: muelle-oci. Ids
// in it are the container's.
type Plan struct {
	Start shimapi.Start
	// Joined has a descriptor for each namespace of Start, -1 where it is to be made. A
	// user namespace is always there, made with the document's maps where it has no path.
	Joined []int
	// Tasks and Into are how the first process gets into its cgroup; Into may be -1.
	Tasks []int
	Into  int
	// IDMaps are the user namespaces that mounts name by their number, from 1.
	IDMaps []int

	compiled *plan
}

// Release closes the plan's descriptors.
func (p *Plan) Release() { p.compiled.release() }

// Compile translates a document without a daemon: capabilities are given as the
// document has them, and what Docker never asks for (execution domain, scheduler,
// I/O priority, time namespaces, a mount namespace of others) is there too.
func Compile(s *specs.Spec, id, root string, g *cgroup.Group) (*Plan, error) {
	c := &runtime.Container{ID: id, Dir: root, Spec: s}
	compiled, err := (&Runtime{}).compile(c, g, true)
	if err != nil {
		return nil, err
	}
	p := &Plan{Start: compiled.start, Into: -1, IDMaps: compiled.idmaps, compiled: compiled}
	fds := compiled.fds
	for _, ns := range p.Start.Namespaces {
		fd := -1
		if ns.Joined {
			fd, fds = fds[0], fds[1:]
		}
		p.Joined = append(p.Joined, fd)
	}
	p.Tasks, fds = fds[:p.Start.Tasks], fds[p.Start.Tasks:]
	if p.Start.Into {
		p.Into = fds[0]
	}
	if err := Verbatim(&p.Start.Process, s.Process); err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

// CompileProcess translates a further process's part of a document.
func CompileProcess(in *specs.Process) (shimapi.Process, error) {
	out, err := translate(in)
	if err != nil {
		return out, err
	}
	return out, Verbatim(&out, in)
}

// Verbatim gives a process the inheritable and ambient sets of its document, which
// the daemon's containers never have in full (CVE-2022-29162).
func Verbatim(out *shimapi.Process, in *specs.Process) error {
	if in.Capabilities == nil {
		return nil
	}
	out.Inheritable, out.Ambient = 0, 0
	for _, set := range []struct {
		names []string
		to    *uint64
	}{{in.Capabilities.Inheritable, &out.Inheritable}, {in.Capabilities.Ambient, &out.Ambient}} {
		for _, name := range set.names {
			bit, ok := capabilities()[name]
			if !ok {
				return errdefs.ErrInvalidArgument.WithMessage("unknown capability " + name)
			}
			*set.to |= bit
		}
	}
	out.Inheritable &= ownBounding()
	out.Ambient &= out.Inheritable & out.Permitted
	return nil
}

// CompileSeccomp assembles a profile's filter.
func CompileSeccomp(s *specs.LinuxSeccomp) (program []byte, flags uint32, err error) {
	f, err := seccomp.Assemble(s)
	if err != nil {
		return nil, 0, fmt.Errorf("assemble seccomp profile: %w", err)
	}
	return f.Program, f.Flags, nil
}

// Capabilities names what is known here, for a list of features.
func Capabilities() []string { return slices.Sorted(maps.Keys(capabilities())) }

// MountOptions names the options that mounts may have beside those of their file systems.
func MountOptions() []string {
	names := []string{"bind", "rbind", "rro", "idmap", "ridmap"}
	names = append(names, slices.Collect(maps.Keys(flagOptions))...)
	names = append(names, slices.Collect(maps.Keys(propagationOptions))...)
	slices.Sort(names)
	return names
}

// IsMountOption tells a word of mount(8) from an option of a file system.
func IsMountOption(o string) bool {
	return slices.Contains(MountOptions(), o) || slices.Contains(otherOptions, o)
}

// otherOptions are known and not supported, which a bind must not hide.
var otherOptions = []string{"rrw", "rnosuid", "rnodev", "rnoexec", "tmpcopyup"}

// WithFileLimit adds the limit of open files that a login or a service has, where
// none is given; see limits.
func WithFileLimit(in []specs.POSIXRlimit) ([]specs.POSIXRlimit, error) {
	for _, l := range in {
		if l.Type == "RLIMIT_NOFILE" {
			return in, nil
		}
	}
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return nil, fmt.Errorf("read limit of open files: %w", err)
	}
	return append(slices.Clone(in), specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: min(softFiles, own.Max), Hard: own.Max}), nil
}
