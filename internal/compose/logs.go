package compose

import (
	"context"
	"slices"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/compose/display"
)

func (a *app) logsCommand() *cobra.Command {
	var follow, timestamps, noColor, noPrefix bool
	var since, until, tail string
	var index int
	cmd := &cobra.Command{
		Use:   "logs [OPTIONS] [SERVICE...]",
		Short: "View output from containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, true, func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error {
				ctx, stop := interruptible(ctx)
				defer stop()
				if index > 0 {
					list = slices.DeleteFunc(list, func(m container.Summary) bool { return number(m) != index })
				}
				// Everything is this command's output, as Docker Compose has it: for less and grep.
				logs := display.NewLogs(a.Out, a.Out, !noColor && a.color(a.Out), !noPrefix)
				o := client.LogOptions{Stdout: true, Stderr: true, Timestamps: timestamps, Since: since, Until: until, Tail: tail}
				for _, m := range list {
					logs.Register(shortName(s.name, m.Labels, containerName(m)))
				}
				if follow {
					return a.followLogs(ctx, c, s, services, list, logs, o)
				}
				for _, m := range list {
					if err := copyLogs(ctx, c, m.ID, shortName(s.name, m.Labels, containerName(m)), logs, o); err != nil {
						return err
					}
				}
				return interrupted(ctx, ctx.Err())
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "Follow log output")
	f.IntVar(&index, "index", 0, "index of the container if service has multiple replicas")
	f.StringVar(&since, "since", "", "Show logs since timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)")
	f.StringVar(&until, "until", "", "Show logs before a timestamp (e.g. 2013-01-02T13:23:37Z) or relative (e.g. 42m for 42 minutes)")
	f.BoolVar(&noColor, "no-color", false, "Produce monochrome output")
	f.BoolVar(&noPrefix, "no-log-prefix", false, "Don't print prefix in logs")
	f.BoolVarP(&timestamps, "timestamps", "t", false, "Show timestamps")
	f.StringVarP(&tail, "tail", "n", "all", "Number of lines to show from the end of the logs for each container")
	return cmd
}

// followLogs prints what there is and what comes, of new containers too, until
// nothing runs any more.
func (a *app) followLogs(ctx context.Context, c *client.Client, s scope, services []string, list []container.Summary, logs *display.Logs, o client.LogOptions) error {
	for _, m := range list {
		if isStopped(m) {
			if err := copyLogs(ctx, c, m.ID, shortName(s.name, m.Labels, containerName(m)), logs, o); err != nil {
				return err
			}
		}
	}
	f, err := newFollower(ctx, c, s.name, logs, o, services, nil)
	if err != nil {
		return err
	}
	f.begin(ctx, false)
	f.settle(nil)
	defer f.close()
	select {
	case <-f.idle:
		return nil
	case <-ctx.Done():
		return &exitError{code: 130}
	}
}
