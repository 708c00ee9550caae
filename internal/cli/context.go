package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

type contextRow struct {
	c       console.Context
	current bool
}

func (r *contextRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// Current says whether it is in use.
func (r *contextRow) Current() bool { return r.current }

// Name is the context's name.
func (r *contextRow) Name() string { return r.c.Name }

// Description is the context's.
func (r *contextRow) Description() string { return console.Ellipsis(r.c.Description, 60) }

// DockerEndpoint is the daemon's address.
func (r *contextRow) DockerEndpoint() string { return r.c.Host }

// Error is why a context cannot be used.
func (r *contextRow) Error() string { return "" }

func (a *app) context() *cobra.Command {
	use := a.command("use CONTEXT", "Set the default docker context", exactArgs(1), func(_ context.Context, args []string) error {
		if err := a.where.Contexts().Use(args[0]); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, args[0])
		_, _ = fmt.Fprintf(a.Err, "Current context is now %q\n", args[0])
		if v := a.where.HostVar(); os.Getenv(v) != "" && args[0] != console.DefaultContext {
			_, _ = fmt.Fprintf(a.Err, "Warning: %[1]s environment variable overrides the active context. To use %[2]q, either set the global --context flag, or unset %[1]s environment variable.\n", v, args[0])
		}
		return nil
	})
	use.Short = "Set the default context"
	show := a.command("show", "Print the name of the current context", noArgs, func(context.Context, []string) error {
		_, _ = fmt.Fprintln(a.Out, a.contextName())
		return nil
	})
	var force bool
	rm := a.command("rm CONTEXT [CONTEXT...]", "Remove one or more contexts", minArgs(1), func(_ context.Context, args []string) error {
		var errs []error
		for _, n := range args {
			if err := a.where.Contexts().Remove(n, force); err != nil {
				errs = append(errs, fmt.Errorf("failed to remove context %s: %w", n, err))
				continue
			}
			_, _ = fmt.Fprintln(a.Out, n)
		}
		return errors.Join(errs...)
	})
	rm.Aliases = []string{"remove"}
	rm.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of a context in use")
	return a.group("context", "Manage contexts", a.contextCreate(), a.contextExport(), a.contextImport(), a.contextInspect(), a.contextLs(), rm, show, a.contextUpdate(), use)
}

func (a *app) contextLs() *cobra.Command {
	var format string
	var quiet bool
	c := a.command("ls [OPTIONS]", "List contexts", noArgs, func(context.Context, []string) error {
		all, err := a.where.Contexts().List()
		if err != nil {
			return err
		}
		current := a.contextName()
		rows := rowsOf(all, func(c console.Context) any { return &contextRow{c, c.Name == current} })
		source := pick(format, "")
		switch {
		case quiet:
			source = "{{.Name}}"
		case source == "table":
			source = `table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}`
		}
		t := console.Table{Out: a.Out, Format: source, Headers: map[string]string{"Name": titleName, "Description": "DESCRIPTION", "DockerEndpoint": "DOCKER ENDPOINT", "Error": "ERROR"}}
		return t.Write(rows...)
	})
	c.Flags().StringVar(&format, "format", "", formatHelp)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only show context names")
	c.Aliases = []string{"list"}
	return a.also(c, "context ls", "context list")
}

// endpointFields reads --docker host=…,ca=…,cert=…,key=…,skip-tls-verify=…. A host that
// no client could be made for is refused.
func endpointFields(x *console.Context, s string) error {
	before := x.Host
	for f := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(f, "=")
		if !ok && f != "" {
			return fmt.Errorf("invalid endpoint option %q: want key=value", f)
		}
		switch k {
		case "":
		case "host":
			x.Host = v
		case "ca":
			x.CA = v
		case "cert":
			x.Cert = v
		case "key":
			x.Key = v
		case "skip-tls-verify":
			x.SkipVerify = v == "true" || v == "1"
		default:
			return fmt.Errorf("unrecognized config key: %s", k)
		}
	}
	if x.Host == before {
		return nil
	}
	c, err := client.New(client.Options{Host: x.Host})
	if err != nil {
		return fmt.Errorf("unable to create docker endpoint config: %w", err)
	}
	return c.Close()
}

const endpointUsage = "set the docker endpoint"

