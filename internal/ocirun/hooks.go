package ocirun

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/shimapi"
)

// allHooks names a document's hooks by their kind.
func allHooks(h *specs.Hooks) map[string][]specs.Hook {
	if h == nil {
		return nil
	}
	return map[string][]specs.Hook{
		//lint:ignore SA1019 Prestart is deprecated, and still used
		"prestart": h.Prestart, "createRuntime": h.CreateRuntime, "createContainer": h.CreateContainer,
		"startContainer": h.StartContainer, "poststart": h.Poststart, "poststop": h.Poststop,
	}
}

// hooks are those of one kind.
func (r *record) hooks(kind string) []specs.Hook { return allHooks(r.Config.Hooks)[kind] }

// runHooks runs the hooks of a kind in this process's namespaces; the first failure
// ends it.
func (r *record) runHooks(kind string, status specs.ContainerState) error {
	for i, h := range r.hooks(kind) {
		if err := r.runHook(h, status); err != nil {
			return fmt.Errorf("run %s hook %d (%s): %w", kind, i, h.Path, err)
		}
	}
	return nil
}

func (r *record) runHook(h specs.Hook, status specs.ContainerState) error {
	in, err := json.Marshal(r.state(status))
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
	cmd.Dir = r.Bundle
	cmd.Stdin = bytes.NewReader(in)
	// What a hook leaves behind may hold its output open: that is not waited for.
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("it took longer than %d s", *h.Timeout)
		}
		if words := bytes.TrimSpace(out.Bytes()); len(words) > 0 {
			return fmt.Errorf("%w: %s", err, words)
		}
		return err
	}
	return nil
}

// stageHooks are hooks for the stage to run.
func stageHooks(in []specs.Hook) (out []shimapi.Hook) {
	for _, h := range in {
		one := shimapi.Hook{Path: h.Path, Args: h.Args, Env: h.Env}
		if h.Timeout != nil {
			one.Timeout = *h.Timeout
		}
		out = append(out, one)
	}
	return out
}
