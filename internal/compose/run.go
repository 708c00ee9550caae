package compose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/model"
	"muelle/internal/console"
	"muelle/internal/id"
)

type runFlags struct {
	upFlags
	detachRun, remove, servicePorts, useAliases, noTTY, interactive, quiet bool
	name, user, workdir, entrypoint                                        string
	env, envFiles, labels, publish, volumes, capAdd, capDrop               []string
}

func (a *app) runCommand() *cobra.Command {
	o := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] SERVICE [COMMAND] [ARGS...]",
		Short: "Run a one-off command on a service",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd, o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.detachRun, "detach", "d", false, "Run container in background and print container ID")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.StringArrayVar(&o.envFiles, "env-from-file", nil, "Set environment variables from file")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "Add or override a label")
	f.BoolVar(&o.remove, "rm", false, "Automatically remove the container when it exits")
	f.BoolVarP(&o.noTTY, "no-tty", "T", !console.IsTerminal(a.Out), "Disable pseudo-TTY allocation (default: auto-detected)")
	f.StringVar(&o.name, "name", "", "Assign a name to the container")
	f.StringVarP(&o.user, "user", "u", "", "Run as specified username or uid")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	f.StringVar(&o.entrypoint, "entrypoint", "", "Override the entrypoint of the image")
	f.StringArrayVar(&o.capAdd, "cap-add", nil, "Add Linux capabilities")
	f.StringArrayVar(&o.capDrop, "cap-drop", nil, "Drop Linux capabilities")
	f.BoolVar(&o.noDeps, "no-deps", false, "Don't start linked services")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "Bind mount a volume")
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "Publish a container's port(s) to the host")
	f.BoolVar(&o.useAliases, "use-aliases", false, "Use the service's network useAliases in the network(s) the container connects to")
	f.BoolVarP(&o.servicePorts, "service-ports", "P", false, "Run command with all service's ports enabled and mapped to the host")
	f.StringVar(&o.pull, "pull", "policy", `Pull image before running ("always"|"missing"|"never")`)
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Don't print anything to STDOUT")
	f.BoolVar(&o.quietBuild, "quiet-build", false, "Suppress progress output from the build process")
	f.BoolVar(&o.quietPull, "quiet-pull", false, "Pull without printing progress information")
	f.BoolVar(&o.build, "build", false, "Build image before starting container")
	f.BoolVar(&o.removeOrphans, "remove-orphans", false, "Remove containers for services not defined in the Compose file")
	f.BoolVarP(&o.interactive, "interactive", "i", true, "Keep STDIN open even if not attached")
	return cmd
}

func (a *app) run(cmd *cobra.Command, o *runFlags, service string, command []string) error {
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	// The service's own container is neither created nor touched.
	o.scale = []string{service + "=1"}
	p, req, err := a.prepare(ctx, cmd, &o.upFlags, []string{service})
	if err != nil {
		return interrupted(ctx, err)
	}
	c, err := a.client(ctx)
	if err != nil {
		return err
	}
	spec := pick(&req.Spec, service)
	if err := a.runDependencies(ctx, c, p, req, o); err != nil {
		return interrupted(ctx, err)
	}
	create, err := o.container(p, &req.Spec, spec, command, !o.noTTY && !o.detachRun && console.IsTerminal(a.In))
	if err != nil {
		return err
	}
	res, err := c.Containers.Create(ctx, create)
	if err != nil {
		return err
	}
	for _, w := range res.Warnings {
		a.warn(w)
	}
	if o.detachRun {
		if err := c.Containers.Start(ctx, res.ID); err != nil {
			return err
		}
		return a.print([]string{create.Name})
	}
	stop()
	return a.runAttached(cmd.Context(), c, res.ID, create, o)
}

// pick takes a service out of the document.
func pick(spec *api.ProjectSpec, service string) api.ProjectService {
	var picked api.ProjectService
	var rest []api.ProjectService
	for _, s := range spec.Services {
		if s.Name == service {
			picked = s
		} else {
			rest = append(rest, s)
		}
	}
	spec.Services = rest
	spec.Disabled = append(spec.Disabled, service)
	return picked
}

// runDependencies brings up the dependencies (none with --no-deps), and in any case
// the networks and volumes, and waits for their gates.
func (a *app) runDependencies(ctx context.Context, c *client.Client, p *types.Project, req api.ProjectUpRequest, o *runFlags) error {
	req.Options.Services = nil
	req.Options.NoRecreate = true
	if o.noDeps {
		req.Spec.Services = nil
	}
	conditions := p.Services[req.Spec.Disabled[len(req.Spec.Disabled)-1]].DependsOn
	for _, how := range conditions {
		req.Options.Wait = req.Options.Wait || how.Condition != types.ServiceConditionStarted
	}
	show := a.progress("run")
	defer show.Close()
	return c.Projects.Up(ctx, p.Name, req, report(show))
}

