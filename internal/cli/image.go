package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

const platformUsage = "Set platform if server is multi-platform capable"

func platformFlag(c *cobra.Command, p *string) {
	c.Flags().StringVar(p, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), platformUsage)
}

// platformJSON turns os/arch[/variant] into what the newer endpoints take.
func platformJSON(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	parts := strings.Split(s, "/")
	if len(parts) > 3 || parts[0] == "" {
		return "", fmt.Errorf("invalid platform: %q: unknown operating system or architecture", s)
	}
	m := map[string]string{}
	for i, k := range []string{"os", "architecture", "variant"} {
		if i < len(parts) {
			m[k] = parts[i]
		}
	}
	b, err := json.Marshal(m)
	return string(b), err
}

func platformList(all []string) ([]string, error) {
	var out []string
	for _, s := range all {
		p, err := platformJSON(s)
		if err != nil {
			return nil, err
		}
		if p != "" {
			out = append(out, p)
		}
	}
	return out, nil
}

func (a *app) pull() *cobra.Command {
	var all, quiet, untrust bool
	var platform string
	c := a.command("pull [OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", exactArgs(1), func(ctx context.Context, args []string) error {
		ref, err := console.ParseRef(args[0])
		if err != nil {
			return err
		}
		if !untrust {
			return errNoTrust
		}
		switch bare := ref.Tag == "" && ref.Digest == ""; {
		case all && !bare:
			return errors.New("tag can't be used with --all-tags/-a")
		case !all && bare:
			ref.Tag = "latest"
			if !quiet {
				_, _ = fmt.Fprintln(a.Out, "Using default tag: latest")
			}
		}
		if err := a.pullImage(ctx, ref.FamiliarString(), platform, all, quiet); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, ref.String())
		return nil
	})
	f := c.Flags()
	f.BoolVarP(&all, "all-tags", "a", false, "Download all tagged images in the repository")
	f.BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	a.untrusted(f, &untrust, "Skip image verification")
	platformFlag(c, &platform)
	return a.also(c, "image pull", "pull")
}

func (a *app) pullImage(ctx context.Context, ref, platform string, all, quiet bool) error {
	return a.transfer(ctx, ref, quiet, func(c *client.Client, auth *registry.AuthConfig) (io.ReadCloser, error) {
		return c.Images.Pull(ctx, ref, platform, all, auth)
	})
}

func (a *app) transfer(ctx context.Context, ref string, quiet bool, do func(*client.Client, *registry.AuthConfig) (io.ReadCloser, error)) error {
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	auth, err := a.where.Auth(ref)
	if err != nil {
		return err
	}
	body, err := do(c, auth)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	out := a.Out
	if quiet {
		out = io.Discard
	}
	err = console.DisplayProgress(body, out)
	if je := new(jsonstream.Error); errors.As(err, &je) {
		return statusError{1, je.Message}
	}
	return err
}

func (a *app) push() *cobra.Command {
	var all, quiet, untrust bool
	var platform string
	c := a.command("push [OPTIONS] NAME[:TAG]", "Upload an image to a registry", exactArgs(1), func(ctx context.Context, args []string) error {
		ref, err := console.ParseRef(args[0])
		if err != nil {
			return err
		}
		if !untrust {
			return errNoTrust
		}
		p, err := platformJSON(platform)
		if err != nil {
			return err
		}
		switch {
		case all && (ref.Tag != "" || ref.Digest != ""):
			return errors.New("tag can't be used with --all-tags/-a")
		case !all && ref.Tag == "" && ref.Digest == "":
			ref.Tag = "latest"
			if !quiet {
				_, _ = fmt.Fprintln(a.Out, "Using default tag: latest")
			}
		}
		name := ref.FamiliarString()
		err = a.transfer(ctx, name, quiet, func(c *client.Client, auth *registry.AuthConfig) (io.ReadCloser, error) {
			return c.Images.Push(ctx, name, p, all, auth)
		})
		if err == nil && quiet {
			_, _ = fmt.Fprintln(a.Out, ref.String())
		}
		return err
	})
	f := c.Flags()
	f.BoolVarP(&all, "all-tags", "a", false, "Push all tags of an image to the repository")
	f.BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	a.untrusted(f, &untrust, "Skip image signing")
	f.StringVar(&platform, "platform", "", `Push a platform-specific manifest as a single-platform image to the registry.
Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)`)
	return a.also(c, "image push", "push")
}

func (a *app) tag() *cobra.Command {
	c := a.command("tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", exactArgs(2), func(ctx context.Context, args []string) error {
		ref, err := console.ParseRef(args[1])
		if err != nil {
			return fmt.Errorf("Error parsing reference: %q is not a valid repository/tag: %w", args[1], err)
		}
		if ref.Digest != "" {
			return errors.New("refusing to create a tag with a digest reference")
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		return c.Images.Tag(ctx, args[0], args[1])
	})
	return a.also(c, "image tag", "tag")
}

func (a *app) rmi(use string) *cobra.Command {
	var o client.ImageRemoveOptions
	var platforms []string
	c := a.command(use+" [OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", minArgs(1), func(ctx context.Context, args []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		if o.Platforms, err = platformList(platforms); err != nil {
			return err
		}
		fatal := false
		var errs []error
		for _, ref := range args {
			removed, err := c.Images.Remove(ctx, ref, o)
			if err != nil {
				fatal = fatal || !errdefs.IsNotFound(err)
				errs = append(errs, err)
				continue
			}
			for _, r := range removed {
				a.sayRemoved(r)
			}
		}
		err = errors.Join(errs...)
		if err != nil && o.Force && !fatal {
			_, _ = fmt.Fprintln(a.Err, err)
			return nil
		}
		return err
	})
	f := c.Flags()
	f.BoolVarP(&o.Force, "force", "f", false, "Force removal of the image")
	f.BoolVar(&o.NoPrune, "no-prune", false, "Do not delete untagged parents")
	f.StringSliceVar(&platforms, "platform", nil, `Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	if use == "rm" {
		c.Aliases = []string{"rmi", "remove"}
	}
	return a.also(c, "image rm", "image remove", "rmi")
}

func (a *app) sayRemoved(r image.DeleteResponse) {
	if r.Deleted != "" {
		_, _ = fmt.Fprintln(a.Out, "Deleted:", r.Deleted)
		return
	}
	_, _ = fmt.Fprintln(a.Out, "Untagged:", r.Untagged)
}

func (a *app) history() *cobra.Command {
	var human, quiet, noTrunc bool
	var format, platform string
	c := a.command("history [OPTIONS] IMAGE", "Show the history of an image", exactArgs(1), func(ctx context.Context, args []string) error {
		p, err := platformJSON(platform)
		if err != nil {
			return err
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		all, err := c.Images.History(ctx, args[0], p)
		if err != nil {
			return err
		}
		source := pick(format, "")
		if source == "table" {
			switch {
			case quiet:
				source = "{{.ID}}"
			case human:
				source = historyFormat
			default:
				source = historyRawFormat
			}
		}
		t := console.Table{Out: a.Out, Format: source, Headers: historyHeaders()}
		return t.Write(rowsOf(all, func(h image.HistoryResponseItem) any { return &historyRow{!noTrunc, human, h} })...)
	})
	f := c.Flags()
	f.BoolVarP(&human, "human", "H", true, "Print sizes and dates in human readable format")
	f.BoolVarP(&quiet, "quiet", "q", false, "Only show image IDs")
	f.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	f.StringVar(&format, "format", "", formatHelp)
	f.StringVar(&platform, "platform", "", `Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return a.also(c, "image history", "history")
}
