// Command muelle-build is the part of the command line that needs BuildKit's
// client: muelle executes it for build, bake and builder.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/containerd/log"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/buildclient"
	"muelle/internal/console"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// BuildKit's client logs what it also returns, and remarks that no user can act on.
	if err := log.SetLevel("panic"); err != nil {
		panic(err) // the level's name was mistyped
	}
	a := &app{o: console.NewOptions(os.Getenv("MUELLE_NAME")), in: os.Stdin, out: os.Stdout, err: os.Stderr}
	code := a.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// app is one run of the program.
type app struct {
	o        *console.Options
	in       io.Reader
	out, err io.Writer
}

// run gives the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	root := &cobra.Command{
		Use: a.o.Name, Short: "Build images",
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	console.SetHelp(root, a.o.Name)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetArgs(args)
	root.PersistentFlags().SortFlags = false
	a.o.RegisterFlags(root.PersistentFlags())
	// muelle hands on its global flags; builds have no use for these two.
	root.PersistentFlags().BoolP("debug", "D", false, "Enable debug mode")
	root.PersistentFlags().StringP("log-level", "l", "info", "Set the logging level")
	root.AddCommand(a.buildCommand(), a.bakeCommand(), a.builderCommand("builder"), a.builderCommand("buildx"))
	image := &cobra.Command{Use: "image", Hidden: true}
	image.AddCommand(a.buildCommand())
	root.AddCommand(image)

	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		fmt.Fprintln(a.err, "ERROR: failed to build: failed to solve: Canceled: context canceled")
		return 130
	}
	failed := new(buildclient.Failure)
	if errors.As(err, &failed) {
		fmt.Fprintf(a.err, "%sERROR: failed to build: %v\n", failed.Excerpt, err)
		return 1
	}
	fmt.Fprintf(a.err, "ERROR: %v\n", console.Explain(a.o, err))
	return 1
}

// connect finds the daemon, and starts it where that is ours to do.
func (a *app) connect(ctx context.Context) (*client.Client, error) {
	return console.Connect(ctx, a.o)
}

func (a *app) bakeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "bake [OPTIONS] [TARGET...]", Short: "Build from a file",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("bake is not supported yet: build each image with \"" + a.o.Name + " build\", or several with \"" + a.o.Name + " compose build\"")
		},
	}
}
