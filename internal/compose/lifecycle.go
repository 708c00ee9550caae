package compose

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/display"
	"muelle/internal/compose/model"
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

func (a *app) downCommand() *cobra.Command {
	var o api.ProjectDownOptions
	var timeout int
	var rmi string
	cmd := &cobra.Command{
		Use:   "down [OPTIONS] [SERVICES]",
		Short: "Stop and remove containers, networks",
		RunE: func(cmd *cobra.Command, services []string) error {
			if rmi != "" && rmi != "all" && rmi != "local" {
				return fmt.Errorf("invalid value for --rmi: %q", rmi)
			}
			ctx := cmd.Context()
			s, err := a.scope(ctx)
			if err != nil {
				return err
			}
			if err := s.check(services); err != nil {
				return err
			}
			o.Services, o.Known, o.Timeout = services, s.known(), seconds(cmd, "timeout", timeout)
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			var images []string
			if rmi != "" {
				if images, err = a.imagesOf(ctx, c, s, rmi); err != nil {
					return err
				}
			}
			return a.action(ctx, "down", func(ctx context.Context, line func(api.ProjectProgress)) error {
				if err := c.Projects.Down(ctx, s.name, o, line); err != nil {
					return err
				}
				return removeImages(ctx, c, images, line)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.RemoveOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	f.IntVarP(&timeout, "timeout", "t", 0, "Specify a shutdown timeout in seconds")
	f.BoolVarP(&o.Volumes, "volumes", "v", false, `Remove named volumes declared in the "volumes" section of the Compose file and anonymous volumes attached to containers`)
	f.StringVar(&rmi, "rmi", "", `Remove images used by services. "local" remove only images that don't have a custom tag ("local"|"all")`)
	return cmd
}

// imagesOf are the images that down --rmi removes.
func (a *app) imagesOf(ctx context.Context, c *client.Client, s scope, mode string) ([]string, error) {
	var names []string
	add := func(name string) {
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if s.model != nil {
		for _, svc := range s.model.Services {
			if mode == "all" || svc.Image == "" {
				add(model.ImageName(s.name, svc))
			}
		}
		return names, nil
	}
	list, err := c.Containers.List(ctx, client.ListOptions{All: true, Filters: projectFilter(s.name)})
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if mode == "all" || m.Image == s.name+"-"+m.Labels[api.LabelService] {
			add(m.Image)
		}
	}
	return names, nil
}

func removeImages(ctx context.Context, c *client.Client, names []string, line func(api.ProjectProgress)) error {
	for _, name := range names {
		id := "Image " + name
		line(api.ProjectProgress{ID: id, Status: "Removing"})
		_, err := c.Images.Remove(ctx, name, client.ImageRemoveOptions{})
		switch {
		case err == nil:
			line(api.ProjectProgress{ID: id, Status: "Removed", Finished: true})
		case errdefs.IsConflict(err):
			line(api.ProjectProgress{ID: id, Status: "Resource is still in use", Finished: true})
		case errdefs.IsNotFound(err):
			line(api.ProjectProgress{ID: id, Status: "Warning: No resource found to remove", Finished: true})
		default:
			return err
		}
	}
	return nil
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

func (a *app) projectAction(ctx context.Context, title string, services []string,
	call func(context.Context, *client.Client, string, func(api.ProjectProgress)) error,
) error {
	s, err := a.scope(ctx)
	if err != nil {
		return err
	}
	if err := s.check(services); err != nil {
		return err
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	return a.action(ctx, title, func(ctx context.Context, line func(api.ProjectProgress)) error {
		return call(ctx, c, s.name, line)
	})
}

// containers lists a project's containers of the given services (none: all), in
// the order of their names and numbers.
func (a *app) containers(ctx context.Context, c *client.Client, s scope, services []string, all, oneOff bool) ([]container.Summary, error) {
	if err := s.check(services); err != nil {
		return nil, err
	}
	list, err := c.Containers.List(ctx, client.ListOptions{All: all, Filters: projectFilter(s.name)})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(m container.Summary) bool {
		if m.Labels[api.LabelOneOff] == "True" && !oneOff {
			return true
		}
		return len(services) > 0 && !slices.Contains(services, m.Labels[api.LabelService])
	})
	slices.SortFunc(list, func(x, y container.Summary) int {
		if x.Labels[api.LabelService] == y.Labels[api.LabelService] {
			if nx, ny := number(x), number(y); nx != ny {
				return nx - ny
			}
		}
		return strings.Compare(containerName(x), containerName(y))
	})
	return list, nil
}

func number(c container.Summary) int {
	n, err := strconv.Atoi(c.Labels[api.LabelContainerNumber])
	if err != nil {
		return 0
	}
	return n
}

// each does something to containers at the same time, with a display.
func (a *app) each(ctx context.Context, title, doing, did string, list []container.Summary, do func(context.Context, container.Summary) error) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	show := a.progress(title)
	defer show.Close()
	var eg errgroup.Group
	for _, m := range list {
		eg.Go(func() error {
			id := "Container " + containerName(m)
			show.On(display.Event{ID: id, Text: doing})
			if err := do(ctx, m); err != nil {
				show.On(display.Event{ID: id, Text: "Error", Details: err.Error(), State: display.Error})
				return err
			}
			show.On(display.Event{ID: id, Text: did, State: display.Done})
			return nil
		})
	}
	return interrupted(ctx, eg.Wait())
}

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
		return false, nil //nolint:nilerr
	}
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
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

// onContainers runs do with the project's containers of the services.
func (a *app) onContainers(ctx context.Context, services []string, all bool,
	do func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error,
) error {
	s, err := a.scope(ctx)
	if err != nil {
		return err
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, c, s, services, all, false)
	if err != nil {
		return err
	}
	return do(ctx, c, s, list)
}

// one is the container of a service that exec, port and the like mean.
func (a *app) one(ctx context.Context, c *client.Client, s scope, service string, index int) (container.Summary, error) {
	list, err := a.containers(ctx, c, s, []string{service}, false, true)
	if err != nil {
		return container.Summary{}, err
	}
	slices.SortStableFunc(list, func(x, y container.Summary) int {
		// One-off containers come last.
		return strings.Compare(x.Labels[api.LabelOneOff], y.Labels[api.LabelOneOff])
	})
	for _, m := range list {
		if index == 0 || number(m) == index {
			return m, nil
		}
	}
	if index > 0 {
		return container.Summary{}, fmt.Errorf("service %q is not running container #%d", service, index)
	}
	return container.Summary{}, fmt.Errorf("service %q is not running", service)
}
