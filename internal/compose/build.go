package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/client"
	"muelle/internal/buildclient"
	"muelle/internal/compose/display"
	"muelle/internal/compose/model"
)

type buildFlags struct {
	noCache, pull, push, quiet, deps bool
	args, ssh                        []string
	memory, provenance, sbom         string
}

func (a *app) buildCommand() *cobra.Command {
	var o buildFlags
	var check, print bool
	var builder string
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] [SERVICE...]",
		Short: "Build or rebuild services",
		RunE: func(cmd *cobra.Command, services []string) error {
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if check || print || builder != "" || o.memory != "" {
				return errors.New("--check, --print, --builder and --memory are not supported by Muelle yet")
			}
			p, c, err := a.selected(ctx, services, o.deps)
			if err != nil {
				return err
			}
			var list []types.ServiceConfig
			for _, name := range p.ServiceNames() {
				if s := p.Services[name]; s.Build != nil {
					list = append(list, s)
				}
			}
			if len(list) == 0 {
				a.warn("No services to build")
				return nil
			}
			if err := a.build(ctx, c, p, list, o); err != nil || !o.push {
				return interrupted(ctx, err)
			}
			show := a.progress("push")
			defer show.Close()
			for _, s := range list {
				if s.Image == "" {
					continue
				}
				if err := a.push(ctx, c, s, show, o.quiet); err != nil {
					return interrupted(ctx, err)
				}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.args, "build-arg", nil, "Set build-time variables for services")
	f.StringVar(&builder, "builder", "", "Set builder to use")
	f.BoolVar(&check, "check", false, "Check build configuration")
	f.StringVarP(&o.memory, "memory", "m", "", "Set memory limit for the build container. Not supported by BuildKit.")
	f.BoolVar(&o.noCache, "no-cache", false, "Do not use cache when building the image")
	f.BoolVar(&print, "print", false, "Print equivalent bake file")
	f.StringVar(&o.provenance, "provenance", "", "Add a provenance attestation")
	f.BoolVar(&o.pull, "pull", false, "Always attempt to pull a newer version of the image")
	f.BoolVar(&o.push, "push", false, "Push service images")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the build output")
	f.StringVar(&o.sbom, "sbom", "", "Add a SBOM attestation")
	f.StringArrayVar(&o.ssh, "ssh", nil, "Set SSH authentications used when building service images. (use 'default' for using your default SSH Agent)")
	f.BoolVar(&o.deps, "with-dependencies", false, "Also build dependencies (transitively)")
	return cmd
}

// build builds services at the same time on one display. A service whose build
// takes another service's image as a context waits for that.
func (a *app) build(ctx context.Context, c *client.Client, p *types.Project, services []types.ServiceConfig, o buildFlags) error {
	mode := a.progressMode
	switch {
	case o.quiet || mode == display.ModeQuiet:
		mode = "quiet"
	case mode == display.ModeJSON:
		mode = "rawjson"
	}
	progress, err := buildclient.NewProgress(a.Err, mode)
	if err != nil {
		return err
	}
	done := map[string]chan struct{}{}
	for _, s := range services {
		done[s.Name] = make(chan struct{})
	}
	eg, egctx := errgroup.WithContext(ctx)
	for _, s := range services {
		eg.Go(func() error {
			for _, dep := range contextServices(s.Build) {
				if ch, ok := done[dep]; ok && dep != s.Name {
					select {
					case <-ch:
					case <-egctx.Done():
						return egctx.Err()
					}
				}
			}
			opt, err := a.buildOptions(c, p, s, o)
			if err != nil {
				return fmt.Errorf("service %q: %w", s.Name, err)
			}
			opt.Progress = progress
			if len(services) > 1 {
				opt.Prefix = s.Name
			}
			if _, err := buildclient.Build(egctx, opt); err != nil {
				return fmt.Errorf("target %s: %w", s.Name, err)
			}
			close(done[s.Name])
			return nil
		})
	}
	err = errors.Join(eg.Wait(), progress.Close())
	if err != nil {
		return err
	}
	show := a.progress("build")
	for _, s := range services {
		show.On(display.Event{ID: "Image " + model.ImageName(p.Name, s), Text: "Built", State: display.Done})
	}
	show.Close()
	return nil
}

// contextServices are the services whose images a build uses as contexts.
func contextServices(b *types.BuildConfig) []string {
	var out []string
	for _, target := range b.AdditionalContexts {
		if name, ok := strings.CutPrefix(target, types.ServicePrefix); ok {
			out = append(out, name)
		}
	}
	return out
}

