package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/cli/runflags"
	"muelle/internal/console"
)

// refused words an error of the command line as Docker does.
func (a *app) refused(verb string, err error) error { return a.withHelp(125, verb, err) }

func (a *app) withHelp(code int, verb string, err error) error {
	return statusError{code, fmt.Sprintf("%s: %s\n\nRun '%[1]s %[3]s --help' for more information", a.name(), err, verb)}
}

// failed words an error before the start as Docker does, with the code that it
// stands for: 127 for a missing program, 126 for one that cannot be executed.
func (a *app) failed(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	code := 125
	switch text := err.Error(); {
	case errors.As(err, new(*client.UnreachableError)):
		err = console.Explain(a.where, err)
	case strings.Contains(text, "executable file not found"), strings.Contains(text, "no such file or directory"):
		code = 127
	case strings.Contains(text, syscall.EACCES.Error()), strings.Contains(text, syscall.EISDIR.Error()):
		code = 126
	}
	return a.withHelp(code, "run", err)
}

// runFlags are those of run alone.
type runFlags struct {
	createFlags
	detach     bool
	sigProxy   bool
	detachKeys string
}

func (a *app) run() *cobra.Command {
	f := &runFlags{createFlags: createFlags{verb: "run"}}
	c := a.command("run [OPTIONS] IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image", minArgs(1), func(ctx context.Context, args []string) error {
		spec, err := a.parse(&f.createFlags, args)
		if err != nil {
			return a.refused("run", err)
		}
		return a.runContainer(ctx, f, spec)
	})
	f.register(a, c.Flags())
	c.Flags().BoolVarP(&f.detach, "detach", "d", false, "Run container in background and print container ID")
	c.Flags().BoolVar(&f.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
	c.Flags().StringVar(&f.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	return a.also(c, "container run", "run")
}

func (a *app) runContainer(ctx context.Context, f *runFlags, spec *runflags.Spec) error {
	cfg := spec.Config
	if f.detach {
		if len(f.options.Attach.Values) > 0 {
			return errors.New("conflicting options: cannot specify both --attach and --detach")
		}
		cfg.AttachStdin, cfg.AttachStdout, cfg.AttachStderr, cfg.StdinOnce = false, false, false, false
	} else if err := a.checkTTY(cfg.AttachStdin, cfg.Tty); err != nil {
		return err
	}
	keys, err := a.detachKeys(f.detachKeys)
	if err != nil {
		return err
	}
	f.detachKeys = keys
	api, err := a.api(ctx)
	if err != nil {
		return a.failed(err)
	}
	// A file of the id is written before the container starts, which may have it
	// mounted, and stays with a container that failed to start.
	if f.options.CIDFile != "" {
		return a.runInSteps(ctx, api, f, spec)
	}
	err = a.runAtOnce(ctx, api, f, spec)
	if errors.Is(err, errNoRun) {
		return a.runInSteps(ctx, api, f, spec)
	}
	return err
}

func (a *app) detachKeys(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	return a.configured(func(c *console.DockerConfig) string { return c.DetachKeys })
}

// runInSteps is run by Docker's own calls: create, attach, wait, start.
func (a *app) runInSteps(ctx context.Context, api *client.Client, f *runFlags, spec *runflags.Spec) error {
	id, err := a.createContainer(ctx, &f.createFlags, spec)
	if err != nil {
		return a.failed(err)
	}
	cfg := spec.Config
	attached := cfg.AttachStdin || cfg.AttachStdout || cfg.AttachStderr
	if !attached {
		_, _ = fmt.Fprintln(a.Out, id)
		return a.failed(api.Containers.Start(ctx, id))
	}
	if f.sigProxy {
		defer a.forwardSignals(api, id)()
	}
	// From here signals are the container's business.
	ctx = context.WithoutCancel(ctx)
	conn, err := api.Containers.Attach(ctx, id, client.AttachOptions{Stdin: cfg.AttachStdin, Stdout: cfg.AttachStdout, Stderr: cfg.AttachStderr, Stream: true, DetachKeys: f.detachKeys})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	p := pump{conn: conn, tty: cfg.Tty, stdin: cfg.AttachStdin, stdout: cfg.AttachStdout, stderr: cfg.AttachStderr, detachKeys: f.detachKeys,
		resize: func(ctx context.Context, w, h uint) error { return api.Containers.Resize(ctx, id, w, h) }}
	return a.startAttached(ctx, api, id, spec.HostConfig.AutoRemove, "run", p)
}
