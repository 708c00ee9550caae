package compose

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

const psFormat = `table {{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}`

var psHeaders = map[string]string{
	"ID": "CONTAINER ID", "Name": "NAME", "Names": "NAMES", "Project": "PROJECT", "Service": "SERVICE", "Image": "IMAGE",
	"Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED", "Ports": "PORTS", "State": "STATE",
	"Status": "STATUS", "Health": "HEALTH", "Labels": "LABELS", "Networks": "NETWORKS", "Mounts": "MOUNTS", "ExitCode": "EXIT CODE", "Exposure": "EXPOSURE",
}

func (a *app) psCommand() *cobra.Command {
	var all, quiet, onlyServices, noTrunc, orphans bool
	var format, filter string
	var status []string
	cmd := &cobra.Command{
		Use:   "ps [OPTIONS] [SERVICE...]",
		Short: "List containers",
		RunE: func(cmd *cobra.Command, services []string) error {
			if filter != "" {
				key, value, ok := strings.Cut(filter, "=")
				switch {
				case !ok:
					return errors.New("arguments to --filter should be in form KEY=VAL")
				case key != "status":
					return fmt.Errorf("unknown filter %s", key)
				}
				status = append(status, value)
			}
			return a.onContainers(cmd.Context(), services, true, func(ctx context.Context, c *client.Client, s scope, list []container.Summary) error {
				known := s.known()
				list = slices.DeleteFunc(list, func(m container.Summary) bool {
					switch {
					case len(status) > 0 && !slices.Contains(status, string(m.State)):
						return true
					case !orphans && known != nil && !slices.Contains(known, m.Labels[api.LabelService]):
						return true
					}
					return !all && len(status) == 0 && isStopped(m)
				})
				slices.SortFunc(list, func(x, y container.Summary) int { return cmp.Compare(containerName(x), containerName(y)) })
				switch {
				case quiet:
					return a.lines(list, func(m container.Summary) string { return m.ID })
				case onlyServices:
					return a.lines(list, func(m container.Summary) string { return m.Labels[api.LabelService] })
				}
				standard := psFormat
				if console.Publish(list) {
					standard += `\t{{.Exposure}}`
				}
				reach := reach(ctx, c)
				return a.table(format, standard, psHeaders, list, func(m container.Summary) any {
					return &psRow{console.Container{Trunc: !noTrunc, Of: m, Reach: reach}}
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "", "Format output using a custom template: table, table TEMPLATE, json or TEMPLATE")
	f.StringVar(&filter, "filter", "", "Filter services by a property (supported filters: status)")
	f.StringArrayVar(&status, "status", nil, "Filter services by status. Values: [paused | restarting | removing | running | dead | created | exited]")
	f.BoolVarP(&quiet, "quiet", "q", false, "Only display IDs")
	f.BoolVar(&onlyServices, "services", false, "Display services")
	f.BoolVar(&orphans, "orphans", true, "Include orphaned services (not declared by project)")
	f.BoolVarP(&all, "all", "a", false, "Show all stopped containers (including those created by the run command)")
	f.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	return cmd
}

// lines prints each value once.
func (a *app) lines(list []container.Summary, value func(container.Summary) string) error {
	var seen []string
	for _, m := range list {
		if v := value(m); !slices.Contains(seen, v) {
			seen = append(seen, v)
		}
	}
	return a.print(seen)
}

func (a *app) print(lines []string) error {
	for _, l := range lines {
		if _, err := fmt.Fprintln(a.Out, l); err != nil {
			return err
		}
	}
	return nil
}

// table prints rows by a --format.
func (a *app) table(format, standard string, headers map[string]string, list []container.Summary, row func(container.Summary) any) error {
	if format == "" || format == "table" {
		format = standard
	}
	rows := make([]any, len(list))
	for i, m := range list {
		rows[i] = row(m)
	}
	return console.Table{Out: a.Out, Format: format, Headers: headers}.Write(rows...)
}

// reach asks an engine once, when a row wants to know. One that cannot tell is
// Docker's, or older.
func reach(ctx context.Context, c *client.Client) console.Reach {
	return sync.OnceValues(func() (*api.ExposureReport, error) {
		report, err := c.System.Exposure(ctx)
		if errdefs.IsNotFound(err) {
			return &api.ExposureReport{}, nil
		}
		return &report, err
	})
}
