package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"muelle/client"
)

// confirm asks until a line comes; only y and yes are consent.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	_, _ = fmt.Fprint(a.Out, question+" [y/N] ")
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(a.In).ReadString('\n')
		got <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(a.Out)
		return false, ctx.Err()
	case r := <-got:
		return strings.EqualFold(strings.TrimSpace(r.line), "y") || strings.EqualFold(strings.TrimSpace(r.line), "yes"), nil
	}
}

// pruner is one kind of object that can be pruned: its warning and what it does.
type pruner struct {
	what    string
	warning func(all bool) string
	do      func(ctx context.Context, c *client.Client, all bool, f client.Filters) (freed uint64, text string, err error)
	// hasAll, allUsage: whether there is -a, and its help text.
	hasAll   bool
	allUsage string
	usage    string
	// quiet prints no total.
	quiet bool
}

const sure = "\nAre you sure you want to continue?"

func containerPruner() pruner {
	return pruner{what: "container", usage: `Provide filter values (e.g. "until=<timestamp>")`,
		warning: func(bool) string { return "WARNING! This will remove all stopped containers." },
		do: func(ctx context.Context, c *client.Client, _ bool, f client.Filters) (uint64, string, error) {
			r, err := c.Containers.Prune(ctx, f)
			return r.SpaceReclaimed, heading("Deleted Containers:", r.ContainersDeleted), err
		}}
}

func networkPruner() pruner {
	return pruner{what: "network", usage: `Provide filter values (e.g. "until=<timestamp>")`, quiet: true,
		warning: func(bool) string {
			return "WARNING! This will remove all custom networks not used by at least one container."
		},
		do: func(ctx context.Context, c *client.Client, _ bool, f client.Filters) (uint64, string, error) {
			r, err := c.Networks.Prune(ctx, f)
			return 0, heading("Deleted Networks:", r.NetworksDeleted), err
		}}
}

func volumePruner() pruner {
	return pruner{what: "volume", usage: `Provide filter values (e.g. "label=<label>")`, hasAll: true, allUsage: "Remove all unused volumes, not just anonymous ones",
		warning: func(all bool) string {
			if all {
				return "WARNING! This will remove all local volumes not used by at least one container."
			}
			return "WARNING! This will remove anonymous local volumes not used by at least one container."
		},
		do: func(ctx context.Context, c *client.Client, all bool, f client.Filters) (uint64, string, error) {
			if all {
				if len(f["all"]) > 0 {
					return 0, "", errors.New("conflicting options: cannot specify both --all and --filter all=1")
				}
				f = f.Add("all", "true")
			}
			r, err := c.Volumes.Prune(ctx, f)
			return r.SpaceReclaimed, heading("Deleted Volumes:", r.VolumesDeleted), err
		}}
}

func imagePruner() pruner {
	return pruner{what: "image", usage: `Provide filter values (e.g. "until=<timestamp>")`, hasAll: true, allUsage: "Remove all unused images, not just dangling ones",
		warning: func(all bool) string {
			if all {
				return "WARNING! This will remove all images without at least one container associated to them."
			}
			return "WARNING! This will remove all dangling images."
		},
		do: func(ctx context.Context, c *client.Client, all bool, f client.Filters) (uint64, string, error) {
			r, err := c.Images.Prune(ctx, f.Add("dangling", strconv.FormatBool(!all)))
			var lines []string
			for _, d := range r.ImagesDeleted {
				if d.Untagged != "" {
					lines = append(lines, "untagged: "+d.Untagged)
				} else {
					lines = append(lines, "deleted: "+d.Deleted)
				}
			}
			return r.SpaceReclaimed, heading("Deleted Images:", lines), err
		}}
}

func cachePruner() pruner {
	return pruner{what: "builder", usage: `Provide filter values (e.g. "until=24h")`, hasAll: true, allUsage: "Remove all unused build cache, not just dangling ones",
		warning: func(all bool) string {
			if all {
				return "WARNING! This will remove all build cache."
			}
			return "WARNING! This will remove all dangling build cache."
		},
		do: func(ctx context.Context, c *client.Client, all bool, f client.Filters) (uint64, string, error) {
			r, err := c.System.BuildPrune(ctx, all, f)
			return r.SpaceReclaimed, heading("Deleted build cache objects:", r.CachesDeleted), err
		}}
}

