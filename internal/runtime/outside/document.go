package outside

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
	"muelle/internal/runtime/native"
	"muelle/internal/shimapi"
)

// document is the bundle's: the container's own with its root file system's place,
// its network namespace and its init.
func document(c *runtime.Container, netns, init string) (_ *specs.Spec, err error) {
	s := *c.Spec
	if s.Linux == nil || s.Process == nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("runtime document without process or linux part")
	}
	// What is asked for is older than the document's version, which some refuse.
	s.Version = "1.0.2"
	linux, process, root := *s.Linux, *s.Process, specs.Root{}
	if s.Root != nil {
		root = *s.Root
	}
	root.Path = filepath.Join(c.Dir, shimapi.RootDir)
	s.Linux, s.Process, s.Root = &linux, &process, &root
	linux.Namespaces = append([]specs.LinuxNamespace(nil), linux.Namespaces...)
	for i := range linux.Namespaces {
		n := &linux.Namespaces[i]
		if n.Type == specs.UserNamespace {
			return nil, errdefs.ErrNotImplemented.WithMessage("runtime " + c.Runtime + ": user namespaces (--userns, userns-remap) work with Muelle's own runtime only; use --userns host or --runtime muelle")
		}
		if n.Type == specs.NetworkNamespace && n.Path == "" && netns != "" {
			n.Path = netns
		}
	}
	if c.ConsoleWidth > 0 {
		process.ConsoleSize = &specs.Box{Width: uint(c.ConsoleWidth), Height: uint(c.ConsoleHeight)}
	}
	if len(process.Args) == 0 {
		return nil, &runtime.StartError{Code: 125, Err: errdefs.ErrInvalidArgument.WithMessage("no command specified")}
	}
	if process.Rlimits, err = native.WithFileLimit(process.Rlimits); err != nil {
		return nil, err
	}
	process.Capabilities = withoutInheritable(process.Capabilities)
	if c.Init {
		// As Docker: the init is bound into the container, and finds the program itself.
		s.Mounts = append(append([]specs.Mount(nil), s.Mounts...), specs.Mount{
			Destination: "/sbin/docker-init", Type: "bind", Source: init, Options: []string{"bind", "ro"}})
		process.Args = append([]string{"/sbin/docker-init", "", "--"}, process.Args...)
		for _, l := range process.Rlimits {
			if l.Type == "RLIMIT_NOFILE" {
				process.Env = append(slices.Clone(process.Env), shimapi.InitFiles+strconv.FormatUint(l.Soft, 10))
			}
		}
	}
	return &s, nil
}

// withoutInheritable leaves the inheritable set what ambient capabilities need, as
// the project's own runtime does (CVE-2022-29162).
func withoutInheritable(in *specs.LinuxCapabilities) *specs.LinuxCapabilities {
	if in == nil {
		return nil
	}
	out := *in
	out.Inheritable = nil
	for _, name := range in.Inheritable {
		if slices.Contains(in.Ambient, name) {
			out.Inheritable = append(out.Inheritable, name)
		}
	}
	return &out
}

// takeParts gives the mounts that show a part of their source only, and lets the
// document bind them from where the shim will have mounted them.
func takeParts(c *runtime.Container, s *specs.Spec, bundle string) (parts []native.Part) {
	s.Mounts = slices.Clone(s.Mounts)
	for i, m := range s.Mounts {
		sub, ok := c.Subpaths[m.Destination]
		if !ok {
			continue
		}
		at := filepath.Join(bundle, fmt.Sprintf("part-%d", i))
		parts = append(parts, native.Part{Mount: runtime.Mount{Type: m.Type, Source: m.Source, Options: m.Options}, Subpath: sub, Destination: at})
		bind := specs.Mount{Destination: m.Destination, Type: "bind", Source: at, Options: []string{"rbind"}}
		for _, o := range m.Options {
			if o != "bind" && o != "rbind" && native.IsMountOption(o) {
				bind.Options = append(bind.Options, o)
			}
		}
		s.Mounts[i] = bind
	}
	return parts
}
