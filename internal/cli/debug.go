package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/internal/console"
)

// debugImage has the tools where the user names no other. The variant is linked
// statically: that is what runs beside any other files.
const debugImage = "busybox:musl"

func (a *app) debug() *cobra.Command {
	var r api.DebugRequest
	var shell, command string
	privileged := true
	c := a.command("debug [OPTIONS] CONTAINER [COMMAND] [ARG...]", "Get a shell with tools in a running container, also one whose image has none", minArgs(1), func(ctx context.Context, args []string) error {
		r.Cmd = args[1:]
		switch {
		case command != "" && len(r.Cmd) > 0:
			return errors.New("-c and a COMMAND exclude each other")
		case command != "":
			r.Cmd = []string{shell, "-c", command}
		case len(r.Cmd) == 0:
			r.Cmd = []string{shell}
		}
		r.Confined = !privileged
		r.Stdin = true
		r.Tty = console.IsTerminal(a.In) && console.IsTerminal(a.Out)
		if w, h := console.Size(a.Out); r.Tty && w > 0 {
			r.ConsoleSize = &[2]uint{h, w}
		}
		return a.debugIn(ctx, args[0], r)
	})
	c.Long = `Get a shell with tools in a running container, also one whose image has none

The tools come from an image of statically linked programs. They are mounted at
/proc/fs, for the session only: the container sees neither them nor the mount.
The session ends with its terminal, and with it whatever it started.`
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&r.Image, "image", debugImage, "Image that has the tools")
	f.StringVar(&shell, "shell", "sh", "Shell to start, a program of that image")
	f.StringVarP(&command, "command", "c", "", "Command line to give to the shell")
	f.StringVarP(&r.User, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]"), root by default`)
	f.StringVarP(&r.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	f.StringArrayVarP(&r.Env, "env", "e", nil, "Set environment variables")
	f.BoolVar(&privileged, "privileged", true, "All capabilities and no seccomp filter; otherwise the container's")
	return c
}

func (a *app) debugIn(ctx context.Context, ref string, r api.DebugRequest) error {
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	id, err := c.Execs.Debug(ctx, ref, r)
	if errdefs.IsNotFound(err) {
		if _, ierr := c.Containers.Inspect(ctx, ref); ierr != nil {
			return ierr
		}
		if perr := a.pullImage(ctx, r.Image, "", false, true); perr != nil {
			return fmt.Errorf("the tools' image %s is not here and cannot be pulled: name another with --image: %w", r.Image, perr)
		}
		id, err = c.Execs.Debug(ctx, ref, r)
	}
	if err != nil {
		return err
	}
	x := container.ExecCreateRequest{Tty: r.Tty, AttachStdin: true, AttachStdout: true, AttachStderr: true, ConsoleSize: r.ConsoleSize}
	return a.execStart(ctx, c, id, x, false)
}
