package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/compose/display"
	"muelle/internal/console"
	"muelle/internal/console/filecopy"
)

func (a *app) cpCommand() *cobra.Command {
	var o filecopy.Options
	var all bool
	var index int
	cmd := &cobra.Command{
		Use:   "cp [OPTIONS] SERVICE:SRC_PATH DEST_PATH|-\n\tcompose cp [OPTIONS] SRC_PATH|- SERVICE:DEST_PATH",
		Short: "Copy files/folders between a service container and the local filesystem",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "" {
				return errors.New("source can not be empty")
			}
			if args[1] == "" {
				return errors.New("destination can not be empty")
			}
			from, src := filecopy.ContainerPath(args[0])
			to, dst := filecopy.ContainerPath(args[1])
			o.Stdin, o.Stdout = a.In, a.Out
			switch {
			case from != "" && to != "":
				return errors.New("copying between services is not supported")
			case from == "" && to == "":
				return errors.New("unknown copy direction")
			}
			return a.copyContainers(cmd.Context(), from+to, index, all, func(ctx context.Context, c *client.Client, list []container.Summary) error {
				if from != "" {
					m := list[0]
					return a.each(ctx, "cp", "Copying", "Copied", list[:1], func(ctx context.Context, _ container.Summary) error {
						_, err := filecopy.From(ctx, c, m.ID, src, dst, o)
						return err
					})
				}
				if src == "-" && len(list) > 1 {
					return fmt.Errorf("service %q has %d containers, and standard input can be read once: name one with --index", to, len(list))
				}
				return a.each(ctx, "cp", "Copying", "Copied", list, func(ctx context.Context, m container.Summary) error {
					_, err := filecopy.To(ctx, c, m.ID, src, dst, o)
					return err
				})
			})
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "Include containers created by the run command")
	f.BoolVarP(&o.Archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	f.BoolVarP(&o.Follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	f.IntVar(&index, "index", 0, "Index of the container if service has multiple replicas")
	return cmd
}

// copyContainers runs do with the containers of a service, running or not: one of its
// replicas where index names it, at least one.
func (a *app) copyContainers(ctx context.Context, service string, index int, oneOff bool, do func(context.Context, *client.Client, []container.Summary) error) error {
	s, err := a.scope(ctx)
	if err != nil {
		return err
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	list, err := a.containers(ctx, c, s, []string{service}, true, oneOff && index == 0)
	if err != nil {
		return err
	}
	if index > 0 {
		for _, m := range list {
			if number(m) == index {
				return do(ctx, c, []container.Summary{m})
			}
		}
		return fmt.Errorf("service %q has no container #%d", service, index)
	}
	if len(list) == 0 {
		return fmt.Errorf("no container found for service %q", service)
	}
	return do(ctx, c, list)
}

func (a *app) exportCommand() *cobra.Command {
	var output string
	var index int
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] SERVICE",
		Short: "Export a service container's filesystem as a tar archive",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output == "" && console.IsTerminal(a.Out) {
				return errors.New("output option is required when exporting to terminal")
			}
			return a.copyContainers(cmd.Context(), args[0], index, true, func(ctx context.Context, c *client.Client, list []container.Summary) error {
				return a.each(ctx, "export", "Exporting", "Exported", list[:1], func(ctx context.Context, m container.Summary) error {
					return console.ToFile(a.Out, output, "export", func(w io.Writer) error {
						body, err := c.Containers.Export(ctx, m.ID)
						if err != nil {
							return err
						}
						_, err = io.Copy(w, body)
						return errors.Join(err, body.Close())
					})
				})
			})
		},
	}
	cmd.Flags().IntVar(&index, "index", 0, "index of the container if service has multiple replicas.")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func (a *app) commitCommand() *cobra.Command {
	o := client.CommitOptions{Config: &container.Config{}}
	var index int
	cmd := &cobra.Command{
		Use:   "commit [OPTIONS] SERVICE [REPOSITORY[:TAG]]",
		Short: "Create a new image from a service container's changes",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				r, err := console.ParseRef(args[1])
				if err != nil {
					return err
				}
				if r.Digest != "" {
					return errors.New("refusing to create a tag with a digest reference")
				}
				o.Repo, o.Tag = r.Familiar(), r.Tag
			}
			return a.copyContainers(cmd.Context(), args[0], index, true, func(ctx context.Context, c *client.Client, list []container.Summary) error {
				return a.commitOne(ctx, c, list[0], o)
			})
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Author, "author", "a", "", `Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	f.IntVar(&index, "index", 0, "index of the container if service has multiple replicas.")
	f.StringVarP(&o.Comment, "message", "m", "", "Commit message")
	f.BoolVarP(&o.Pause, "pause", "p", true, "Pause container during commit")
	return cmd
}

func (a *app) commitOne(ctx context.Context, c *client.Client, m container.Summary, o client.CommitOptions) error {
	show := a.progress("commit")
	defer show.Close()
	id := "Container " + strings.TrimPrefix(containerName(m), "/")
	show.On(display.Event{ID: id, Text: "Committing"})
	image, err := c.Containers.Commit(ctx, m.ID, o)
	if err != nil {
		show.On(display.Event{ID: id, Text: "Error", Details: err.Error(), State: display.Error})
		return err
	}
	show.On(display.Event{ID: id, Text: "Committed as " + image, State: display.Done})
	return nil
}
