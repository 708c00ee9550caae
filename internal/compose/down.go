package compose

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/model"
)

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
