package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"muelle/internal/console"
)

func (a *app) load() *cobra.Command {
	var input string
	var quiet bool
	var platforms []string
	c := a.command("load [OPTIONS]", "Load an image from a tar archive or STDIN", noArgs, func(ctx context.Context, _ []string) error {
		p, err := platformList(platforms)
		if err != nil {
			return err
		}
		in := a.In
		if input != "" && input != "-" {
			f, err := os.Open(input)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			in = f
		} else if console.IsTerminal(a.In) {
			return errors.New("requested load from stdin, but stdin is empty")
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		body, err := c.Images.Load(ctx, in, quiet || !console.IsTerminal(a.Out), p)
		if err != nil {
			return err
		}
		defer func() { _ = body.Close() }()
		return console.DisplayProgress(body, a.Out)
	})
	f := c.Flags()
	f.StringVarP(&input, "input", "i", "", "Read from tar archive file, instead of STDIN")
	f.BoolVarP(&quiet, "quiet", "q", false, "Suppress the load output")
	f.StringSliceVar(&platforms, "platform", nil, `Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return a.also(c, "image load", "load")
}

func (a *app) save() *cobra.Command {
	var output string
	var platforms []string
	c := a.command("save [OPTIONS] IMAGE [IMAGE...]", "Save one or more images to a tar archive (streamed to STDOUT by default)", minArgs(1), func(ctx context.Context, args []string) error {
		p, err := platformList(platforms)
		if err != nil {
			return err
		}
		return a.toFile(output, "save", func(w io.Writer) error {
			c, err := a.api(ctx)
			if err != nil {
				return err
			}
			body, err := c.Images.Save(ctx, args, p)
			if err != nil {
				return err
			}
			defer func() { _ = body.Close() }()
			_, err = io.Copy(w, body)
			return err
		})
	})
	f := c.Flags()
	f.StringVarP(&output, "output", "o", "", "Write to a file, instead of STDOUT")
	f.StringSliceVar(&platforms, "platform", nil, `Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return a.also(c, "image save", "save")
}

func (a *app) toFile(path, verb string, write func(io.Writer) error) error {
	return console.ToFile(a.Out, path, verb, write)
}

func (a *app) importImage() *cobra.Command {
	var changes []string
	var message, platform string
	c := a.command("import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]", "Import the contents from a tarball to create a filesystem image", minArgs(1), func(ctx context.Context, args []string) error {
		source, ref := args[0], ""
		if len(args) > 1 {
			ref = args[1]
			if _, err := console.ParseRef(ref); err != nil {
				return err
			}
		}
		var body io.Reader
		from := "-"
		switch {
		case source == "-":
			body = a.In
		case strings.HasPrefix(source, "http://"), strings.HasPrefix(source, "https://"), strings.HasPrefix(source, "ftp://"):
			from = source
		default:
			f, err := os.Open(source)
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			body = f
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		res, err := c.Images.Import(ctx, from, ref, platform, message, changes, body)
		if err != nil {
			return err
		}
		defer func() { _ = res.Close() }()
		return console.DisplayProgress(res, a.Out)
	})
	f := c.Flags()
	f.StringArrayVarP(&changes, "change", "c", nil, "Apply Dockerfile instruction to the created image")
	f.StringVarP(&message, "message", "m", "", "Set commit message for imported image")
	platformFlag(c, &platform)
	return a.also(c, "image import", "import")
}
