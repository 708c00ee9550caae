package compose

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

// columns prints a plain table, its columns at least width wide and gap apart: each
// of Docker Compose's tables has its own.
func (a *app) columns(width, gap int, titles []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.Out, width, 1, gap, ' ', 0)
	for _, r := range append([][]string{titles}, rows...) {
		if _, err := fmt.Fprintln(w, strings.Join(r, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (a *app) json(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.Out, string(data))
	return err
}

func (a *app) lsCommand() *cobra.Command {
	var all, quiet bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS]",
		Short: "List running compose projects",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			name := ""
			for _, f := range filters {
				key, value, _ := strings.Cut(f, "=")
				if key != "name" {
					return fmt.Errorf("invalid filter %q", key)
				}
				name = value
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			var projects []api.ProjectSummary
			if err := c.Projects.List(cmd.Context(), &projects); err != nil {
				return err
			}
			projects = slices.DeleteFunc(projects, func(p api.ProjectSummary) bool {
				return !all && !strings.Contains(p.Status, "running") || name != "" && !strings.Contains(p.Name, name)
			})
			if !all {
				for i := range projects {
					projects[i].Status = running(projects[i].Status)
				}
			}
			return a.listProjects(projects, format, quiet)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "Show all stopped Compose projects")
	f.BoolVarP(&quiet, "quiet", "q", false, "Only display project names")
	f.StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	f.StringArrayVar(&filters, "filter", nil, "Filter output based on conditions provided")
	return cmd
}

// running leaves the part about what runs of a status as "exited(1), running(3)".
func running(status string) string {
	for part := range strings.SplitSeq(status, ", ") {
		if strings.HasPrefix(part, "running(") {
			return part
		}
	}
	return status
}

func (a *app) listProjects(projects []api.ProjectSummary, format string, quiet bool) error {
	type line struct{ Name, Status, ConfigFiles string }
	lines := []line{}
	var rows [][]string
	var names []string
	for _, p := range projects {
		l := line{p.Name, p.Status, strings.Join(p.ConfigFiles, ",")}
		lines = append(lines, l)
		rows = append(rows, []string{l.Name, l.Status, l.ConfigFiles})
		names = append(names, l.Name)
	}
	switch {
	case quiet:
		return a.print(names)
	case format == "json":
		return a.json(lines)
	case format == "table" || format == "":
		return a.columns(20, 3, []string{"NAME", "STATUS", "CONFIG FILES"}, rows)
	}
	return fmt.Errorf("unsupported format %q", format)
}

func (a *app) topCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "top [SERVICES...]",
		Short: "Display the running processes",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, false, func(ctx context.Context, c *client.Client, _ scope, list []container.Summary) error {
				var titles []string
				var rows [][]string
				for _, m := range list {
					t, err := c.Containers.Top(ctx, m.ID, "")
					if err != nil {
						return err
					}
					titles = append([]string{"SERVICE", "#"}, t.Titles...)
					for _, p := range t.Processes {
						rows = append(rows, append([]string{m.Labels[api.LabelService], m.Labels[api.LabelContainerNumber]}, p...))
					}
				}
				if len(rows) == 0 {
					return nil
				}
				return a.columns(4, 2, titles, rows)
			})
		},
	}
}

func (a *app) portCommand() *cobra.Command {
	var index int
	var protocol string
	cmd := &cobra.Command{
		Use:   "port [OPTIONS] SERVICE PRIVATE_PORT",
		Short: "Print the public port for a port binding",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil {
				return err
			}
			s, err := a.scope(cmd.Context())
			if err != nil {
				return err
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			m, err := a.one(cmd.Context(), c, s, args[0], index)
			if err != nil {
				return err
			}
			for _, p := range m.Ports {
				if p.PrivatePort == uint16(port) && p.Type == strings.ToLower(protocol) && p.PublicPort != 0 {
					return a.print([]string{net.JoinHostPort(p.IP.String(), strconv.Itoa(int(p.PublicPort)))})
				}
			}
			return fmt.Errorf("no port %d/%s for container %s: %s", port, strings.ToLower(protocol), containerName(m), (&psRow{console.Container{Of: m}}).Ports())
		},
	}
	cmd.Flags().IntVar(&index, "index", 0, "Index of the container if service has multiple replicas")
	cmd.Flags().StringVar(&protocol, "protocol", "tcp", "tcp or udp")
	return cmd
}

