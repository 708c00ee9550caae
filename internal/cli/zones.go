package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/internal/cli/zonemap"
	"muelle/internal/console"
)

func (a *app) zones() *cobra.Command {
	var verify, all bool
	var format, output string
	c := a.command("zones [OPTIONS] [PROJECT]", "Show who reaches whom, and prove it", maxArgs(1), func(ctx context.Context, args []string) error {
		draw := map[string]func(io.Writer, *api.ZoneReport) error{"text": nil, "json": zonesJSON, "dot": zonemap.DOT, "svg": zonemap.SVG}
		if _, ok := draw[format]; !ok {
			return statusError{2, fmt.Sprintf("unknown format %q: there are text, json, dot and svg", format)}
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		project := ""
		switch {
		case len(args) > 0 && all:
			return statusError{2, "--all shows all projects: take " + args[0] + " away, or --all"}
		case len(args) > 0:
			project = args[0]
		case !all:
			project = projectHere(ctx, c)
		}
		report, err := c.System.Zones(ctx, project, verify)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if format == "text" {
			colour := output == "" && console.IsTerminal(a.Out)
			err = zonemap.Text(&b, &report, 80, colour)
		} else {
			err = draw[format](&b, &report)
		}
		if err == nil && output != "" {
			err = os.WriteFile(output, b.Bytes(), 0o644)
		} else if err == nil {
			_, err = a.Out.Write(b.Bytes())
		}
		if err == nil && report.Violations > 0 {
			err = statusError{code: 1}
		}
		return err
	})
	c.Long = `Show who reaches whom on the networks of a project: services, ports, this host, the LAN
and the internet, as the model has it. Without PROJECT it is the one in whose folder you
are, else, and with --all, everything on every network, and then no x-expect is judged. With --verify every way is tried
from inside the containers' network namespaces; nothing is needed in their images. A
container gets connections that are closed at once, and datagrams of eight bytes.

The exit status is 1 where an expectation of the project (x-expect) does not hold, or a
try went otherwise than the model says.`
	f := c.Flags()
	f.BoolVarP(&all, "all", "a", false, "Show all networks of the engine, whatever project's folder this is")
	f.BoolVar(&verify, "verify", false, "Try every way")
	f.StringVar(&format, "format", "text", "Format of the output (text, json, dot, svg)")
	f.StringVarP(&output, "output", "o", "", "Write to a file instead of standard output")
	return a.also(c, "zones")
}

func zonesJSON(w io.Writer, r *api.ZoneReport) error { return indentedJSON(w, r) }
