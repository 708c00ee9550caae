package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/internal/compose/model"
)

type configFlags struct {
	format, hash, output                                         string
	services, volumes, networks, models, profiles, images, quiet bool
	environment, variables, digests, lock                        bool
	options                                                      model.Options
}

func (a *app) configCommand() *cobra.Command {
	var o configFlags
	cmd := &cobra.Command{
		Use:     "config [OPTIONS] [SERVICE...]",
		Aliases: []string{"convert"},
		Short:   "Parse, resolve and render compose file in canonical format",
		RunE: func(cmd *cobra.Command, services []string) error {
			switch {
			case o.digests || o.lock:
				return errors.New("--resolve-image-digests and --lock-image-digests are not supported by Muelle yet")
			case o.variables:
				return errors.New("--variables is not supported by Muelle yet")
			case o.options.NoInterpolate:
				return errors.New("--no-interpolate is not supported by Muelle yet")
			}
			base := a.options(nil)
			base.NoNormalize, base.NoConsistency = o.options.NoNormalize, o.options.NoConsistency
			base.NoPathResolution, base.NoEnvResolution = o.options.NoPathResolution, o.options.NoEnvResolution
			return a.config(cmd.Context(), base, &o, services)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "yaml", "Format the output. Values: [yaml | json]")
	f.BoolVar(&o.digests, "resolve-image-digests", false, "Pin image tags to digests")
	f.BoolVar(&o.lock, "lock-image-digests", false, "Produces an override file with image digests")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Only validate the configuration, don't print anything")
	f.BoolVar(&o.options.NoInterpolate, "no-interpolate", false, "Don't interpolate environment variables")
	f.BoolVar(&o.options.NoNormalize, "no-normalize", false, "Don't normalize compose model")
	f.BoolVar(&o.options.NoPathResolution, "no-path-resolution", false, "Don't resolve file paths")
	f.BoolVar(&o.options.NoConsistency, "no-consistency", false, "Don't check model consistency - warning: may produce invalid Compose output")
	f.BoolVar(&o.options.NoEnvResolution, "no-env-resolution", false, "Don't resolve service env files")
	f.BoolVar(&o.services, "services", false, "Print the service names, one per line.")
	f.BoolVar(&o.volumes, "volumes", false, "Print the volume names, one per line.")
	f.BoolVar(&o.networks, "networks", false, "Print the network names, one per line.")
	f.BoolVar(&o.models, "models", false, "Print the model names, one per line.")
	f.BoolVar(&o.profiles, "profiles", false, "Print the profile names, one per line.")
	f.BoolVar(&o.images, "images", false, "Print the image names, one per line.")
	f.StringVar(&o.hash, "hash", "", "Print the service config hash, one per line.")
	f.BoolVar(&o.variables, "variables", false, "Print model variables and default values.")
	f.BoolVar(&o.environment, "environment", false, "Print environment used for interpolation.")
	f.StringVarP(&o.output, "output", "o", "", "Save to file (default to stdout)")
	return cmd
}

func (a *app) config(ctx context.Context, base model.Options, o *configFlags, services []string) error {
	if o.services || o.volumes || o.networks || o.profiles || o.models || o.hash == "" {
		base.Services = services
	}
	p, err := model.Load(ctx, base)
	if err != nil {
		return err
	}
	switch {
	case o.services:
		return a.print(p.ServiceNames())
	case o.volumes:
		return a.print(p.VolumeNames())
	case o.networks:
		return a.print(p.NetworkNames())
	case o.models:
		return a.print(p.ModelNames())
	case o.profiles:
		return a.print(profiles(p))
	case o.images:
		var images []string
		for _, name := range p.ServiceNames() {
			images = append(images, model.ImageName(p.Name, p.Services[name]))
		}
		return a.print(images)
	case o.environment:
		var lines []string
		for _, k := range slices.Sorted(maps.Keys(p.Environment)) {
			lines = append(lines, k+"="+p.Environment[k])
		}
		return a.print(lines)
	case o.hash != "":
		return a.hashes(p, o.hash)
	}
	return a.render(p, o)
}

func profiles(p *types.Project) []string {
	seen := map[string]bool{}
	for _, s := range p.AllServices() {
		for _, name := range s.Profiles {
			seen[name] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func (a *app) hashes(p *types.Project, which string) error {
	names := p.ServiceNames()
	if which != "*" {
		names = strings.Split(which, ",")
	}
	for _, name := range names {
		s, err := p.GetService(name)
		if err != nil {
			return err
		}
		hash, _, err := model.ServiceHash(s)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(a.Out, "%s %s\n", name, hash); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) render(p *types.Project, o *configFlags) error {
	if !o.options.NoConsistency {
		if err := p.CheckContainerNameUnicity(); err != nil {
			return err
		}
	}
	var content []byte
	var err error
	switch o.format {
	case "yaml":
		content, err = p.MarshalYAML()
	case "json":
		content, err = p.MarshalJSON()
	default:
		return fmt.Errorf("unsupported format %q", o.format)
	}
	if err != nil || o.quiet {
		return err
	}
	content = bytes.ReplaceAll(content, []byte("$"), []byte("$$"))
	if o.output != "" {
		return os.WriteFile(o.output, content, 0o666)
	}
	_, err = a.Out.Write(content)
	return err
}

const versionText = "Muelle Compose, compatible with Docker Compose version v" + api.ComposeVersion

func (a *app) versionCommand() *cobra.Command {
	var short bool
	var format string
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Show the Docker Compose version information",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case short:
				return a.print([]string{api.ComposeVersion})
			case format == "json":
				return a.json(map[string]string{"version": "v" + api.ComposeVersion})
			}
			return a.print([]string{versionText})
		},
	}
	cmd.Flags().BoolVar(&short, "short", false, "Shows only Compose's version number")
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format the output. Values: [pretty | json]. (Default: pretty)")
	return cmd
}
