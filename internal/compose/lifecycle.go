package compose

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
)

func (a *app) createCommand() *cobra.Command {
	var o upFlags
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [SERVICE...]",
		Short: "Creates containers for a service",
		RunE: func(cmd *cobra.Command, services []string) error {
			o.noStart = true
			if err := o.check(); err != nil {
				return err
			}
			return a.up(cmd, &o, services)
		},
	}
	o.createFlags(cmd)
	return cmd
}

func (a *app) scaleCommand() *cobra.Command {
	var o upFlags
	cmd := &cobra.Command{
		Use:   "scale [SERVICE=REPLICAS...]",
		Short: "Scale services",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scale, err := parseScale(args)
			if err != nil {
				return err
			}
			var services []string
			for name := range scale {
				services = append(services, name)
			}
			slices.Sort(services)
			o.scale, o.detach, o.noRecreate = args, true, true
			return a.up(cmd, &o, services)
		},
	}
	cmd.Flags().BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	return cmd
}

func (a *app) startCommand() *cobra.Command {
	var wait bool
	var waitTimeout int
	cmd := &cobra.Command{
		Use:   "start [SERVICE...]",
		Short: "Start services",
		RunE: func(cmd *cobra.Command, services []string) error {
			o := api.ProjectActionOptions{Services: services, Wait: wait, WaitTimeout: time.Duration(waitTimeout) * time.Second}
			return a.projectAction(cmd.Context(), "start", services, func(ctx context.Context, c *client.Client, name string, line func(api.ProjectProgress)) error {
				return c.Projects.Start(ctx, name, o, line)
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "Wait for services to be running|healthy. Implies detached mode.")
	cmd.Flags().IntVar(&waitTimeout, "wait-timeout", 0, "Maximum duration in seconds to wait for the project to be running|healthy")
	return cmd
}

func (a *app) stopCommand() *cobra.Command {
	var timeout int
	cmd := &cobra.Command{
		Use:   "stop [OPTIONS] [SERVICE...]",
		Short: "Stop services",
		RunE: func(cmd *cobra.Command, services []string) error {
			o := api.ProjectActionOptions{Services: services, Timeout: seconds(cmd, "timeout", timeout)}
			return a.projectAction(cmd.Context(), "stop", services, func(ctx context.Context, c *client.Client, name string, line func(api.ProjectProgress)) error {
				// Nothing to stop is no failure.
				if err := c.Projects.Stop(ctx, name, o, line); !errdefs.IsNotFound(err) {
					return err
				}
				return nil
			})
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	return cmd
}

func (a *app) restartCommand() *cobra.Command {
	var timeout int
	var noDeps bool
	cmd := &cobra.Command{
		Use:   "restart [OPTIONS] [SERVICE...]",
		Short: "Restart service containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			o := api.ProjectActionOptions{Services: services, NoDeps: noDeps, Timeout: seconds(cmd, "timeout", timeout)}
			return a.projectAction(cmd.Context(), "restart", services, func(ctx context.Context, c *client.Client, name string, line func(api.ProjectProgress)) error {
				return c.Projects.Restart(ctx, name, o, line)
			})
		},
	}
	cmd.Flags().IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	cmd.Flags().BoolVar(&noDeps, "no-deps", false, "Don't restart dependent services")
	return cmd
}

func (a *app) pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pause [SERVICE...]",
		Short: "Pause services",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, false, func(ctx context.Context, c *client.Client, _ scope, list []container.Summary) error {
				return a.each(ctx, "pause", "Pausing", "Paused", list, func(ctx context.Context, m container.Summary) error { return c.Containers.Pause(ctx, m.ID) })
			})
		},
	}
}

func (a *app) unpauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unpause [SERVICE...]",
		Short: "Unpause services",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, false, func(ctx context.Context, c *client.Client, _ scope, list []container.Summary) error {
				return a.each(ctx, "unpause", "Unpausing", "Unpaused", list, func(ctx context.Context, m container.Summary) error { return c.Containers.Unpause(ctx, m.ID) })
			})
		},
	}
}

func (a *app) waitCommand() *cobra.Command {
	var downProject bool
	cmd := &cobra.Command{
		Use:   "wait SERVICE [SERVICE...] [OPTIONS]",
		Short: "Block until containers of all (or specified) services stop.",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, false, func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error {
				ctx, stop := interruptible(ctx)
				defer stop()
				if len(list) == 0 {
					return fmt.Errorf("no containers for project %q", s.name)
				}
				code := 0
				for _, m := range list {
					result, err := c.Containers.Wait(ctx, m.ID, container.WaitConditionNotRunning)
					if err != nil {
						return interrupted(ctx, err)
					}
					r, err := result()
					if err != nil {
						return interrupted(ctx, err)
					}
					if _, err := fmt.Fprintf(a.Out, "container %q exited with status code %d\n", m.ID[:12], r.StatusCode); err != nil {
						return err
					}
					code = int(r.StatusCode)
				}
				if downProject {
					if err := c.Projects.Down(ctx, s.name, api.ProjectDownOptions{Known: s.known()}, nil); err != nil {
						return err
					}
				}
				if code != 0 {
					return &exitError{code: code}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&downProject, "down-project", false, "Drops project when the first container stops")
	return cmd
}
