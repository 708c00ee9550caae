// Package cli is the muelle command: Docker's verbs, flags, tables and texts over
// the daemon's API. It translates and prints; what happens is decided by the
// daemon.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

// Build says what was built, for version.
type Build struct {
	Version, Commit, Time string
}

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is one run of the program.
type app struct {
	Streams
	build  Build
	where  *console.Options
	client *client.Client
	// wanted is the subcommand that the arguments name: only its flags are defined,
	// the others are named for the help text. Empty means all.
	wanted string
}

// statusError ends the program with a code, and a text unless that is empty.
type statusError struct {
	code int
	text string
}

func (e statusError) Error() string { return e.text }

// Run runs the command line in args, args[0] being the program's name, and returns
// the exit code.
func Run(ctx context.Context, args []string, s Streams, b Build) int {
	a := &app{Streams: s, build: b, where: console.NewOptions(args[0])}
	a.where.Stderr = s.Err
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer a.watchSignals(cancel)()
	a.wanted = firstCommand(args[1:])
	if err := a.execExtension(args); err != nil {
		return a.exitCode(ctx, err)
	}
	root := a.root()
	if a.wanted == "" && a.name() == "docker" {
		a.listExtensions(ctx, root)
	}
	if command, yes := completing(args[1:]); yes {
		if program := partOf(command); program != "" {
			return a.exitCode(ctx, a.execPart(program, completeIn(args[1:], command)))
		}
		a.completeFlags(root, "")
	}
	root.SetArgs(args[1:])
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	if a.client != nil {
		_ = a.client.Close()
	}
	return a.exitCode(ctx, err)
}

func (a *app) exitCode(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if sig := new(signalError); errors.As(context.Cause(ctx), sig) && errors.Is(err, context.Canceled) {
		return 128 + int(sig.Signal)
	}
	if st := new(statusError); errors.As(err, st) {
		if st.text != "" {
			_, _ = fmt.Fprintln(a.Err, st.text)
		}
		return st.code
	}
	if text := console.Explain(a.where, err).Error(); text != "" {
		_, _ = fmt.Fprintln(a.Err, text)
	}
	return 1
}

type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return e.Signal.String() }

// watchSignals cancels the context at the first SIGINT or SIGTERM, and ends the
// program at the third: by then somebody means it.
func (a *app) watchSignals(cancel context.CancelCauseFunc) (stop func()) {
	ch := make(chan os.Signal, 3)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for n := 1; ; n++ {
			select {
			case <-done:
				return
			case s := <-ch:
				cancel(signalError{s.(syscall.Signal)})
				if n == 3 {
					_, _ = fmt.Fprintln(a.Err, "\ngot 3 SIGTERM/SIGINTs, forcefully exiting")
					os.Exit(1)
				}
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(done)
	}
}

// api returns the client, made at its first use: commands that need no daemon never
// look for one.
func (a *app) api(ctx context.Context) (*client.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	a.where.UserAgent = "Muelle-Client/" + a.build.Version + " (linux)"
	c, err := console.Connect(ctx, a.where)
	if err != nil {
		return nil, err
	}
	a.client = c
	return c, nil
}

// name is what the program calls itself in texts: muelle or docker.
func (a *app) name() string { return a.where.Name }

// command makes a cobra command in Docker's manner.
func (a *app) command(use, short string, args cobra.PositionalArgs, run func(ctx context.Context, args []string) error) *cobra.Command {
	c := &cobra.Command{
		Use:                   use,
		Short:                 short,
		Args:                  args,
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     a.complete(use),
	}
	if run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args) }
	}
	return c
}

// group makes a command that only has subcommands.
func (a *app) group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := a.command(use, short, noArgs, nil)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SetOut(a.Err)
		return cmd.Help()
	}
	c.AddCommand(subs...)
	return c
}

// firstCommand finds the subcommand's name among the arguments: the first that is
// neither a global flag nor one's value. Empty where all commands are needed, for
// help and completion.
func firstCommand(args []string) string {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--":
			return ""
		case a == "-H", a == "-c", a == "-l", a == "--host", a == "--context", a == "--config", a == "--log-level", a == "--tlscacert", a == "--tlscert", a == "--tlskey":
			i++
		case len(a) > 0 && a[0] == '-':
		case a == "help", a == "completion", a == "__complete", a == "__completeNoDesc":
			return ""
		default:
			return a
		}
	}
	return ""
}
