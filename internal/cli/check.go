package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"muelle/api"
)

func (a *app) systemCheck() *cobra.Command {
	var repair, asJSON bool
	c := a.command("check [OPTIONS]", "Look for what the engine left behind and for damaged data", noArgs, func(ctx context.Context, _ []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		report, err := c.System.Check(ctx, repair)
		if err != nil {
			return err
		}
		if err := a.printReport(report, asJSON, func(io.Writer) error { return a.printCheck(&report) }); err != nil {
			return err
		}
		for _, f := range report.Findings {
			if !f.Mended {
				return statusError{1, ""}
			}
		}
		return nil
	})
	c.Long = "Look for folders, mounts, cgroups, processes, interfaces and firewall rules of this engine that nothing owns, and for\nrecords, layers and blobs that are damaged. Every blob of every image is read. Ends with status 1 when something was\nfound that is not mended; what mends itself is a note."
	c.Flags().BoolVar(&repair, "repair", false, "Mend what is found")
	jsonFlag(c, &asJSON, "report")
	return c
}

func (a *app) printCheck(r *api.CheckReport) error {
	open, mendable := 0, 0
	for _, f := range r.Notes {
		_, _ = fmt.Fprintf(a.Out, "note    %s %s: %s\n        %s\n", f.Kind, f.Name, f.Problem, f.Remedy)
	}
	for _, f := range r.Findings {
		state := "found "
		switch {
		case f.Mended:
			state = "mended"
		case f.Error != "":
			state = "failed"
			open++
		default:
			open++
			if f.Mendable {
				mendable++
			}
		}
		_, _ = fmt.Fprintf(a.Out, "%s  %s %s: %s\n", state, f.Kind, f.Name, f.Problem)
		if f.Error != "" {
			_, _ = fmt.Fprintf(a.Out, "        it could not be mended: %s\n", f.Error)
		}
		if f.Remedy != "" {
			_, _ = fmt.Fprintf(a.Out, "        %s\n", f.Remedy)
		}
	}
	blobs := fmt.Sprintf("%d blobs read", r.Blobs)
	var err error
	switch {
	case len(r.Findings) == 0:
		_, err = fmt.Fprintf(a.Out, "Nothing is left behind or damaged (%s).\n", blobs)
	case open == 0:
		_, err = fmt.Fprintf(a.Out, "%d mended (%s).\n", len(r.Findings), blobs)
	case mendable > 0:
		_, err = fmt.Fprintf(a.Out, "%d found, of which --repair can mend %d (%s).\n", len(r.Findings), mendable, blobs)
	default:
		_, err = fmt.Fprintf(a.Out, "%d found, %d not mended (%s).\n", len(r.Findings), open, blobs)
	}
	return err
}
