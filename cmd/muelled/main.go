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
	"strconv"
	"strings"
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
	variable := &slog.LevelVar{}
	variable.Set(level)
	log := c.logger(stderr, variable)
	if err := preflight(); err != nil {
		return err
	}
	for _, line := range c.notices() {
		log.Info(line)
	}
	if err := c.ownProcess(); err != nil {
		return err
	}
	ctx, stop := untilSignal(log)
	defer stop()
	err = serve(ctx, stop, &reloader{args: args, now: c, level: variable, log: log}, log)
	return errors.Join(err, cgroup.Leave(api.DaemonCgroup))
}

// logger writes the daemon's log in the format that was asked for.
func (c *config) logger(w io.Writer, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// ownProcess sets what concerns the process itself: its standing before the OOM
// killer, and the proxies, which are read from the environment.
func (c *config) ownProcess() error {
	if c.OOMScoreAdjust != 0 {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(c.OOMScoreAdjust)), 0); err != nil {
			return fmt.Errorf("oom-score-adjust: %w", err)
		}
	}
	for name, v := range map[string]string{"HTTP_PROXY": c.HTTPProxy, "HTTPS_PROXY": c.HTTPSProxy, "NO_PROXY": c.NoProxy} {
		if v == "" {
			continue
		}
		for _, n := range []string{name, strings.ToLower(name)} {
			if err := os.Setenv(n, v); err != nil {
				return fmt.Errorf("set %s: %w", n, err)
			}
		}
	}
	return nil
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