func heading(title string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return title + "\n" + strings.Join(lines, "\n") + "\n"
}

func (a *app) prune(p pruner, short string) *cobra.Command {
	var force, all bool
	var filter filters
	c := a.command("prune [OPTIONS]", short, noArgs, func(ctx context.Context, _ []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		if filter.Filters, err = a.pruneFilters(filter.Filters); err != nil {
			return err
		}
		everything := all
		if p.what == "volume" {
			// Servers before 1.42 do not tell anonymous volumes from others.
			older, err := c.Older(ctx, "1.42")
			if err != nil {
				return err
			}
			if older && all {
				return errors.New(`"--all" requires API version 1.42, but the daemon's is older: it always removes all unused volumes`)
			}
			everything = all || older
		}
		if !force {
			ok, err := a.confirm(ctx, p.warning(everything)+sure)
			if err != nil || !ok {
				return err
			}
		}
		freed, text, err := p.do(ctx, c, all, filter.Filters)
		if err != nil {
			return err
		}
		if text != "" {
			_, _ = fmt.Fprintln(a.Out, text)
		}
		if !p.quiet {
			_, _ = fmt.Fprintln(a.Out, "Total reclaimed space:", size4(int64(freed)))
		}
		return nil
	})
	f := c.Flags()
	f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	f.Var(&filter, "filter", p.usage)
	if p.hasAll {
		f.BoolVarP(&all, "all", "a", false, p.allUsage)
	}
	return c
}

func (a *app) systemPrune() *cobra.Command {
	var force, all, volumes bool
	var filter filters
	c := a.command("prune [OPTIONS]", "Remove unused data", noArgs, func(ctx context.Context, _ []string) error {
		var err error
		if filter.Filters, err = a.pruneFilters(filter.Filters); err != nil {
			return err
		}
		if volumes && len(filter.Filters["until"]) > 0 {
			return errors.New(`ERROR: The "until" filter is not supported with "--volumes"`)
		}
		if !force {
			c, err := a.api(ctx)
			if err != nil {
				return err
			}
			older, err := c.Older(ctx, "1.42")
			if err != nil {
				return err
			}
			ok, err := a.confirm(ctx, systemWarning(all, volumes, older, filter.Filters))
			if err != nil || !ok {
				return err
			}
		}
		return a.pruneSystem(ctx, all, volumes, filter.Filters)
	})
	f := c.Flags()
	f.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	f.BoolVarP(&all, "all", "a", false, "Remove all unused images not just dangling ones")
	f.BoolVar(&volumes, "volumes", false, "Prune anonymous volumes")
	f.Var(&filter, "filter", `Provide filter values (e.g. "label=<key>=<value>")`)
	return c
}

func (a *app) pruneSystem(ctx context.Context, all, volumes bool, f client.Filters) error {
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	steps := []pruner{containerPruner(), networkPruner()}
	if volumes {
		steps = append(steps, volumePruner())
	}
	steps = append(steps, imagePruner(), cachePruner())
	var total uint64
	for _, p := range steps {
		own := client.Filters{}
		for k, v := range f {
			own[k] = v
		}
		freed, text, err := p.do(ctx, c, all && p.what != "volume", own)
		if err != nil {
			return err
		}
		total += freed
		if text != "" {
			_, _ = fmt.Fprintln(a.Out, text)
		}
	}
	_, _ = fmt.Fprintln(a.Out, "Total reclaimed space:", size4(int64(total)))
	return nil
}

func systemWarning(all, volumes, older bool, f client.Filters) string {
	lines := []string{"all stopped containers", "all networks not used by at least one container"}
	switch {
	case volumes && older:
		lines = append(lines, "all volumes not used by at least one container")
	case volumes:
		lines = append(lines, "all anonymous volumes not used by at least one container")
	}
	if all {
		lines = append(lines, "all images without at least one container associated to them", "all build cache")
	} else {
		lines = append(lines, "all dangling images", "unused build cache")
	}
	s := "WARNING! This will remove:\n  - " + strings.Join(lines, "\n  - ") + "\n"
	if len(f) > 0 {
		s += "\n  Items to be pruned will be filtered with:"
		for _, k := range sortedKeys(f) {
			for _, v := range f[k] {
				s += "\n  - " + k + "=" + v
			}
		}
		s += "\n"
	}
	return s + sure
}
