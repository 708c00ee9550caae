package compose

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
)

func (a *app) killCommand() *cobra.Command {
	var sig string
	var orphans bool
	cmd := &cobra.Command{
		Use:   "kill [OPTIONS] [SERVICE...]",
		Short: "Force stop service containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, false, func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error {
				known := s.known()
				list = slices.DeleteFunc(list, func(m container.Summary) bool {
					return !orphans && known != nil && !slices.Contains(known, m.Labels[api.LabelService])
				})
				if len(list) == 0 {
					_, err := fmt.Fprintln(a.Err, "no container to kill")
					return err
				}
				return a.each(ctx, "kill", "Killing", "Killed", list, func(ctx context.Context, m container.Summary) error {
					return c.Containers.Kill(ctx, m.ID, sig)
				})
			})
		},
	}
	cmd.Flags().StringVarP(&sig, "signal", "s", "SIGKILL", "SIGNAL to send to the container")
	cmd.Flags().BoolVar(&orphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	return cmd
}

func (a *app) rmCommand() *cobra.Command {
	var force, stop, volumes, all bool
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] [SERVICE...]",
		Short: "Removes stopped service containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, true, func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error {
				if stop {
					err := a.each(ctx, "stop", "Stopping", "Stopped", slices.DeleteFunc(slices.Clone(list), isStopped), func(ctx context.Context, m container.Summary) error {
						return c.Containers.Stop(ctx, m.ID, client.StopOptions{})
					})
					if err != nil {
						return err
					}
				} else {
					list = slices.DeleteFunc(list, func(m container.Summary) bool { return !isStopped(m) })
				}
				if len(list) == 0 {
					_, err := fmt.Fprintln(a.Err, "No stopped containers")
					return err
				}
				if !force {
					ok, err := a.confirm("Going to remove " + names(list))
					if err != nil || !ok {
						return err
					}
				}
				return a.each(ctx, "remove", "Removing", "Removed", list, func(ctx context.Context, m container.Summary) error {
					return c.Containers.Remove(ctx, m.ID, client.RemoveOptions{Force: force || stop, Volumes: volumes})
				})
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&force, "force", "f", false, "Don't ask to confirm removal")
	f.BoolVarP(&stop, "stop", "s", false, "Stop the containers, if required, before removing")
	f.BoolVarP(&volumes, "volumes", "v", false, "Remove any anonymous volumes attached to containers")
	f.BoolVarP(&all, "all", "a", false, "Deprecated - no effect")
	if err := f.MarkHidden("all"); err != nil {
		panic(err)
	}
	return cmd
}

func isStopped(m container.Summary) bool {
	return m.State != container.StateRunning && m.State != container.StatePaused && m.State != container.StateRestarting
}

func names(list []container.Summary) string {
	var out []string
	for _, m := range list {
		out = append(out, containerName(m))
	}
	return strings.Join(out, ", ")
}

// confirm asks on the terminal; without one the answer is no.
func (a *app) confirm(question string) (bool, error) {
	if _, err := fmt.Fprintf(a.Err, "? %s? [yN] ", question); err != nil {
		return false, err
	}
	var answer string
	if _, err := fmt.Fscanln(a.In, &answer); err != nil {
		// No answer, or an empty one, is no.
		return false, nil
	}
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
}
