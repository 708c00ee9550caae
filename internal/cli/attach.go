package cli

import (
	"context"
	"errors"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/cli/runflags"
	"muelle/internal/console"
)

func attachable(c container.InspectResponse) error {
	switch {
	case c.State == nil || !c.State.Running:
		//lint:ignore ST1005 Docker's own text
		return errors.New("You cannot attach to a stopped container, start it first")
	case c.State.Paused:
		//lint:ignore ST1005 Docker's own text
		return errors.New("You cannot attach to a paused container, unpause it first")
	case c.State.Restarting:
		//lint:ignore ST1005 Docker's own text
		return errors.New("You cannot attach to a restarting container, wait until it is running")
	}
	return nil
}

func (a *app) attach() *cobra.Command {
	var noStdin, sigProxy bool
	var keys string
	c := a.command("attach [OPTIONS] CONTAINER", "Attach local standard input, output, and error streams to a running container", exactArgs(1),
		func(ctx context.Context, args []string) error {
			return a.attachTo(ctx, args[0], !noStdin, sigProxy, keys)
		})
	f := c.Flags()
	f.BoolVar(&noStdin, "no-stdin", false, "Do not attach STDIN")
	f.BoolVar(&sigProxy, "sig-proxy", true, "Proxy all received signals to the process")
	f.StringVar(&keys, "detach-keys", "", "Override the key sequence for detaching a container")
	return a.also(c, "container attach", "attach")
}

