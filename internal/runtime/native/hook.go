package native

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
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// HooksByKind gives a document's hooks by the names of their kinds.
func HooksByKind(h *specs.Hooks) map[string][]specs.Hook {
	if h == nil {
		return nil
	}
	return map[string][]specs.Hook{
		//lint:ignore SA1019 Prestart is deprecated, and still used
		"prestart": h.Prestart, "createRuntime": h.CreateRuntime, "createContainer": h.CreateContainer,
		"startContainer": h.StartContainer, "poststart": h.Poststart, "poststop": h.Poststop,
	}
}

// CheckHooks wants what the specification wants of each hook.
func CheckHooks(h *specs.Hooks) error {
	for kind, all := range HooksByKind(h) {
		for _, one := range all {
			if !filepath.IsAbs(one.Path) {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s hook: path %q is not absolute", kind, one.Path))
			}
			if one.Timeout != nil && *one.Timeout <= 0 {
				return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s hook %s: timeout must be greater than zero", kind, one.Path))
			}
		}
	}
	return nil
}

// Hooks are those of one kind for the shim to run.
func Hooks(in []specs.Hook) (out []shimapi.Hook) {
	for _, h := range in {
		one := shimapi.Hook{Path: h.Path, Args: h.Args, Env: h.Env}
		if h.Timeout != nil {
			one.Timeout = *h.Timeout
		}
		out = append(out, one)
	}
	return out
}

// hooks tells the shim which hooks to run. The container's folder is their bundle: by the
// document there they find the root file system, and whichever daemon is there at the
// container's end finds what to run then.
func (p *plan) hooks(c *runtime.Container, _ *cgroup.Group) error {
	all := HooksByKind(c.Spec.Hooks)
	n := 0
	for _, list := range all {
		n += len(list)
	}
	if n == 0 || p.apart {
		return nil
	}
	state, err := StateHead(&specs.State{Version: specs.Version, ID: c.ID, Bundle: c.Dir, Annotations: c.Spec.Annotations})
	if err != nil {
		return err
	}
	p.start.Hooks = shimapi.Hooks{
		Prestart: Hooks(all["prestart"]), CreateRuntime: Hooks(all["createRuntime"]),
		CreateContainer: Hooks(all["createContainer"]), StartContainer: Hooks(all["startContainer"]),
		Poststart: Hooks(all["poststart"]), State: state, Dir: c.Dir,
	}
	s := *c.Spec
	root := specs.Root{}
	if s.Root != nil {
		root = *s.Root
	}
	root.Path = p.start.Root
	s.Root = &root
	document, err := json.Marshal(&s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.Dir, shimapi.BundleFile), document, 0o600); err != nil {
		return fmt.Errorf("write the hooks' bundle: %w", err)
	}
	return nil
}

// StateHead is a state without its end: the status and the process are told by who runs
// the hooks, at each one's time.
func StateHead(s *specs.State) ([]byte, error) {
	whole, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(whole, &fields); err != nil {
		return nil, err
	}
	delete(fields, "status")
	delete(fields, "pid")
	head, err := json.Marshal(fields)
	return bytes.TrimSuffix(head, []byte("}")), err
}

// stopped runs the hooks of a container's end, if it has any. The container is gone
// whatever they do: a failure is only told.
func (r *Runtime) stopped(id, dir string) {
	document, err := os.ReadFile(filepath.Join(dir, shimapi.BundleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	s := &specs.Spec{}
	if err == nil {
		err = json.Unmarshal(document, s)
	}
	if err != nil {
		r.log.Warn("read the bundle of an ended container", "container", id, "err", err)
		return
	}
	state := &specs.State{Version: specs.Version, ID: id, Status: specs.StateStopped, Bundle: dir, Annotations: s.Annotations}
	for _, err := range RunStopped(HooksByKind(s.Hooks)["poststop"], state, dir) {
		r.log.Warn("a hook of a container's end failed", "container", id, "err", err)
	}
}

// RunStopped runs the hooks of a container's end, all of them whatever fails.
func RunStopped(hooks []specs.Hook, state *specs.State, dir string) (warnings []error) {
	for i, h := range hooks {
		if err := runHook(h, state, dir); err != nil {
			warnings = append(warnings, fmt.Errorf("run poststop hook %d (%s): %w", i, h.Path, err))
		}
	}
	return warnings
}

// RunHooks runs hooks in this process's namespaces and the directory dir; the first
// failure ends it.
func RunHooks(kind string, hooks []specs.Hook, state *specs.State, dir string) error {
	for i, h := range hooks {
		if err := runHook(h, state, dir); err != nil {
			return fmt.Errorf("run %s hook %d (%s): %w", kind, i, h.Path, err)
		}
	}
	return nil
}

func runHook(h specs.Hook, state *specs.State, dir string) error {
	in, err := json.Marshal(state)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(in)
	// With what it has started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// What a hook leaves behind may hold its output open: that is not waited for.
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it took longer than %d s", *h.Timeout)
		}
		if words := bytes.TrimSpace(out.Bytes()); len(words) > 0 {
			return fmt.Errorf("%w: %s", err, words)
		}
		return err
	}
	return nil
}
