package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

// inspector reads one kind of object: the daemon's document, and an empty value of
// its type.
type inspector struct {
	kind string
	raw  func(ctx context.Context, c *client.Client, ref string) ([]byte, error)
	typ  func() any
}

// read refuses the empty name: its path would be that of the list.
func (i inspector) read(ctx context.Context, c *client.Client, ref string) ([]byte, error) {
	if ref == "" {
		return nil, fmt.Errorf("invalid %s name or ID: value is empty", i.kind)
	}
	return i.raw(ctx, c, ref)
}

func containerInspector(size bool) inspector {
	return inspector{"container", func(ctx context.Context, c *client.Client, ref string) ([]byte, error) {
		return c.Containers.InspectRaw(ctx, ref, size)
	}, func() any { return new(container.InspectResponse) }}
}

func imageInspector(platform string) inspector {
	return inspector{"image", func(ctx context.Context, c *client.Client, ref string) ([]byte, error) {
		return c.Images.InspectRaw(ctx, ref, platform)
	}, func() any { return new(image.InspectResponse) }}
}

func networkInspector(verbose bool) inspector {
	return inspector{"network", func(ctx context.Context, c *client.Client, ref string) ([]byte, error) {
		return c.Networks.InspectRaw(ctx, ref, verbose)
	}, func() any { return new(network.Inspect) }}
}

func volumeInspector() inspector {
	return inspector{"volume", func(ctx context.Context, c *client.Client, ref string) ([]byte, error) {
		return c.Volumes.InspectRaw(ctx, ref)
	}, func() any { return new(volume.Volume) }}
}

// inspectAll prints the objects; those that are missing are errors at the end.
func (a *app) inspectAll(ctx context.Context, refs []string, format string, find func(c *client.Client, ref string) ([]byte, any, error)) error {
	if format != "" && format != "json" {
		if _, err := console.Template(format); err != nil {
			return statusError{64, err.Error()}
		}
	}
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	var raws [][]byte
	var typed []any
	var errs []error
	for _, ref := range refs {
		raw, v, err := find(c, ref)
		if err == nil {
			v = console.Plain(v)
			err = json.Unmarshal(raw, v)
		}
		if err != nil {
			if errors.As(err, new(*client.UnreachableError)) {
				return err
			}
			errs = append(errs, err)
			continue
		}
		raws, typed = append(raws, raw), append(typed, v)
	}
	if err := console.Inspect(a.Out, format, typed, raws); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return statusError{1, err.Error()}
	}
	return nil
}

func (a *app) inspectKind(ctx context.Context, refs []string, format string, i inspector) error {
	return a.inspectAll(ctx, refs, format, func(c *client.Client, ref string) ([]byte, any, error) {
		raw, err := i.read(ctx, c, ref)
		return raw, i.typ(), err
	})
}

func (a *app) inspect() *cobra.Command {
	var format, kind string
	var size, kernel bool
	var c *cobra.Command
	kinds := `"config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume"`
	c = a.command("inspect [OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on Docker objects", minArgs(1), func(ctx context.Context, args []string) error {
		if c.Flags().Changed("type") && kind == "" {
			return errors.New("type is empty: must be one of " + kinds)
		}
		if kernel {
			if kind != "" && kind != "container" {
				return fmt.Errorf("--kernel is about containers: leave --type %s out", kind)
			}
			return a.inspectKernel(ctx, args, format)
		}
		all := []inspector{containerInspector(size), imageInspector(""), networkInspector(false), volumeInspector()}
		var some []inspector
		for _, i := range all {
			if kind == "" || kind == i.kind {
				some = append(some, i)
			}
		}
		if len(some) == 0 {
			if strings.Contains(kinds, `"`+kind+`"`) {
				return swarmError("--type " + kind)
			}
			return fmt.Errorf("unknown type: %q: must be one of %s", kind, kinds)
		}
		return a.inspectAll(ctx, args, format, func(c *client.Client, ref string) ([]byte, any, error) {
			return a.findObject(ctx, c, ref, some, size)
		})
	})
	f := c.Flags()
	f.StringVarP(&format, "format", "f", "", inspectFormatHelp)
	f.StringVar(&kind, "type", "", "Only inspect objects of the given type")
	f.BoolVarP(&size, "size", "s", false, "Display total file sizes if the type is container")
	f.BoolVar(&kernel, "kernel", false, "Show what the kernel says of a running container: namespaces, cgroups, capabilities, mounts, interfaces, rules")
	return c
}

func (a *app) findObject(ctx context.Context, c *client.Client, ref string, among []inspector, size bool) ([]byte, any, error) {
	for _, i := range among {
		raw, err := i.read(ctx, c, ref)
		if err == nil {
			if size && i.kind != "container" {
				_, _ = fmt.Fprintln(a.Err, "WARNING: --size ignored for", i.kind)
			}
			return raw, i.typ(), nil
		}
		skip := errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) || strings.Contains(err.Error(), "not supported") || strings.Contains(err.Error(), "invalid reference format")
		if len(among) == 1 || !skip {
			return nil, nil, err
		}
	}
	return nil, nil, fmt.Errorf("Error: No such object: %s", ref)
}

func (a *app) inspectCommand(use, short string, kind func(c *cobra.Command) func() inspector) *cobra.Command {
	var format string
	var pick func() inspector
	c := a.command(use, short, minArgs(1), func(ctx context.Context, args []string) error {
		return a.inspectKind(ctx, args, format, pick())
	})
	c.Flags().StringVarP(&format, "format", "f", "", inspectFormatHelp)
	pick = kind(c)
	return c
}

// swarmError answers for what belongs to Swarm.
func swarmError(what string) error {
	return fmt.Errorf("%s is not supported: Muelle runs on one machine and has no Swarm mode", what)
}