// container describes the one-off container.
func (o *runFlags) container(p *types.Project, spec *api.ProjectSpec, s api.ProjectService, command []string, terminal bool) (client.CreateOptions, error) {
	slug := id.New()
	config, host := *s.Config, *s.HostConfig
	name := o.name
	if name == "" {
		name = fmt.Sprintf("%s-%s-run-%s", p.Name, s.Name, slug[:12])
	}
	if len(command) > 0 {
		config.Cmd = command
	}
	if o.entrypoint != "" {
		config.Entrypoint = strings.Fields(o.entrypoint)
		if len(command) == 0 {
			config.Cmd = nil
		}
	}
	if o.user != "" {
		config.User = o.user
	}
	if o.workdir != "" {
		config.WorkingDir = o.workdir
	}
	config.Tty = terminal
	config.OpenStdin = o.interactive && !o.detachRun
	config.StdinOnce, config.AttachStdin = config.OpenStdin, config.OpenStdin
	env, err := o.environment(p)
	if err != nil {
		return client.CreateOptions{}, err
	}
	config.Env = append(config.Env[:len(config.Env):len(config.Env)], env...)
	config.Labels = maps.Clone(config.Labels)
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	maps.Copy(config.Labels, map[string]string{
		api.LabelProject: p.Name, api.LabelService: s.Name, api.LabelOneOff: "True", api.LabelSlug: slug,
		api.LabelComposeVersion: api.ComposeVersion, api.LabelWorkingDir: spec.WorkingDir,
		api.LabelConfigFiles: strings.Join(spec.ConfigFiles, ","), api.LabelConfigHash: s.ConfigHash,
	})
	for _, l := range o.labels {
		k, v, _ := strings.Cut(l, "=")
		config.Labels[k] = v
	}
	host.RestartPolicy = container.RestartPolicy{}
	host.CapAdd = append(host.CapAdd[:len(host.CapAdd):len(host.CapAdd)], o.capAdd...)
	host.CapDrop = append(host.CapDrop[:len(host.CapDrop):len(host.CapDrop)], o.capDrop...)
	host.Binds = append(host.Binds[:len(host.Binds):len(host.Binds)], o.volumes...)
	if err := o.ports(&config, &host); err != nil {
		return client.CreateOptions{}, err
	}
	for _, mode := range []string{string(host.NetworkMode), string(host.IpcMode), string(host.PidMode)} {
		if strings.HasPrefix(mode, types.ServicePrefix) {
			return client.CreateOptions{}, fmt.Errorf("run of a service with %s is not supported by Muelle yet", mode)
		}
	}
	return client.CreateOptions{
		Name: name, Platform: s.Platform, Config: &config, HostConfig: &host, Networking: o.networking(spec, s, &host, name),
	}, nil
}

func (o *runFlags) networking(spec *api.ProjectSpec, s api.ProjectService, host *container.HostConfig, name string) *network.NetworkingConfig {
	endpoints := map[string]*network.EndpointSettings{}
	for _, n := range spec.Networks {
		ep, ok := s.Endpoints[n.Key]
		if !ok {
			continue
		}
		e := &network.EndpointSettings{}
		if ep != nil {
			*e = *ep
		}
		aliases := e.Aliases
		e.Aliases = []string{name}
		if o.useAliases {
			e.Aliases = append(e.Aliases, aliases...)
		}
		endpoints[n.Name] = e
		if string(host.NetworkMode) == n.Key {
			defer func() { host.NetworkMode = container.NetworkMode(n.Name) }()
		}
	}
	return &network.NetworkingConfig{EndpointsConfig: endpoints}
}

func (o *runFlags) environment(p *types.Project) ([]string, error) {
	var out []string
	for _, file := range o.envFiles {
		env, err := dotenv.GetEnvFromFile(p.Environment, []string{file})
		if err != nil {
			return nil, err
		}
		for k, v := range env {
			out = append(out, k+"="+v)
		}
	}
	for _, e := range o.env {
		k, _, ok := strings.Cut(e, "=")
		if !ok {
			v, set := p.Environment[k]
			if !set {
				continue
			}
			e = k + "=" + v
		}
		out = append(out, e)
	}
	return out, nil
}

// ports publishes the service's ports only where asked for.
func (o *runFlags) ports(config *container.Config, host *container.HostConfig) error {
	if !o.servicePorts {
		host.PortBindings = network.PortMap{}
	}
	for _, spec := range o.publish {
		ports, err := types.ParsePortConfig(spec)
		if err != nil {
			return err
		}
		exposed, bindings, err := model.Ports(ports)
		if err != nil {
			return err
		}
		config.ExposedPorts = maps.Clone(config.ExposedPorts)
		maps.Copy(config.ExposedPorts, exposed)
		for port, list := range bindings {
			host.PortBindings[port] = append(host.PortBindings[port], list...)
		}
	}
	return nil
}

func (a *app) runAttached(ctx context.Context, c *client.Client, id string, create client.CreateOptions, o *runFlags) error {
	conn, err := c.Containers.Attach(ctx, id, client.AttachOptions{Stdin: create.Config.OpenStdin, Stdout: true, Stderr: true, Stream: true})
	if err != nil {
		return errors.Join(err, c.Containers.Remove(ctx, id, client.RemoveOptions{Force: true}))
	}
	result, err := c.Containers.Wait(ctx, id, container.WaitConditionNextExit)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	if err := c.Containers.Start(ctx, id); err != nil {
		err = errors.Join(err, conn.Close())
		if o.remove {
			err = errors.Join(err, c.Containers.Remove(ctx, id, client.RemoveOptions{Force: true, Volumes: true}))
		}
		return err
	}
	stop := a.forwardSignals(ctx, c, id)
	defer stop()
	err = a.stream(ctx, conn, create.Config.Tty, create.Config.OpenStdin, func(ctx context.Context, w, h uint) error { return c.Containers.Resize(ctx, id, w, h) })
	if err != nil {
		return err
	}
	end, err := result()
	if err != nil {
		return err
	}
	if o.remove {
		if err := c.Containers.Remove(ctx, id, client.RemoveOptions{Force: true, Volumes: true}); err != nil {
			return err
		}
	}
	if end.StatusCode != 0 {
		return &exitError{code: int(end.StatusCode)}
	}
	return nil
}
