package compose

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/model"
	"muelle/internal/id"
)

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

// oldLinks gives links by service the containers that they lead to, as Docker's old links
// want them: the first of each service. One that has none is left out, as the
// dependencies are with --no-deps.
func (a *app) oldLinks(ctx context.Context, c *client.Client, project string, links []string) ([]string, error) {
	var out []string
	for _, link := range links {
		if outside, ok := strings.CutPrefix(link, types.ContainerPrefix); ok {
			out = append(out, outside)
			continue
		}
		service, alias, _ := strings.Cut(link, ":")
		list, err := a.containers(ctx, c, scope{name: project}, []string{service}, true, false)
		if err != nil {
			return nil, err
		}
		if len(list) > 0 {
			out = append(out, list[0].ID+":"+alias)
		}
	}
	return out, nil
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