func (a *app) buildOptions(c *client.Client, p *types.Project, s types.ServiceConfig, f buildFlags) (buildclient.Options, error) {
	b := s.Build
	o := buildclient.Options{
		Client:           c,
		ContextDir:       b.Context,
		DockerfileInline: b.DockerfileInline,
		Tags:             append([]string{model.ImageName(p.Name, s)}, b.Tags...),
		Args:             buildArgs(p, b, f.args),
		Target:           b.Target,
		NoCache:          b.NoCache || f.noCache,
		NoCacheFilter:    b.NoCacheFilter,
		Pull:             b.Pull || f.pull,
		Labels:           map[string]string{},
		Platforms:        b.Platforms,
		Network:          b.Network,
		ExtraHosts:       b.ExtraHosts.AsList(":"),
		Contexts:         map[string]string{},
		CacheFrom:        b.CacheFrom,
		CacheTo:          b.CacheTo,
		ShmSize:          int64(b.ShmSize),
		Allow:            b.Entitlements,
		Stdout:           a.Out,
		Credentials:      a.credentials,
	}
	maps.Copy(o.Labels, b.Labels)
	o.Labels[api.LabelProject], o.Labels[api.LabelService], o.Labels[api.LabelComposeVersion] = p.Name, s.Name, api.ComposeVersion
	if b.Dockerfile != "" && b.DockerfileInline == "" {
		o.Dockerfile = b.Dockerfile
		if !filepath.IsAbs(o.Dockerfile) && filepath.IsAbs(b.Context) {
			o.Dockerfile = filepath.Join(b.Context, b.Dockerfile)
		}
	}
	if s.Platform != "" {
		o.Platforms = []string{s.Platform}
	} else if len(o.Platforms) > 1 {
		// The image is to be run here: the builder chooses.
		o.Platforms = nil
	}
	if b.Privileged {
		o.Allow = append(slices.Clone(o.Allow), "security.insecure")
	}
	for name, target := range b.AdditionalContexts {
		if service, ok := strings.CutPrefix(target, types.ServicePrefix); ok {
			dep, err := p.GetService(service)
			if err != nil {
				return o, err
			}
			target = "docker-image://" + model.ImageName(p.Name, dep)
		}
		o.Contexts[name] = target
	}
	for name, u := range b.Ulimits {
		soft, hard := u.Single, u.Single
		if u.Soft != 0 {
			soft = u.Soft
		}
		if u.Hard != 0 {
			hard = u.Hard
		}
		o.Ulimits = append(o.Ulimits, fmt.Sprintf("%s=%d:%d", name, soft, hard))
	}
	slices.Sort(o.Ulimits)
	return o, a.buildSecrets(p, b, f, &o)
}

func (a *app) buildSecrets(p *types.Project, b *types.BuildConfig, f buildFlags, o *buildclient.Options) error {
	for _, ref := range b.Secrets {
		def, ok := p.Secrets[ref.Source]
		if !ok || def.File == "" {
			return fmt.Errorf("build secret %q has no file: only those are supported by Muelle yet", ref.Source)
		}
		id := ref.Source
		if ref.Target != "" {
			id = ref.Target
		}
		o.Secrets = append(o.Secrets, buildclient.Secret{ID: id, Source: def.File})
	}
	for _, key := range b.SSH {
		ssh := buildclient.SSH{ID: key.ID}
		if key.Path != "" {
			ssh.Paths = []string{key.Path}
		}
		o.SSH = append(o.SSH, ssh)
	}
	for _, arg := range f.ssh {
		id, path, ok := strings.Cut(arg, "=")
		ssh := buildclient.SSH{ID: id}
		if ok {
			ssh.Paths = []string{path}
		}
		o.SSH = append(o.SSH, ssh)
	}
	attest := func(kind, value string) {
		switch value {
		case "", "false":
		case "true":
			o.Attests = append(o.Attests, "type="+kind)
		default:
			o.Attests = append(o.Attests, "type="+kind+","+value)
		}
	}
	provenance, sbom := b.Provenance, b.SBOM
	if f.provenance != "" {
		provenance = f.provenance
	}
	if f.sbom != "" {
		sbom = f.sbom
	}
	attest("provenance", provenance)
	attest("sbom", sbom)
	return nil
}

// buildArgs are the file's and the command line's; those without a value come from
// the environment, or are left out.
func buildArgs(p *types.Project, b *types.BuildConfig, given []string) map[string]string {
	out := map[string]string{}
	set := func(k string, v *string) {
		if v != nil {
			out[k] = *v
		} else if env, ok := p.Environment[k]; ok {
			out[k] = env
		}
	}
	for k, v := range b.Args {
		set(k, v)
	}
	for _, arg := range given {
		k, v, ok := strings.Cut(arg, "=")
		if ok {
			set(k, &v)
		} else {
			set(k, nil)
		}
	}
	return out
}

// credentials are those of Docker's configuration.
func (a *app) credentials(host string) (*registry.AuthConfig, error) {
	cfg, err := a.console.DockerConfig()
	if err != nil {
		return nil, err
	}
	return cfg.Get(host)
}
