// Command muelle-registry is a registry on a folder.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"muelle/internal/registry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "muelle-registry:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, errOut io.Writer) error {
	o := registry.Options{}
	quiet := false
	cmd := &cobra.Command{
		Use:           "muelle-registry",
		Short:         "Serve a registry from a folder",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if quiet {
				level = slog.LevelWarn
			}
			o.Log = slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: level}))
			o.Ready = func(addr net.Addr) { o.Log.Info("listening", "addr", addr.String(), "root", o.Root) }
			return registry.Serve(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Addr, "addr", "127.0.0.1:5050", "Address to listen on")
	cmd.Flags().StringVar(&o.Root, "root", "/var/lib/muelle-registry", "Folder of blobs and tags")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "Log warnings only")
	cmd.Flags().BoolVar(&o.AllowInsecure, "allow-insecure", false, "Allow plain HTTP to other machines")
	cmd.SetArgs(args)
	return cmd.ExecuteContext(ctx)
}
