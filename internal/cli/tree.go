package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/moby/moby/api/types/image"

	"muelle/client"
	"muelle/internal/console"
)

// imageTree prints images with their platforms below them.
func (a *app) imageTree(ctx context.Context, args []string, all bool, l *listFlags) error {
	if l.quiet || l.noTrunc || l.format != "" {
		return fmt.Errorf("--quiet, --no-trunc and --format are not supported with --tree")
	}
	if len(args) > 0 {
		l.filter.Filters = l.filter.Add("reference", args[0])
	}
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	found, err := c.Images.List(ctx, client.ImageListOptions{All: all, Manifests: true, Filters: l.filter.Filters})
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(a.Out, 10, 1, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA")
	for _, i := range found {
		name := strings.Join(i.RepoTags, ", ")
		if name == "" {
			name = "<untagged>"
		}
		extra := ""
		if i.Containers > 0 {
			extra = "U"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, console.ShortID(i.ID), size3(i.Size), contentSize(i), extra)
		writeManifests(w, i.Manifests)
	}
	return w.Flush()
}

func contentSize(i image.Summary) string {
	var n int64
	for _, m := range i.Manifests {
		n += m.Size.Content
	}
	if len(i.Manifests) == 0 {
		return "-"
	}
	return size3(n)
}

func writeManifests(w *tabwriter.Writer, all []image.ManifestSummary) {
	var shown []image.ManifestSummary
	for _, m := range all {
		if m.Kind == image.ManifestKindImage && m.ImageData != nil {
			shown = append(shown, m)
		}
	}
	for n, m := range shown {
		sign := "├─ "
		if n == len(shown)-1 {
			sign = "└─ "
		}
		p := platformText{m.ImageData.Platform.OS, m.ImageData.Platform.Architecture, m.ImageData.Platform.Variant}
		extra := ""
		if len(m.ImageData.Containers) > 0 {
			extra = "U"
		}
		_, _ = fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", sign, p.String(), console.ShortID(m.ID), size3(m.Size.Total), size3(m.Size.Content), extra)
	}
}