func (a *app) attachTo(ctx context.Context, ref string, stdin, sigProxy bool, keys string) error {
	api, err := a.api(ctx)
	if err != nil {
		return err
	}
	info, err := api.Containers.Inspect(ctx, ref)
	if err == nil {
		err = attachable(info)
	}
	if err != nil {
		return err
	}
	tty := info.Config.Tty
	if err := a.checkTTY(stdin, tty); err != nil {
		return err
	}
	if keys, err = a.detachKeys(keys); err != nil {
		return err
	}
	end, err := api.Containers.Wait(context.WithoutCancel(ctx), info.ID, "")
	if err != nil {
		return err
	}
	if sigProxy && !tty {
		defer a.forwardSignals(api, info.ID)()
		ctx = context.WithoutCancel(ctx)
	}
	o := client.AttachOptions{Stdin: stdin && info.Config.OpenStdin, Stdout: true, Stderr: true, Stream: true, DetachKeys: keys}
	conn, err := api.Containers.Attach(ctx, info.ID, o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	resize := func(ctx context.Context, w, h uint) error { return api.Containers.Resize(ctx, info.ID, w, h) }
	if w, h := console.Size(a.Out); tty && (w > 0 || h > 0) {
		// Only a change makes a program draw its screen again.
		_ = resize(ctx, w+1, h+1)
	}
	p := pump{conn: conn, tty: tty, stdin: o.Stdin, stdout: true, stderr: true, detachKeys: keys, resize: resize}
	if err := a.copyStreams(ctx, p); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	r, err := end()
	if err != nil {
		return err
	}
	if r.Error != nil && r.Error.Message != "" {
		return errors.New(r.Error.Message)
	}
	return exitStatus(r)
}

func (a *app) start() *cobra.Command {
	var attach, stdin bool
	var keys, checkpoint, checkpointDir string
	c := a.command("start [OPTIONS] CONTAINER [CONTAINER...]", "Start one or more stopped containers", minArgs(1), func(ctx context.Context, args []string) error {
		if checkpoint != "" || checkpointDir != "" {
			return errors.New("checkpoints are not supported: writing a running process to disk takes CRIU, and Muelle runs without other programs")
		}
		if !attach && !stdin {
			return a.startAll(ctx, args)
		}
		if len(args) > 1 {
			return errors.New("you cannot start and attach multiple containers at once")
		}
		return a.startOne(ctx, args[0], stdin, keys)
	})
	f := c.Flags()
	f.BoolVarP(&attach, "attach", "a", false, "Attach STDOUT/STDERR and forward signals")
	f.BoolVarP(&stdin, "interactive", "i", false, "Attach container's STDIN")
	f.StringVar(&keys, "detach-keys", "", "Override the key sequence for detaching a container")
	f.StringVar(&checkpoint, "checkpoint", "", "Restore from this checkpoint")
	f.StringVar(&checkpointDir, "checkpoint-dir", "", "Use a custom checkpoint storage directory")
	return a.also(c, "container start", "start")
}

func (a *app) startAll(ctx context.Context, refs []string) error {
	api, err := a.api(ctx)
	if err != nil {
		return err
	}
	return a.oneByOne(refs, "failed to start containers", func(ref string) error { return api.Containers.Start(ctx, ref) })
}

func (a *app) startOne(ctx context.Context, ref string, stdin bool, keys string) error {
	api, err := a.api(ctx)
	if err != nil {
		return err
	}
	info, err := api.Containers.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if keys, err = a.detachKeys(keys); err != nil {
		return err
	}
	tty := info.Config.Tty
	if !tty {
		defer a.forwardSignals(api, info.ID)()
		ctx = context.WithoutCancel(ctx)
	}
	o := client.AttachOptions{Stdin: stdin && info.Config.OpenStdin, Stdout: true, Stderr: true, Stream: true, DetachKeys: keys}
	conn, err := api.Containers.Attach(ctx, info.ID, o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	p := pump{conn: conn, tty: tty, stdin: o.Stdin, stdout: true, stderr: true, detachKeys: keys,
		resize: func(ctx context.Context, w, h uint) error { return api.Containers.Resize(ctx, info.ID, w, h) }}
	return a.startAttached(ctx, api, info.ID, info.HostConfig.AutoRemove, "start", p)
}

func (a *app) exec() *cobra.Command {
	var r container.ExecCreateRequest
	var detach, stdin bool
	env := runflags.List{Check: runflags.CheckEnv}
	var envFile runflags.List
	c := a.command("exec [OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container", minArgs(2), func(ctx context.Context, args []string) error {
		var err error
		if r.Env, err = runflags.Env(envFile.Values, env.Values); err != nil {
			return err
		}
		if r.DetachKeys, err = a.detachKeys(r.DetachKeys); err != nil {
			return err
		}
		r.Cmd = args[1:]
		if !detach {
			r.AttachStdin, r.AttachStdout, r.AttachStderr = stdin, true, true
		}
		if w, h := console.Size(a.Out); r.Tty && w > 0 {
			r.ConsoleSize = &[2]uint{h, w}
		}
		return a.execIn(ctx, args[0], r, detach)
	})
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&r.DetachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	f.BoolVarP(&stdin, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.BoolVarP(&r.Tty, "tty", "t", false, "Allocate a pseudo-TTY")
	f.BoolVarP(&detach, "detach", "d", false, "Detached mode: run command in the background")
	f.StringVarP(&r.User, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]")`)
	f.BoolVar(&r.Privileged, "privileged", false, "Give extended privileges to the command")
	f.VarP(&env, "env", "e", "Set environment variables")
	f.Var(&envFile, "env-file", "Read in a file of environment variables")
	f.StringVarP(&r.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	return a.also(c, "container exec", "exec")
}

func (a *app) execIn(ctx context.Context, ref string, r container.ExecCreateRequest, detach bool) error {
	api, err := a.api(ctx)
	if err != nil {
		return err
	}
	if err := a.checkTTY(r.AttachStdin, r.Tty); err != nil && !detach {
		// That there is no such container matters more.
		if _, ierr := api.Containers.Inspect(ctx, ref); ierr != nil {
			return ierr
		}
		return err
	}
	id, err := api.Execs.Create(ctx, ref, r)
	if err != nil {
		return err
	}
	return a.execStart(ctx, api, id, r, detach)
}

// execStart starts a prepared exec, connects its streams and gives its exit status.
func (a *app) execStart(ctx context.Context, api *client.Client, id string, r container.ExecCreateRequest, detach bool) error {
	start := container.ExecStartRequest{Detach: detach, Tty: r.Tty, ConsoleSize: r.ConsoleSize}
	if detach {
		return api.Execs.Start(ctx, id, start)
	}
	conn, err := api.Execs.Attach(ctx, id, start)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	p := pump{conn: conn, tty: r.Tty, stdin: r.AttachStdin, stdout: true, stderr: true, detachKeys: r.DetachKeys,
		resize: func(ctx context.Context, w, h uint) error { return api.Execs.Resize(ctx, id, w, h) }}
	if err := a.copyStreams(ctx, p); err != nil {
		return err
	}
	info, err := api.Execs.Inspect(ctx, id)
	if err != nil {
		if errors.As(err, new(*client.UnreachableError)) {
			return statusError{255, ""}
		}
		return err
	}
	if info.ExitCode != nil && *info.ExitCode != 0 {
		return statusError{*info.ExitCode, ""}
	}
	return nil
}
