package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"muelle/internal/cli/runflags"
)

func (a *app) volume() *cobra.Command {
	inspect := a.inspectCommand("inspect [OPTIONS] VOLUME [VOLUME...]", "Display detailed information on one or more volumes", func(*cobra.Command) func() inspector { return volumeInspector })
	update := a.command("update [OPTIONS] VOLUME", "Update a volume (cluster volumes only)", maxArgs(1), func(context.Context, []string) error {
		return swarmError("volume update")
	})
	update.Flags().String("availability", "active", `Cluster Volume availability ("active", "pause", "drain")`)
	return a.group("volume", "Manage volumes", a.volumeCreate(), inspect, a.volumeLs(), a.volumeRm(),
		a.prune(volumePruner(), "Remove unused local volumes"), update)
}

func (a *app) volumeCreate() *cobra.Command {
	var name, driver string
	var opts runflags.Map
	labels := runflags.List{Check: runflags.CheckLabel}
	var c *cobra.Command
	cluster := []string{"availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing", "topology-preferred", "topology-required", "type"}
	c = a.command("create [OPTIONS] [VOLUME]", "Create a volume", maxArgs(1), func(ctx context.Context, args []string) error {
		for _, f := range cluster {
			if c.Flags().Changed(f) {
				return swarmError("--" + f)
			}
		}
		if len(args) == 1 {
			if name != "" {
				return errors.New("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
			}
			name = args[0]
		}
		api, err := a.api(ctx)
		if err != nil {
			return err
		}
		v, err := api.Volumes.Create(ctx, volume.CreateRequest{Name: name, Driver: driver, DriverOpts: opts.Values, Labels: runflags.Pairs(labels.Values)})
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, v.Name)
		return nil
	})
	f := c.Flags()
	f.StringVar(&name, "name", "", "Specify volume name")
	f.Lookup("name").Hidden = true
	f.StringVarP(&driver, "driver", "d", "local", "Specify volume driver name")
	f.VarP(&opts, "opt", "o", "Set driver specific options")
	f.Var(&labels, "label", "Set metadata for a volume")
	for _, n := range cluster {
		f.String(n, "", "Of cluster volumes only")
	}
	return c
}

func (a *app) volumeRm() *cobra.Command {
	var force bool
	c := a.command("rm [OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", minArgs(1), func(ctx context.Context, args []string) error {
		api, err := a.api(ctx)
		if err != nil {
			return err
		}
		var errs []error
		for _, ref := range args {
			if err := api.Volumes.Remove(ctx, ref, force); err != nil {
				errs = append(errs, err)
				continue
			}
			_, _ = fmt.Fprintln(a.Out, ref)
		}
		return errors.Join(errs...)
	})
	c.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of one or more volumes")
	c.Aliases = []string{"remove"}
	c.Long = "Remove one or more volumes. You cannot remove a volume that is in use by a container."
	return a.also(c, "volume rm", "volume remove")
}
