package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

// configured returns a list format of ~/.docker/config.json.
func (a *app) configured(field func(*console.DockerConfig) string) (string, error) {
	cfg, err := a.where.DockerConfig()
	if err != nil {
		return "", err
	}
	return field(cfg), nil
}

func (a *app) ps(use string) *cobra.Command {
	var l listFlags
	var all, size, latest bool
	var last int
	c := a.command(use+" [OPTIONS]", "List containers", noArgs, func(ctx context.Context, _ []string) error {
		conf, err := a.configured(func(c *console.DockerConfig) string { return c.PsFormat })
		if err != nil {
			return err
		}
		if !size {
			if size, err = showsSize(l.format); err != nil {
				return err
			}
		}
		o := client.ListOptions{All: all, Size: size, Filters: l.filter.Filters, Limit: max(last, 0)}
		if latest && last == -1 {
			o.Limit = 1
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		found, err := c.Containers.List(ctx, o)
		if err != nil {
			return err
		}
		if l.format != "" {
			conf = ""
		}
		format := pick(l.format, conf)
		t := console.Table{Out: a.Out, Format: containerFormat(format, l.quiet, size), Headers: containerHeaders()}
		if format == "table" && !l.quiet && a.where.Name != "docker" && console.Publish(found) {
			t.Format += `\t{{.Exposure}}`
		}
		reach := reach(ctx, c)
		return t.Write(rowsOf(found, func(s container.Summary) any {
			return &containerRow{Container: console.Container{Trunc: !l.noTrunc, Of: s, Reach: reach}}
		})...)
	})
	f := c.Flags()
	l.register(f, "Filter output based on conditions provided", "Only display container IDs", "Don't truncate output")
	f.BoolVarP(&all, "all", "a", false, "Show all containers (default shows just running)")
	f.BoolVarP(&size, "size", "s", false, "Display total file sizes")
	f.BoolVarP(&latest, "latest", "l", false, "Show the latest created container (includes all states)")
	f.IntVarP(&last, "last", "n", -1, "Show n last created containers (includes all states)")
	return a.also(c, "container ls", "container list", "container ps", "ps")
}

// showsSize says whether a template shows the size, which the daemon must be asked
// for.
func showsSize(format string) (bool, error) {
	switch format {
	case "", "json", "raw", "table":
		return false, nil
	}
	t, err := console.ParseTemplate(strings.TrimPrefix(format, "table"))
	if err != nil {
		return false, fmt.Errorf("failed to parse template: %w", err)
	}
	probe := &containerRow{}
	if err := t.Execute(io.Discard, probe); err != nil {
		return false, fmt.Errorf("failed to execute template: %w", err)
	}
	return probe.sizeShown, nil
}

func (a *app) images(use string) *cobra.Command {
	var l listFlags
	var all, digests, tree bool
	c := a.command(use+" [OPTIONS] [REPOSITORY[:TAG]]", "List images", maxArgs(1), func(ctx context.Context, args []string) error {
		if tree {
			return a.imageTree(ctx, args, all, &l)
		}
		conf, err := a.configured(func(c *console.DockerConfig) string { return c.ImagesFormat })
		if err != nil {
			return err
		}
		if len(args) > 0 {
			l.filter.Filters = l.filter.Add("reference", args[0])
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		found, err := c.Images.List(ctx, client.ImageListOptions{All: all, Filters: l.filter.Filters})
		if err != nil {
			return err
		}
		if l.quiet && l.format == "" {
			conf = ""
		}
		format := imageFormat(pick(l.format, conf), l.quiet, digests)
		t := console.Table{Out: a.Out, Format: format, Headers: imageHeaders()}
		if err := t.Write(imageRows(found, !l.noTrunc, digests, strings.Contains(format, "{{.Digest}}"))...); err != nil {
			return err
		}
		if l.format == "" && conf == "" && !l.quiet {
			a.tellStandins(found)
		}
		return nil
	})
	f := c.Flags()
	l.register(f, "Filter output based on conditions provided", "Only show image IDs", "Don't truncate output")
	f.BoolVarP(&all, "all", "a", false, "Show all images (default hides intermediate images)")
	f.BoolVar(&digests, "digests", false, "Show digests")
	f.BoolVar(&tree, "tree", false, "List multi-platform images as a tree (EXPERIMENTAL)")
	return a.also(c, "image ls", "image list", "images")
}

// tellStandins names, below the table, the images that are not what their name
// says: stand-ins for those of a registry out of reach, and what is built on them.
// It goes to standard error: standard output is Docker's, to the byte.
func (a *app) tellStandins(all []image.Summary) {
	for _, i := range all {
		if standin := i.Labels[api.LabelStandin]; standin != "" && len(i.RepoTags) > 0 {
			fmt.Fprintf(a.Err, "%s is, or is built on, a stand-in: %s\n", strings.Join(i.RepoTags, ", "), standin)
		}
	}
}

func (a *app) networkLs() *cobra.Command {
	var l listFlags
	c := a.command("ls [OPTIONS]", "List networks", noArgs, func(ctx context.Context, _ []string) error {
		conf, err := a.configured(func(c *console.DockerConfig) string { return c.NetworksFormat })
		if err != nil {
			return err
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		found, err := c.Networks.List(ctx, l.filter.Filters)
		if err != nil {
			return err
		}
		if l.quiet && l.format == "" {
			conf = ""
		}
		slices.SortFunc(found, func(x, y network.Summary) int { return natural(x.Name, y.Name) })
		t := console.Table{Out: a.Out, Format: networkFormat(pick(l.format, conf), l.quiet), Headers: networkHeaders()}
		return t.Write(rowsOf(found, func(n network.Summary) any { return &networkRow{!l.noTrunc, n} })...)
	})
	l.register(c.Flags(), `Provide filter values (e.g. "driver=bridge")`, "Only display network IDs", "Do not truncate the output")
	c.Aliases = []string{"list"}
	return a.also(c, "network ls", "network list")
}

func (a *app) volumeLs() *cobra.Command {
	var l listFlags
	var cluster bool
	c := a.command("ls [OPTIONS]", "List volumes", noArgs, func(ctx context.Context, _ []string) error {
		if cluster {
			return swarmError("--cluster")
		}
		conf, err := a.configured(func(c *console.DockerConfig) string { return c.VolumesFormat })
		if err != nil {
			return err
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		found, err := c.Volumes.List(ctx, l.filter.Filters)
		if err != nil {
			return err
		}
		if l.quiet && l.format == "" {
			conf = ""
		}
		slices.SortFunc(found.Volumes, func(x, y volume.Volume) int { return natural(x.Name, y.Name) })
		t := console.Table{Out: a.Out, Format: volumeFormat(pick(l.format, conf), l.quiet), Headers: volumeHeaders()}
		return t.Write(rowsOf(found.Volumes, func(v volume.Volume) any { return &volumeRow{v} })...)
	})
	l.register(c.Flags(), `Provide filter values (e.g. "dangling=true")`, "Only display volume names", "")
	c.Flags().BoolVar(&cluster, "cluster", false, "Display only cluster volumes, and use cluster volume list formatting")
	c.Aliases = []string{"list"}
	return a.also(c, "volume ls", "volume list")
}

// natural compares names with numbers by value: net2 before net10.
func natural(a, b string) int {
	for a != "" && b != "" {
		da, db := digits(a), digits(b)
		if da > 0 && db > 0 {
			x, y := strings.TrimLeft(a[:da], "0"), strings.TrimLeft(b[:db], "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
			if c := strings.Compare(x, y); c != 0 {
				return c
			}
			if da != db {
				return da - db
			}
			a, b = a[da:], b[db:]
			continue
		}
		if a[0] != b[0] {
			return int(a[0]) - int(b[0])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
