package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

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
		return a.printReport(report, asJSON, func(w io.Writer) error { return writeReport(w, &report) })
	})
	c.Long = "Explain why a container ended, fails or does not start: what happened, on what evidence,\nand what to do. CONTAINER may also be PROJECT/SERVICE, or, in a project's folder, a service."
	jsonFlag(c, &asJSON, "report")
	return a.also(c, "container why", "why")
}

// explain asks for a container and, where there is none of that name, for a service of
// the project that was brought up from this folder.
func explain(ctx context.Context, c *client.Client, name string) (api.WhyReport, error) {
	report, err := c.System.Why(ctx, name)
	if !errdefs.IsNotFound(err) || strings.Contains(name, "/") {
		return report, err
	}
	if project := projectHere(ctx, c); project != "" {
		if report, serr := c.System.Why(ctx, project+"/"+name); serr == nil {
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
		writeEvidence(&b, "  ", f.Evidence, true)
		if len(f.Do) > 0 {
			b.WriteString("What to do:\n")
		}
		writeAdvice(&b, "  ", f.Do)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
