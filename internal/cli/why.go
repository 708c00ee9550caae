package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

func (a *app) why() *cobra.Command {
	var asJSON bool
	c := a.command("why [OPTIONS] CONTAINER", "Explain why a container ended, fails or does not start", exactArgs(1), func(ctx context.Context, args []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		report, err := explain(ctx, c, args[0])
		if err != nil {
			return err
		}
		if asJSON {
			enc := json.NewEncoder(a.Out)
			enc.SetIndent("", "    ")
			enc.SetEscapeHTML(false)
			return enc.Encode(report)
		}
		return writeReport(a.Out, &report)
	})
	c.Long = "Explain why a container ended, fails or does not start: what happened, on what evidence,\nand what to do. CONTAINER may also be PROJECT/SERVICE, or, in a project's folder, a service."
	c.Flags().BoolVar(&asJSON, "json", false, "Print the report as JSON")
	return a.also(c, "container why", "why")
}

// explain asks for a container and, where there is none of that name, for a service of
// the project that was brought up from this folder.
func explain(ctx context.Context, c *client.Client, name string) (api.WhyReport, error) {
	report, err := c.System.Why(ctx, name)
	if !errdefs.IsNotFound(err) || strings.Contains(name, "/") {
		return report, err
	}
	here, herr := os.Getwd()
	var projects []api.ProjectSummary
	perr := c.Projects.List(ctx, &projects)
	if herr != nil || perr != nil {
		return report, err
	}
	for _, p := range projects {
		if p.WorkingDir != here {
			continue
		}
		if report, serr := c.System.Why(ctx, p.Name+"/"+name); serr == nil {
			return report, nil
		}
	}
	return report, err
}

func writeReport(w io.Writer, r *api.WhyReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", console.OneLine(r.Name), console.OneLine(r.Status))
	if r.Status == "exited" || r.Status == "restarting" || r.Status == "dead" {
		fmt.Fprintf(&b, " (%d)", r.ExitCode)
	}
	if r.Status == "created" && r.ExitCode != 0 {
		fmt.Fprintf(&b, ", its start failed (%d)", r.ExitCode)
	}
	if !r.At.IsZero() {
		fmt.Fprintf(&b, " since %s", r.At.Local().Format(time.DateTime))
	}
	b.WriteString("\n")
	for _, f := range r.Findings {
		what := f.What
		if f.Probably {
			what = "Probably: " + what
		}
		fmt.Fprintf(&b, "\n%s\n", console.Printable(what))
		width := 0
		for _, e := range f.Evidence {
			width = max(width, utf8.RuneCountInString(e.Source))
		}
		for _, e := range f.Evidence {
			indent := "\n" + strings.Repeat(" ", width+4)
			fmt.Fprintf(&b, "  %-*s  %s\n", width, console.OneLine(e.Source), strings.ReplaceAll(console.Printable(e.Text), "\n", indent))
		}
		if len(f.Do) > 0 {
			b.WriteString("What to do:\n")
		}
		for _, d := range f.Do {
			fmt.Fprintf(&b, "  - %s\n", console.OneLine(d))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
