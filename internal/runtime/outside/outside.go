// Package outside puts other OCI runtimes (runc, crun, muelle-oci) behind the
// runtime contract. The shim stays what it is beside the project's own containers:
// it owns processes, streams, logs, exit codes and held sockets and outlives the
// daemon; it calls the runtime's create, start and exec, whose processes become its
// own as their nearest subreaper. What changes a container that runs (pause, resume,
// update, delete) is called by the daemon. A container without a runtime's name goes
// to the project's own.
package outside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/atomicfile"
	"muelle/internal/runtime"
	"muelle/internal/runtime/native"
	"muelle/internal/shimapi"
)

// Binary is one OCI runtime: an absolute path and arguments before the command.
type Binary struct {
	Path string   `json:"path"`
	Args []string `json:"args,omitempty"`
}

// Runtime chooses a container's runtime by its name.
type Runtime struct {
	*native.Runtime
	binaries map[string]Binary
	init     string // the shim's binary, which serves as a container's init
}

var _ runtime.Runtime = (*Runtime)(nil)

// New puts binaries, by name, beside the project's own runtime.
func New(own *native.Runtime, binaries map[string]Binary, shimPath string) *Runtime {
	return &Runtime{Runtime: own, binaries: binaries, init: shimPath}
}

// The files of a container's folder that this package adds.
const (
	recordFile = "runtime.json"
	bundleDir  = "bundle"
	stateDir   = "oci"
)

// record says which runtime a container has, whatever the configuration becomes.
type record struct {
	Binary
	Name string `json:"name"`
	// Systemd: the container's cgroup is a scope of systemd's.
	Systemd bool `json:"systemd,omitempty"`
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, c *runtime.Container) (runtime.Task, error) {
	if c.Runtime == "" {
		return r.Runtime.Start(ctx, c)
	}
	b, ok := r.binaries[c.Runtime]
	if !ok {
		return nil, errdefs.ErrInvalidArgument.WithMessage("unknown or invalid runtime name: " + c.Runtime)
	}
	t := &task{id: c.ID, dir: c.Dir, record: record{Binary: b, Name: c.Runtime, Systemd: isScope(c.Spec)}}
	if err := t.start(ctx, r, c); err != nil {
		return nil, errors.Join(err, t.clear(ctx))
	}
	return t, nil
}

// isScope knows systemd's form of a cgroup's name, slice:prefix:name.
func isScope(s *specs.Spec) bool {
	return s.Linux != nil && strings.Count(s.Linux.CgroupsPath, ":") == 2
}

// start writes the bundle and lets the shim call the runtime.
func (t *task) start(ctx context.Context, r *Runtime, c *runtime.Container) error {
	var netns string
	if c.NetNS != nil {
		// The caller may close its own when the shim has it; the path must hold until the
		// runtime has joined.
		f, err := duplicate(c.NetNS)
		if err != nil {
			return err
		}
		defer f.Close()
		netns = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	}
	spec, err := document(c, netns, r.init)
	if err != nil {
		return err
	}
	bundle := filepath.Join(c.Dir, bundleDir)
	parts := takeParts(c, spec, bundle)
	b, err := json.Marshal(t.record)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteNoSync(filepath.Join(c.Dir, recordFile), b, 0o600); err != nil {
		return err
	}
	if err := os.Mkdir(bundle, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if b, err = json.Marshal(spec); err != nil {
		return err
	}
	if err := atomicfile.WriteNoSync(filepath.Join(bundle, "config.json"), b, 0o600); err != nil {
		return err
	}
	t.OutsideTask, err = r.StartOutside(ctx, c, parts, func(shim int) shimapi.Outside {
		create := t.command(shim, "create", "init", spec.Process.Terminal)
		if c.Init {
			// By closing it the init says that it takes signals.
			create.Args = append(create.Args, "--preserve-fds", "1")
		}
		create.Args = append(create.Args, "--bundle", bundle, c.ID)
		start := t.command(shim, "start", "start", false)
		start.Args = append(t.global("start"), "start", c.ID)
		return shimapi.Outside{Create: create, Start: start}
	})
	return explain(err)
}

// Load implements runtime.Runtime.
func (r *Runtime) Load(ctx context.Context, id, dir string) (runtime.Task, error) {
	own, err := r.Runtime.Load(ctx, id, dir)
	if err != nil {
		return nil, err
	}
	rec, err := readRecord(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return own, nil
	}
	if err != nil {
		return nil, err
	}
	return &task{OutsideTask: own.(native.OutsideTask), id: id, dir: dir, record: *rec}, nil
}

func readRecord(dir string) (*record, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return nil, err
	}
	rec := &record{}
	if err := json.Unmarshal(b, rec); err != nil {
		return nil, fmt.Errorf("read runtime of container: %w", err)
	}
	return rec, nil
}

// Clean implements runtime.Runtime.
func (r *Runtime) Clean(ctx context.Context, id, dir, cgroupsPath string) error {
	err := r.Runtime.Clean(ctx, id, dir, cgroupsPath)
	rec, rerr := readRecord(dir)
	if errors.Is(rerr, fs.ErrNotExist) {
		return err
	}
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	return errors.Join(err, (&task{id: id, dir: dir, record: *rec}).clear(ctx))
}

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

// global are the arguments before a command's own.
func (t *task) global(log string) []string {
	args := append([]string{filepath.Base(t.record.Path)}, t.record.Args...)
	if t.record.Systemd {
		args = append(args, "--systemd-cgroup")
	}
	return append(args, "--root", filepath.Join(t.dir, stateDir), "--log", t.logOf(log), "--log-format", "json")
}

func (t *task) logOf(name string) string { return filepath.Join(t.dir, bundleDir, name+".log") }

// command is a call of the runtime that leaves a process.
func (t *task) command(shim int, verb, name string, terminal bool) shimapi.Command {
	c := shimapi.Command{Path: t.record.Path, PidFile: filepath.Join(t.dir, bundleDir, name+".pid"), Log: t.logOf(name)}
	c.Args = append(t.global(name), verb, "--pid-file", c.PidFile)
	if terminal {
		c.Console = name + ".sock"
		// A socket's path may have 107 bytes only: the shim's descriptor shortens it.
		c.Args = append(c.Args, "--console-socket", fmt.Sprintf("/proc/%d/fd/%d/%s", shim, shimapi.DirFD, c.Console))
	}
	return c
}

// explain words a failure, which is the end of the runtime's log, as Docker does,
// with the exit code that belongs to it.
func explain(err error) error {
	var se *runtime.StartError
	if !errors.As(err, &se) {
		return err
	}
	text := lastError(se.Err.Error())
	if text == "" {
		return err
	}
	return &runtime.StartError{Code: codeOf(text), Err: errors.New(text)}
}

// lastError finds the last error of a log of JSON lines.
func lastError(log string) (text string) {
	for line := range strings.Lines(log) {
		var one struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &one) == nil && (one.Level == "error" || one.Level == "fatal") {
			text = one.Msg
		}
	}
	for _, p := range prefixes {
		text = strings.TrimPrefix(text, p)
	}
	return text
}

// prefixes stand before what happened, in runc's words.
var prefixes = []string{"runc create failed: ", "runc run failed: ", "exec failed: ", "unable to start container process: ", "error during container init: "}

// codeOf is Docker's reading of a runtime's words.
func codeOf(text string) int {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	isExec := has("exec", "chdir", "cwd")
	switch {
	case isExec && has("executable file not found", "no such file or directory", "cannot find"):
		return 127
	case isExec && has("permission denied", "is a directory", "not a directory", "exec format error"):
		return 126
	}
	return 128
}
