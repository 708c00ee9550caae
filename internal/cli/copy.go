package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
	"muelle/internal/console/filecopy"
)

func (a *app) commit() *cobra.Command {
	var o client.CommitOptions
	var noPause, pause bool
	c := a.command("commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Create a new image from a container's changes", rangeArgs(1, 2), func(ctx context.Context, args []string) error {
		if len(args) > 1 {
			r, err := console.ParseRef(args[1])
			if err != nil {
				return err
			}
			if r.Digest != "" {
				return errors.New("refusing to create a tag with a digest reference")
			}
			o.Repo, o.Tag = r.Familiar(), r.Tag
		}
		o.Pause = pause && !noPause
		o.Config = &container.Config{}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		id, err := c.Containers.Commit(ctx, args[0], o)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, id)
		return nil
	})
	f := c.Flags()
	f.BoolVarP(&pause, "pause", "p", true, "Pause container during commit (deprecated: use --no-pause)")
	f.Lookup("pause").Hidden = true
	f.BoolVar(&noPause, "no-pause", false, "Disable pausing container during commit")
	f.StringVarP(&o.Comment, "message", "m", "", "Commit message")
	f.StringVarP(&o.Author, "author", "a", "", `Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	return a.also(c, "container commit", "commit")
}

func (a *app) diff() *cobra.Command {
	c := a.command("diff CONTAINER", "Inspect changes to files or directories on a container's filesystem", exactArgs(1), func(ctx context.Context, args []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		all, err := c.Containers.Diff(ctx, args[0])
		if err != nil {
			return err
		}
		for _, x := range all {
			_, _ = fmt.Fprintf(a.Out, "%s %s\n", x.Kind, x.Path)
		}
		return nil
	})
	return a.also(c, "container diff", "diff")
}

func (a *app) export() *cobra.Command {
	var output string
	c := a.command("export [OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive", exactArgs(1), func(ctx context.Context, args []string) error {
		return a.toFile(output, "export", func(w io.Writer) error {
			c, err := a.api(ctx)
			if err != nil {
				return err
			}
			body, err := c.Containers.Export(ctx, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			_, err = io.Copy(w, body)
			return err
		})
	})
	c.Flags().StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	return a.also(c, "container export", "export")
}

type copyFlags struct{ archive, follow, quiet bool }

func (a *app) cp() *cobra.Command {
	var o copyFlags
	var c *cobra.Command
	c = a.command("cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t"+a.name()+" cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		"Copy files/folders between a container and the local filesystem", exactArgs(2), func(ctx context.Context, args []string) error {
			if args[0] == "" {
				return errors.New("source can not be empty")
			}
			if args[1] == "" {
				return errors.New("destination can not be empty")
			}
			if !c.Flags().Changed("quiet") {
				o.quiet = !console.IsTerminal(a.Err)
			}
			from, src := filecopy.ContainerPath(args[0])
			to, dst := filecopy.ContainerPath(args[1])
			api, err := a.api(ctx)
			if err != nil {
				return err
			}
			switch {
			case from != "" && to != "":
				return errors.New("copying between containers is not supported")
			case from != "":
				n, err := filecopy.From(ctx, api, from, src, dst, a.copying(o))
				return a.sayCopied(o, n, dst, err)
			case to != "":
				n, err := filecopy.To(ctx, api, to, src, dst, a.copying(o))
				return a.sayCopied(o, n, args[1], err)
			}
			return errors.New("must specify at least one container source")
		})
	c.Long = `Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.`
	f := c.Flags()
	f.BoolVarP(&o.follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	f.BoolVarP(&o.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached")
	return a.also(c, "container cp", "cp")
}

func (a *app) copying(o copyFlags) filecopy.Options {
	return filecopy.Options{Archive: o.archive, Follow: o.follow, Stdin: a.In, Stdout: a.Out}
}

// sayCopied tells what was copied, unless it went through the standard streams.
func (a *app) sayCopied(o copyFlags, n int64, to string, err error) error {
	if err == nil && !o.quiet && n >= 0 {
		_, _ = fmt.Fprintln(a.Err, "Successfully copied", size3(n), "to", to)
	}
	return err
}
