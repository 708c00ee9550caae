package cli

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

const exposureFormat = `table {{.Name}}\t{{.Published}}\t{{.Target}}\t{{.Reach}}`

var exposureHeaders = map[string]string{
	"Name": "NAME", "Published": "PUBLISHED", "Target": "LEADS TO", "Reach": "WHO REACHES IT", "Because": "BECAUSE", "Network": "NETWORK",
	"Project": "PROJECT", "Service": "SERVICE", "Warning": "WARNING",
}

func (a *app) exposure() *cobra.Command {
	var format string
	c := a.command("exposure [OPTIONS]", "Tell who can really reach each port: this host, the LAN, everyone, nobody", noArgs, func(ctx context.Context, _ []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		report, err := c.System.Exposure(ctx)
		if err != nil {
			return err
		}
		if err := a.printExposure(&report, format); err != nil {
			return err
		}
		if len(report.Warnings) > 0 {
			return statusError{1, ""}
		}
		return nil
	})
	c.Long = `Tell who can really reach each port of the containers: this host, its LAN, everyone or
nobody, after the host's addresses, the networks' zones and the rules of every firewall on
this host were asked. No packet is sent. Ends with status 1 when there is a warning.`
	c.Flags().StringVar(&format, "format", "", "Format output: 'json', 'table', 'table TEMPLATE' or TEMPLATE\n(.Name .Published .Target .Reach .Because .Network .Project .Service .Warning)")
	return c
}

func (a *app) printExposure(report *api.ExposureReport, format string) error {
	if format == "json" {
		return indentedJSON(a.Out, report)
	}
	plain := format == "" || format == "table"
	if plain {
		format = exposureFormat
		if slices.ContainsFunc(report.Ports, func(p api.ExposedPort) bool { return len(p.Because) > 0 }) {
			format += `\t{{.Because}}`
		}
	}
	var rows []any
	for i := range report.Ports {
		rows = append(rows, &exposureRow{&report.Ports[i]})
	}
	if err := (console.Table{Out: a.Out, Format: format, Headers: exposureHeaders}).Write(rows...); err != nil {
		return err
	}
	if plain {
		for _, w := range report.Warnings {
			_, _ = fmt.Fprintf(a.Out, "warning: %s\n", console.OneLine(w))
		}
	}
	return nil
}

// exposureRow is one port for the table.
type exposureRow struct{ of *api.ExposedPort }

func (r *exposureRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// Name is the container's; the engine's own ports are muelled's.
func (r *exposureRow) Name() string {
	if r.of.Container == "" {
		return console.OneLine(r.of.Process)
	}
	return console.OneLine(r.of.Container)
}

// Published is the address and port on the host.
func (r *exposureRow) Published() string {
	return console.OneLine(net.JoinHostPort(r.of.Address, strconv.Itoa(int(r.of.Port))) + "/" + r.of.Protocol)
}

// Target is the container's port, or the process that listens.
func (r *exposureRow) Target() string {
	if r.of.Process != "" {
		return console.OneLine(r.of.Process)
	}
	return console.OneLine(strconv.Itoa(int(r.of.ContainerPort)) + "/" + r.of.Protocol)
}

// Reach is who gets through.
func (r *exposureRow) Reach() string { return console.OneLine(r.of.Words()) }

// Because is what keeps others out.
func (r *exposureRow) Because() string { return console.OneLine(strings.Join(r.of.Because, "; ")) }

// Network is what the port is published through.
func (r *exposureRow) Network() string { return console.OneLine(r.of.Network) }

// Project is Compose's.
func (r *exposureRow) Project() string { return console.OneLine(r.of.Project) }

// Service is Compose's.
func (r *exposureRow) Service() string { return console.OneLine(r.of.Service) }

// Warning is empty where there is none.
func (r *exposureRow) Warning() string { return console.OneLine(r.of.Warning) }

// reach asks an engine once, when a row wants to know. An engine that cannot tell is
// one of another kind, or older.
func reach(ctx context.Context, c *client.Client) console.Reach {
	return sync.OnceValues(func() (*api.ExposureReport, error) {
		report, err := c.System.Exposure(ctx)
		if errdefs.IsNotFound(err) {
			return &api.ExposureReport{}, nil
		}
		return &report, err
	})
}
