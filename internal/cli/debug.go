package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

// debugImage has the tools where neither the user nor his configuration names another.
// The variant is linked statically: that is what runs beside any other files.
const debugImage = "busybox:musl"

func (a *app) debug() *cobra.Command {
	var r api.DebugRequest
	var shell, command string
	privileged, tty := true, false
	c := a.command("debug [OPTIONS] CONTAINER|IMAGE [COMMAND] [ARG...]", "Get a shell with tools in a container, also one that has none or does not run, or in an image", minArgs(1), func(ctx context.Context, args []string) error {
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
		if tty && !r.Tty {
			return errors.New("the input device is not a TTY")
		}
		if w, h := console.Size(a.Out); r.Tty && w > 0 {
			r.ConsoleSize = &[2]uint{h, w}
		}
		return a.debugIn(ctx, args[0], r)
	})
	c.Long = `Get a shell with tools in a container, also one that has none or does not run, or in an image

The tools come from an image. Statically linked ones are mounted at /proc/fs, for the
session only: the container sees neither them nor the mount. Otherwise the tools are the
root directory of the session, and the container's files are at /target.

Of a container that does not run the session has the files and volumes, with namespaces of
its own; the container cannot be started meanwhile. What it changes in an image's files is
thrown away. The session ends with its terminal, and with it whatever it started.`
	f := c.Flags()
	f.SetInterspersed(false)
	f.StringVar(&r.Image, "image", "", `Image that has the tools (default "`+debugImage+`", or "plugins": {"debug": {"image": ...}} of config.json)`)
	f.StringVar(&r.Root, "root", "", `Whose files are at "/": "container", or "tools" with the container's at /target (default: container if the shell is statically linked)`)
	f.StringVar(&r.Network, "network", "", "Network for an image or a container that does not run (default none)")
	f.StringVar(&shell, "shell", "sh", "Shell to start, a program of that image")
	f.StringVarP(&command, "command", "c", "", "Command line to give to the shell")
	f.StringVarP(&r.User, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]"), root by default`)
	f.StringVarP(&r.WorkingDir, "workdir", "w", "", "Working directory inside the container")
	f.StringArrayVarP(&r.Env, "env", "e", nil, "Set environment variables")
	f.BoolP("interactive", "i", true, "Keep STDIN open, as a session always does")
	f.BoolVarP(&tty, "tty", "t", false, "Insist on a terminal; without it there is one where the client has one")
	f.BoolVar(&privileged, "privileged", true, "All capabilities and no seccomp filter; otherwise the container's")
	return c
}

func (a *app) debugIn(ctx context.Context, ref string, r api.DebugRequest) error {
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	if r.Image == "" {
		configured, err := a.configured(func(c *console.DockerConfig) string { return c.Plugins["debug"]["image"] })
		if err != nil {
			return err
		}
		r.Image = cmp.Or(configured, debugImage)
	}
	id, err := c.Execs.Debug(ctx, ref, r)
	if errdefs.IsNotFound(err) {
		if terr := a.fetchTools(ctx, c, ref, r.Image); terr != nil {
			return terr
		}
		id, err = c.Execs.Debug(ctx, ref, r)
	}
	if err != nil {
		return err
	}
	x := container.ExecCreateRequest{Tty: r.Tty, AttachStdin: true, AttachStdout: true, AttachStderr: true, ConsoleSize: r.ConsoleSize}
	return a.execStart(ctx, c, id, x, false)
}

// fetchTools pulls the image that has the tools, where it is missing and what is to be
// debugged is not.
func (a *app) fetchTools(ctx context.Context, c *client.Client, ref, tools string) error {
	if _, err := c.Images.Inspect(ctx, tools); !errdefs.IsNotFound(err) {
		return err
	}
	if _, err := c.Containers.Inspect(ctx, ref); errdefs.IsNotFound(err) {
		if _, err := c.Images.Inspect(ctx, ref); errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) { // no name of an image either
			return errdefs.ErrNotFound.WithMessage("No such container or image: " + ref)
		}
	}
	if err := a.pullImage(ctx, tools, "", false, true); err != nil {
		return fmt.Errorf("the tools' image %s is not here and cannot be pulled: name another with --image: %w", tools, err)
	}
	return nil
}