func (a *app) contextCreate() *cobra.Command {
	var description, endpoint, from string
	c := a.command("create [OPTIONS] CONTEXT", "Create a context", exactArgs(1), func(_ context.Context, args []string) error {
		store := a.where.Contexts()
		x := console.Context{}
		if from != "" || endpoint == "" {
			name := from
			if name == "" {
				name = a.contextName()
			}
			var err error
			if x, err = store.Get(name); err != nil {
				return err
			}
		}
		x.Name, x.Description = args[0], description
		if err := endpointFields(&x, endpoint); err != nil {
			return err
		}
		if err := store.Save(x, false); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, x.Name)
		_, _ = fmt.Fprintf(a.Err, "Successfully created context %q\n", x.Name)
		return nil
	})
	f := c.Flags()
	f.StringVar(&description, "description", "", "Description of the context")
	f.StringVar(&endpoint, "docker", "", endpointUsage)
	f.StringVar(&from, "from", "", "create context from a named context")
	return c
}

func (a *app) contextUpdate() *cobra.Command {
	var description, endpoint string
	var c *cobra.Command
	c = a.command("update [OPTIONS] CONTEXT", "Update a context", exactArgs(1), func(_ context.Context, args []string) error {
		store := a.where.Contexts()
		x, err := store.Get(args[0])
		if err != nil {
			return err
		}
		if c.Flags().Changed("description") {
			x.Description = description
		}
		if err := endpointFields(&x, endpoint); err != nil {
			return err
		}
		if err := store.Save(x, true); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, x.Name)
		_, _ = fmt.Fprintf(a.Err, "Successfully updated context %q\n", x.Name)
		return nil
	})
	c.Flags().StringVar(&description, "description", "", "Description of the context")
	c.Flags().StringVar(&endpoint, "docker", "", endpointUsage)
	return c
}

// contextDocument is the form of context inspect.
type contextDocument struct {
	console.ContextDocument
	TLSMaterial map[string][]string
	Storage     struct{ MetadataPath, TLSPath string }
}

func (a *app) documentOf(x console.Context) contextDocument {
	d := contextDocument{ContextDocument: x.Document(), TLSMaterial: map[string][]string{}}
	for _, f := range []struct{ name, has string }{{"ca.pem", x.CA}, {"cert.pem", x.Cert}, {"key.pem", x.Key}} {
		if f.has != "" {
			d.TLSMaterial["docker"] = append(d.TLSMaterial["docker"], f.name)
		}
	}
	d.Storage.MetadataPath, d.Storage.TLSPath = a.where.Contexts().Storage(x)
	return d
}

func (a *app) contextInspect() *cobra.Command {
	var format string
	c := a.command("inspect [OPTIONS] [CONTEXT] [CONTEXT...]", "Display detailed information on one or more contexts", nil, func(_ context.Context, args []string) error {
		if len(args) == 0 {
			args = []string{a.contextName()}
		}
		var typed []any
		var raw [][]byte
		var errs []error
		for _, n := range args {
			x, err := a.where.Contexts().Get(n)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			d := a.documentOf(x)
			b, err := json.Marshal(d)
			if err != nil {
				return err
			}
			typed, raw = append(typed, d), append(raw, b)
		}
		return errors.Join(append(errs, console.Inspect(a.Out, format, typed, raw))...)
	})
	c.Flags().StringVarP(&format, "format", "f", "", inspectFormatHelp)
	return c
}

func (a *app) contextExport() *cobra.Command {
	return a.command("export [OPTIONS] CONTEXT [FILE|-]", "Export a context to a tar archive FILE or a tar stream on STDOUT.", rangeArgs(1, 2), func(_ context.Context, args []string) error {
		x, err := a.where.Contexts().Get(args[0])
		if err != nil {
			return err
		}
		path := args[0] + ".dockercontext"
		if len(args) > 1 {
			path = args[1]
		}
		if path == "-" {
			if console.IsTerminal(a.Out) {
				return errors.New("cowardly refusing to export to a terminal, specify a file path")
			}
			return x.Export(a.Out)
		}
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(x.Export(f), f.Close()); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(a.Err, "Written file %q\n", path)
		return nil
	})
}

func (a *app) contextImport() *cobra.Command {
	return a.command("import CONTEXT FILE|-", "Import a context from a tar or zip file", exactArgs(2), func(_ context.Context, args []string) error {
		in := a.In
		if args[1] != "-" {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			in = f
		}
		x, err := console.ImportContext(in)
		if err != nil {
			return err
		}
		x.Name = args[0]
		if err := a.where.Contexts().Save(x, false); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, x.Name)
		_, _ = fmt.Fprintf(a.Err, "Successfully imported context %q\n", x.Name)
		return nil
	})
}
