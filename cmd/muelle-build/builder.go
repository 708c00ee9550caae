package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/buildclient"
	"muelle/internal/console"
)

func (a *app) builderCommand(name string) *cobra.Command {
	cmd := &cobra.Command{Use: name, Short: "Manage builds", Hidden: name != "builder"}
	cmd.AddCommand(a.buildCommand(), a.bakeCommand(), a.pruneCommand(), a.duCommand(), a.lsCommand())
	return cmd
}

func (a *app) pruneCommand() *cobra.Command {
	var all, force, verbose bool
	var filters []string
	var keep, reserved, most, free string
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove build cache", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			if all {
				q.Set("all", "1")
			}
			if reserved == "" {
				reserved = keep
			}
			for name, value := range map[string]string{"reserved-space": reserved, "max-used-space": most, "min-free-space": free} {
				n, err := size(name, value)
				if err != nil {
					return err
				}
				if n != 0 {
					q.Set(name, fmt.Sprint(n))
				}
			}
			if err := addFilters(q, filters); err != nil {
				return err
			}
			if !force && !a.confirm(all) {
				return nil
			}
			return a.prune(cmd.Context(), q)
		},
	}
	fs := cmd.Flags()
	fs.BoolVarP(&all, "all", "a", false, "Remove all unused build cache, not just dangling ones")
	fs.BoolVarP(&force, "force", "f", false, "Do not prompt for confirmation")
	fs.StringArrayVar(&filters, "filter", nil, `Provide filter values (e.g., "until=24h")`)
	fs.StringVar(&keep, "keep-storage", "", "Amount of disk space to keep for cache")
	fs.StringVar(&reserved, "reserved-space", "", "Amount of disk space always allowed to keep for cache")
	fs.StringVar(&most, "max-used-space", "", "Maximum amount of disk space allowed to keep for cache")
	fs.StringVar(&free, "min-free-space", "", "Target amount of free disk space after pruning")
	fs.BoolVar(&verbose, "verbose", false, "Provide a more verbose output")
	return cmd
}

func addFilters(q url.Values, filters []string) error {
	f := client.Filters{}
	for _, s := range filters {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("invalid argument %q for \"--filter\" flag: bad format of filter (expected name=value)", s)
		}
		f.Add(k, v)
	}
	if len(f) == 0 {
		return nil
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	q.Set("filters", string(b))
	return nil
}

func (a *app) confirm(all bool) bool {
	what := "dangling"
	if all {
		what = "unused"
	}
	fmt.Fprintf(a.out, "WARNING! This will remove all %s build cache. Are you sure you want to continue? [y/N] ", what)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(a.out)
	}
	return strings.EqualFold(strings.TrimSpace(line), "y")
}

func (a *app) prune(ctx context.Context, q url.Values) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close() // nothing is written any more
	var report build.CachePruneReport
	if err := c.Post(ctx, "/build/prune", q, nil, &report); err != nil {
		return err
	}
	if len(report.CachesDeleted) > 0 {
		fmt.Fprintf(a.out, "Deleted build cache objects:\n%s\n\n", strings.Join(report.CachesDeleted, "\n"))
	}
	_, err = fmt.Fprintf(a.out, "Total reclaimed space: %s\n", console.HumanSize4(int64(report.SpaceReclaimed)))
	return err
}

func (a *app) duCommand() *cobra.Command {
	var filters []string
	var verbose bool
	cmd := &cobra.Command{
		Use: "du [OPTIONS]", Short: "Disk usage", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close() // nothing is written any more
			for i, f := range filters {
				if k, v, ok := strings.Cut(f, "="); ok && !strings.ContainsAny(k, "=~!") && !strings.HasPrefix(v, "=") {
					filters[i] = k + "==" + v
				}
			}
			records, err := buildclient.DiskUsage(cmd.Context(), c, filters)
			if err != nil {
				return err
			}
			if verbose {
				printVerbose(a.out, records)
			} else {
				printUsage(a.out, records)
			}
			return printTotals(a.out, records)
		},
	}
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "Provide filter values")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "Provide a more verbose output")
	return cmd
}

func printUsage(out io.Writer, records []build.CacheRecord) {
	w := tabwriter.NewWriter(out, 1, 8, 1, '\t', 0)
	fmt.Fprintln(w, "ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED")
	for _, r := range records {
		id := r.ID
		if r.Type != "" && !r.InUse && r.UsageCount == 0 {
			id += "*"
		}
		size := console.HumanSize4(r.Size)
		if r.Shared {
			size += "*"
		}
		fmt.Fprintf(w, "%s\t%v\t%s\t%s\n", id, !r.InUse, size, accessed(r))
	}
	_ = w.Flush() // the totals' write reports a broken pipe
}

func accessed(r build.CacheRecord) string {
	if r.LastUsedAt == nil {
		return ""
	}
	return console.HumanAge(*r.LastUsedAt)
}

func printVerbose(out io.Writer, records []build.CacheRecord) {
	w := tabwriter.NewWriter(out, 1, 8, 1, '\t', 0)
	for _, r := range records {
		fmt.Fprintf(w, "ID:\t%s\n", r.ID)
		if len(r.Parents) > 0 {
			fmt.Fprintf(w, "Parents:\t%s\n", strings.Join(r.Parents, ", "))
		}
		fmt.Fprintf(w, "Created at:\t%s\n", r.CreatedAt.Format(time.RFC3339Nano))
		fmt.Fprintf(w, "Reclaimable:\t%v\nShared:\t%v\nSize:\t%s\n", !r.InUse, r.Shared, console.HumanSize4(r.Size))
		fmt.Fprintf(w, "Description:\t%s\nUsage count:\t%d\n", r.Description, r.UsageCount)
		fmt.Fprintf(w, "Last used:\t%s\nType:\t%s\n\n", accessed(r), r.Type)
	}
	_ = w.Flush()
}

func printTotals(out io.Writer, records []build.CacheRecord) error {
	var shared, private, reclaimable, total int64
	for _, r := range records {
		if r.Shared {
			shared += r.Size
		} else {
			private += r.Size
		}
		if !r.InUse {
			reclaimable += r.Size
		}
		total += r.Size
	}
	w := tabwriter.NewWriter(out, 1, 8, 1, '\t', 0)
	if shared > 0 {
		fmt.Fprintf(w, "Shared:\t%s\nPrivate:\t%s\n", console.HumanSize4(shared), console.HumanSize4(private))
	}
	fmt.Fprintf(w, "Reclaimable:\t%s\nTotal:\t%s\n", console.HumanSize4(reclaimable), console.HumanSize4(total))
	return w.Flush()
}

func (a *app) lsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ls [OPTIONS]", Short: "List builder instances", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close() // nothing is written any more
			workers, err := buildclient.Workers(cmd.Context(), c)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(a.out, 1, 8, 1, ' ', 0)
			fmt.Fprintln(w, "NAME/NODE\tDRIVER/ENDPOINT\tSTATUS\tBUILDKIT\tPLATFORMS")
			fmt.Fprintln(w, "default*\tmuelle\t\t\t")
			for _, x := range workers {
				fmt.Fprintf(w, " \\_ default\t%s\trunning\t%s\t%s\n", c.Host(), x.Version, strings.Join(x.Platforms, ", "))
			}
			return w.Flush()
		},
	}
}
