package compose

import (
	"context"
	"errors"
	"io"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

func (a *app) execCommand() *cobra.Command {
	var detach, privileged, noTTY bool
	var interactive, tty bool
	var index int
	var user, workdir string
	var env []string
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] SERVICE COMMAND [ARGS...]",
		Short: "Execute a command in a running container",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := a.scope(ctx)
			if err != nil {
				return err
			}
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			m, err := a.one(ctx, c, s, args[0], index)
			if err != nil {
				return err
			}
			terminal := !noTTY && !detach && console.IsTerminal(a.In) && console.IsTerminal(a.Out)
			id, err := c.Execs.Create(ctx, m.ID, container.ExecCreateRequest{
				User: user, Privileged: privileged, Tty: terminal, Env: env, WorkingDir: workdir, Cmd: args[1:],
				AttachStdin: !detach && interactive, AttachStdout: !detach, AttachStderr: !detach,
			})
			if err != nil {
				return err
			}
			if detach {
				return c.Execs.Start(ctx, id, container.ExecStartRequest{Detach: true})
			}
			return a.execAttached(ctx, c, id, terminal, interactive)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&detach, "detach", "d", false, "Detached mode: Run command in the background")
	f.StringArrayVarP(&env, "env", "e", nil, "Set environment variables")
	f.IntVar(&index, "index", 0, "Index of the container if service has multiple replicas")
	f.BoolVar(&privileged, "privileged", false, "Give extended privileges to the process")
	f.StringVarP(&user, "user", "u", "", "Run the command as this user")
	f.BoolVarP(&noTTY, "no-tty", "T", false, "Disable pseudo-TTY allocation. By default 'docker compose exec' allocates a TTY.")
	f.StringVarP(&workdir, "workdir", "w", "", "Path to workdir directory for this command")
	f.BoolVarP(&interactive, "interactive", "i", true, "Keep STDIN open even if not attached")
	f.BoolVarP(&tty, "tty", "t", true, "Allocate a pseudo-TTY")
	for _, name := range []string{"interactive", "tty"} {
		if err := f.MarkHidden(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

func (a *app) execAttached(ctx context.Context, c *client.Client, id string, terminal, interactive bool) error {
	start := container.ExecStartRequest{Tty: terminal}
	if terminal {
		if w, h := console.Size(a.Out); w > 0 && h > 0 {
			start.ConsoleSize = &[2]uint{h, w}
		}
	}
	conn, err := c.Execs.Attach(ctx, id, start)
	if err != nil {
		return err
	}
	err = a.stream(ctx, conn, terminal, interactive, func(ctx context.Context, w, h uint) error { return c.Execs.Resize(ctx, id, w, h) })
	if err != nil {
		return err
	}
	info, err := c.Execs.Inspect(ctx, id)
	if err != nil {
		return err
	}
	if info.ExitCode != nil && *info.ExitCode != 0 {
		return &exitError{code: *info.ExitCode}
	}
	return nil
}

// stream joins the program's streams to a container's until its output ends.
func (a *app) stream(ctx context.Context, conn *client.Conn, terminal, interactive bool, resize func(ctx context.Context, w, h uint) error) error {
	defer func() { _ = conn.Close() }()
	if terminal {
		restore, err := console.Raw(a.In, a.Out)
		if err != nil {
			return err
		}
		defer restore()
		stop := console.OnResize(ctx, a.Out, func(ctx context.Context, w, h uint) {
			// The process may be gone by now.
			_ = resize(ctx, w, h)
		})
		defer stop()
	}
	if interactive {
		// Not waited for: a read of the terminal cannot be interrupted, and the program
		// ends after the output did.
		go func() {
			_, err := io.Copy(conn, a.In)
			if err == nil {
				_ = conn.CloseWrite()
			}
		}()
	}
	var err error
	if terminal {
		_, err = io.Copy(a.Out, conn)
	} else {
		_, err = stdcopy.StdCopy(a.Out, a.Err, conn)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