func (a *app) imagesCommand() *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{
		Use:   "images [OPTIONS] [SERVICE...]",
		Short: "List images used by the created containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, true, func(ctx context.Context, c *client.Client, _ scope, list []container.Summary) error {
				type image struct {
					ID, ContainerName, Repository, Tag, Platform string
					Size                                         int64
					Created                                      *time.Time `json:",omitempty"`
				}
				images := []image{}
				var rows [][]string
				var ids []string
				for _, m := range list {
					i, err := c.Images.Inspect(ctx, m.ImageID)
					if err != nil {
						return err
					}
					repo, tag := client.SplitRef(m.Image)
					img := image{ID: i.ID, ContainerName: containerName(m), Repository: repo, Tag: tag, Platform: i.Os + "/" + i.Architecture, Size: i.Size}
					age := "N/A"
					if t, err := time.Parse(time.RFC3339Nano, i.Created); err == nil {
						img.Created, age = &t, console.HumanAge(t)
					}
					images = append(images, img)
					rows = append(rows, []string{img.ContainerName, img.Repository, img.Tag, img.Platform, console.ShortID(img.ID), console.HumanSize(img.Size), age})
					if id := strings.TrimPrefix(img.ID, "sha256:"); !slices.Contains(ids, id) {
						ids = append(ids, id)
					}
				}
				switch {
				case quiet:
					return a.print(ids)
				case format == "json":
					return a.json(images)
				case format == "table" || format == "":
					return a.columns(20, 3, []string{"CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"}, rows)
				}
				return fmt.Errorf("unsupported format %q", format)
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display IDs")
	cmd.Flags().StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	return cmd
}

func (a *app) volumesCommand() *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{
		Use:   "volumes [OPTIONS] [SERVICE...]",
		Short: "List volumes",
		RunE: func(cmd *cobra.Command, services []string) error {
			return a.onContainers(cmd.Context(), services, true, func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error {
				res, err := c.Volumes.List(ctx, projectFilter(s.name))
				if err != nil {
					return err
				}
				var names []string
				var rows [][]string
				for _, v := range res.Volumes {
					used := slices.ContainsFunc(list, func(m container.Summary) bool {
						return slices.ContainsFunc(m.Mounts, func(p container.MountPoint) bool { return p.Name == v.Name })
					})
					if len(services) > 0 && !used {
						continue
					}
					names = append(names, v.Name)
					rows = append(rows, []string{v.Driver, v.Name})
				}
				switch {
				case quiet:
					return a.print(names)
				case format == "json":
					return a.json(res.Volumes)
				case format == "table" || format == "":
					return a.columns(10, 3, []string{"DRIVER", "VOLUME NAME"}, rows)
				}
				return fmt.Errorf("unsupported format %q", format)
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display volume names")
	cmd.Flags().StringVar(&format, "format", "table", "Format the output. Values: [table | json]")
	return cmd
}

func (a *app) eventsCommand() *cobra.Command {
	var asJSON bool
	var since, until string
	cmd := &cobra.Command{
		Use:   "events [OPTIONS] [SERVICE...]",
		Short: "Receive real time events from containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			s, err := a.scope(ctx)
			if err != nil {
				return err
			}
			c, err := a.client(ctx)
			if err != nil {
				return err
			}
			f := projectFilter(s.name).Add("type", string(events.ContainerEventType))
			body, err := c.System.Events(ctx, since, until, f)
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			for d := json.NewDecoder(body); ; {
				var m events.Message
				if err := d.Decode(&m); err == io.EOF {
					return nil
				} else if err != nil {
					return interrupted(ctx, err)
				}
				if len(services) > 0 && !slices.Contains(services, m.Actor.Attributes[api.LabelService]) {
					continue
				}
				if err := a.printEvent(m, asJSON); err != nil {
					return err
				}
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Output events as a stream of json objects")
	cmd.Flags().StringVar(&since, "since", "", "Show all events created since timestamp")
	cmd.Flags().StringVar(&until, "until", "", "Stream events until this timestamp")
	return cmd
}

func (a *app) printEvent(m events.Message, asJSON bool) error {
	attributes := map[string]string{}
	for k, v := range m.Actor.Attributes {
		if !strings.HasPrefix(k, "com.docker.compose.") {
			attributes[k] = v
		}
	}
	at := time.Unix(0, m.TimeNano)
	if asJSON {
		return a.json(map[string]any{
			"time": at, "type": "container", "service": m.Actor.Attributes[api.LabelService], "id": m.Actor.ID,
			"action": m.Action, "attributes": attributes,
		})
	}
	var parts []string
	for k, v := range attributes {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	_, err := fmt.Fprintf(a.Out, "%s container %s %s (%s)\n", at.Format("2006-01-02 15:04:05.000000"), m.Action, m.Actor.ID, strings.Join(parts, ", "))
	return err
}
