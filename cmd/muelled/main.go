// Command muelled is Muelle's daemon: it reads flags and daemon.json, takes its
// places, wires the services together and serves the Docker Engine API until it is
// told to stop.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/cgroup"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "muelled: "+err.Error())
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stdout)
	if err != nil {
		return err
	}
	switch {
	case c.showVersion:
		_, err := fmt.Fprintf(stdout, "Muelle version %s\n", api.Version)
		return err
	case c.validate:
		_, err := fmt.Fprintln(stdout, "configuration OK")
		return err
	}
	level, err := c.level()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if err := preflight(); err != nil {
		return err
	}
	ctx, stop := untilSignal(log)
	defer stop()
	err = serve(ctx, stop, c, log)
	return errors.Join(err, cgroup.Leave(api.DaemonCgroup))
}

// level is the lowest level that is logged.
func (c *config) level() (slog.Level, error) {
	if c.Debug {
		return slog.LevelDebug, nil
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return 0, fmt.Errorf("invalid logging level: %s", c.LogLevel)
	}
	return l, nil
}

// untilSignal gives a context that the first SIGTERM or SIGINT ends; after the
// third one the daemon ends at once, as Docker's.
func untilSignal(log *slog.Logger) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGPIPE)
	var count atomic.Int32
	go func() {
		for s := range signals {
			if count.Add(1) >= 3 {
				log.Warn("forcing shutdown without clean-up", "signal", s.String())
				os.Exit(128 + int(s.(unix.Signal)))
			}
			log.Info("shutting down", "signal", s.String())
			cancel()
		}
	}()
	return ctx, cancel
}
