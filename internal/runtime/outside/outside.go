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
	"strings"
	"sync/atomic"

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
	binaries atomic.Pointer[map[string]Binary]
	init     initProgram
}

var _ runtime.Runtime = (*Runtime)(nil)

// New puts binaries, by name, beside the project's own runtime. The file init is written
// when a container first asks for an init, for which the shim serves.
func New(own *native.Runtime, binaries map[string]Binary, init string) *Runtime {
	r := &Runtime{Runtime: own, init: initProgram{path: init}}
	r.Set(binaries)
	return r
}

// Set replaces the binaries. Containers that run keep theirs.
func (r *Runtime) Set(binaries map[string]Binary) { r.binaries.Store(&binaries) }

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
	if c.Prepared != nil {
		return nil, errors.Join(errdefs.ErrInvalidArgument.WithMessage("another runtime starts from nothing prepared"), c.Prepared.Discard())
	}
	b, ok := (*r.binaries.Load())[c.Runtime]
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
	if c.Init {
		if err := r.init.write(r.Runtime); err != nil {
			return err
		}
	}
	spec, err := document(c, netns, r.init.path)
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
