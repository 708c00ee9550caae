package outside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/runtime"
	"muelle/internal/runtime/native"
)

// task is a container that another runtime has made.
type task struct {
	native.OutsideTask
	id, dir string
	record  record
}

// call runs a command of the runtime that changes the container.
func (t *task) call(ctx context.Context, in []byte, args ...string) error {
	log := t.logOf("call")
	cmd := exec.CommandContext(ctx, t.record.Path)
	cmd.Args = append(t.global("call"), args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if b, e := os.ReadFile(log); e == nil {
		if text := lastError(string(b)); text != "" {
			out = []byte(text)
		}
	}
	return fmt.Errorf("%s %s: %w: %s", t.record.Name, args[0], err, bytes.TrimSpace(out))
}

func (t *task) running() error {
	if t.Pid() == 0 {
		return errdefs.ErrFailedPrecondition.WithMessage("container " + t.id + " is not running")
	}
	return nil
}

// Pause implements runtime.Task.
func (t *task) Pause(ctx context.Context) error {
	if err := t.running(); err != nil {
		return err
	}
	return t.call(ctx, nil, "pause", t.id)
}

// Resume implements runtime.Task.
func (t *task) Resume(ctx context.Context) error {
	if err := t.running(); err != nil {
		return err
	}
	return t.call(ctx, nil, "resume", t.id)
}

// Update implements runtime.Task.
func (t *task) Update(ctx context.Context, r *specs.LinuxResources) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return t.call(ctx, b, "update", "--resources", "-", t.id)
}

// Exec implements runtime.Task. A privileged one is the shim's: these runtimes set the
// container's seccomp filter on every process.
func (t *task) Exec(ctx context.Context, p *specs.Process, o runtime.ExecOptions) (runtime.Process, error) {
	if p == nil || o.ID == "" || strings.ContainsAny(o.ID, "/\x00") {
		return nil, errdefs.ErrInvalidArgument.WithMessage("exec without process or id")
	}
	if len(p.Args) == 0 {
		return nil, &runtime.StartError{Code: 125, Err: errdefs.ErrInvalidArgument.WithMessage("no command specified")}
	}
	if err := t.running(); err != nil {
		return nil, err
	}
	if o.Tools != nil || o.Privileged {
		return t.OutsideTask.ExecBeside(ctx, p, o)
	}
	one := *p
	one.Capabilities = withoutInheritable(one.Capabilities)
	var err error
	if one.Rlimits, err = native.WithFileLimit(one.Rlimits); err != nil {
		return nil, err
	}
	if o.Width > 0 {
		one.ConsoleSize = &specs.Box{Width: uint(o.Width), Height: uint(o.Height)}
	}
	b, err := json.Marshal(&one)
	if err != nil {
		return nil, err
	}
	name := "exec-" + o.ID
	file := filepath.Join(t.dir, bundleDir, name+".json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return nil, err
	}
	cmd := t.command(t.ShimPid(), "exec", name, one.Terminal)
	cmd.Args = append(cmd.Args, "--detach", "--process", file, t.id)
	defer func() {
		for _, f := range []string{file, cmd.PidFile, cmd.Log, filepath.Join(t.dir, name+".sock")} {
			os.Remove(f)
		}
	}()
	proc, err := t.ExecOutside(ctx, &one, o, cmd)
	if err != nil {
		return nil, explain(err)
	}
	return proc, nil
}

// Delete implements runtime.Task.
func (t *task) Delete(ctx context.Context) error {
	if t.Pid() != 0 {
		// A frozen process does not die; one that is not frozen is no matter.
		t.call(ctx, nil, "resume", t.id)
	}
	if err := t.OutsideTask.Delete(ctx); err != nil {
		return err
	}
	return t.clear(ctx)
}

// clear lets the runtime forget the container and removes what this package has put
// into its folder.
func (t *task) clear(ctx context.Context) error {
	var errs []error
	if _, err := os.Stat(filepath.Join(t.dir, stateDir, t.id)); err == nil {
		errs = append(errs, t.call(ctx, nil, "delete", "--force", t.id))
	}
	for _, name := range []string{bundleDir, stateDir} {
		errs = append(errs, os.RemoveAll(filepath.Join(t.dir, name)))
	}
	for _, name := range []string{recordFile, "init.sock"} {
		if err := os.Remove(filepath.Join(t.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func duplicate(f *os.File) (*os.File, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var derr error
	err = rc.Control(func(p uintptr) { fd, derr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, derr); err != nil {
		return nil, fmt.Errorf("duplicate network namespace: %w", err)
	}
	return os.NewFile(uintptr(fd), "netns"), nil
}
