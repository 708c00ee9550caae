package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// ImageName is the image of a service: its own, or that which its build makes.
func ImageName(project string, s types.ServiceConfig) string {
	if s.Image != "" {
		return s.Image
	}
	return project + "-" + s.Name
}

// Spec translates a loaded project into the daemon's document.
func Spec(p *types.Project, envFiles []string, warn func(string)) (api.ProjectSpec, error) {
	p = p.WithoutUnresolvedOptionalDependencies()
	spec := api.ProjectSpec{
		Version: api.ProjectSpecVersion, Name: p.Name, WorkingDir: p.WorkingDir,
		ConfigFiles: p.ComposeFiles, EnvFiles: envFiles, Disabled: p.DisabledServiceNames(),
	}
	if err := p.CheckContainerNameUnicity(); err != nil {
		return spec, err
	}
	for _, name := range p.ServiceNames() {
		s, err := translateService(p, p.Services[name], warn)
		if err != nil {
			return spec, fmt.Errorf("service %q: %w", name, err)
		}
		spec.Services = append(spec.Services, s)
	}
	for _, key := range sortedKeys(p.Networks) {
		n, err := translateNetwork(key, p.Networks[key])
		if err != nil {
			return spec, fmt.Errorf("network %q: %w", key, err)
		}
		spec.Networks = append(spec.Networks, n)
	}
	var err error
	if spec.Expect, err = expectations(p); err != nil {
		return spec, err
	}
	for _, key := range sortedKeys(p.Volumes) {
		v := p.Volumes[key]
		hash, err := VolumeHash(v)
		if err != nil {
			return spec, err
		}
		spec.Volumes = append(spec.Volumes, api.ProjectVolume{
			Key: key, Name: v.Name, External: bool(v.External), ConfigHash: hash,
			Driver: v.Driver, DriverOpts: v.DriverOpts, Labels: v.Labels,
		})
	}
	return spec, nil
}

func translateService(p *types.Project, s types.ServiceConfig, warn func(string)) (api.ProjectService, error) {
	out := api.ProjectService{
		Name: s.Name, ContainerName: s.ContainerName, Scale: s.GetScale(),
		PullPolicy: s.PullPolicy, Platform: s.Platform, DependsOn: map[string]api.ProjectDependency{},
	}
	if s.Image == "" && s.Build == nil {
		return out, errors.New("invalid service. Must specify either image or build")
	}
	if out.Platform == "" {
		out.Platform = p.Environment["DOCKER_DEFAULT_PLATFORM"]
	}
	if s.StopGracePeriod != nil {
		out.StopGracePeriod = time.Duration(*s.StopGracePeriod)
	}
	for dep, how := range s.DependsOn {
		out.DependsOn[dep] = api.ProjectDependency{Condition: how.Condition, Required: how.Required, Restart: how.Restart}
	}
	var err error
	if out.ConfigHash, out.HashTemplate, err = ServiceHash(s); err != nil {
		return out, err
	}
	if out.Config, err = containerConfig(p, s); err != nil {
		return out, err
	}
	if out.HostConfig, err = hostConfig(p, s, warn); err != nil {
		return out, err
	}
	if out.HostConfig.NetworkMode, out.Endpoints, err = endpoints(p, s); err != nil {
		return out, err
	}
	links(s, &out)
	return out, nil
}

func containerConfig(p *types.Project, s types.ServiceConfig) (*container.Config, error) {
	health, err := healthcheck(s.HealthCheck)
	if err != nil {
		return nil, err
	}
	exposed, err := exposedPorts(s)
	if err != nil {
		return nil, err
	}
	labels, err := withHealth(s)
	if err != nil {
		return nil, err
	}
	labels = withPortNames(s, labels)
	return &container.Config{
		Hostname:        s.Hostname,
		Domainname:      s.DomainName,
		User:            s.User,
		ExposedPorts:    exposed,
		Tty:             s.Tty,
		OpenStdin:       s.StdinOpen,
		AttachStdout:    true,
		AttachStderr:    true,
		Cmd:             s.Command,
		Image:           ImageName(p.Name, s),
		WorkingDir:      s.WorkingDir,
		Entrypoint:      s.Entrypoint,
		NetworkDisabled: s.NetworkMode == "disabled",
		Labels:          labels,
		StopSignal:      s.StopSignal,
		Env:             environment(s.Environment),
		Healthcheck:     health,
		StopTimeout:     seconds(s.StopGracePeriod),
	}, nil
}

func hostConfig(p *types.Project, s types.ServiceConfig, warn func(string)) (*container.HostConfig, error) {
	binds, mounts, err := volumes(p, s, warn)
	if err != nil {
		return nil, err
	}
	_, ports, err := Ports(s.Ports)
	if err != nil {
		return nil, err
	}
	security, unconfined, err := securityOpts(p, s.SecurityOpt)
	if err != nil {
		return nil, err
	}
	dns, err := addresses(s.DNS)
	if err != nil {
		return nil, fmt.Errorf("invalid DNS address: %w", err)
	}
	h := &container.HostConfig{
		Annotations:    s.Annotations,
		Binds:          binds,
		Mounts:         mounts,
		CapAdd:         s.CapAdd,
		CapDrop:        s.CapDrop,
		Init:           s.Init,
		IpcMode:        container.IpcMode(s.Ipc),
		CgroupnsMode:   container.CgroupnsMode(s.Cgroup),
		ReadonlyRootfs: s.ReadOnly,
		RestartPolicy:  restartPolicy(s),
		ShmSize:        int64(s.ShmSize),
		Sysctls:        s.Sysctls,
		PortBindings:   ports,
		Resources:      resources(s),
		VolumeDriver:   s.VolumeDriver,
		VolumesFrom:    s.VolumesFrom,
		DNS:            dns,
		DNSSearch:      s.DNSSearch,
		DNSOptions:     s.DNSOpts,
		ExtraHosts:     s.ExtraHosts.AsList(":"),
		SecurityOpt:    security,
		StorageOpt:     s.StorageOpt,
		UsernsMode:     container.UsernsMode(s.UserNSMode),
		UTSMode:        container.UTSMode(s.Uts),
		Privileged:     s.Privileged,
		PidMode:        container.PidMode(s.Pid),
		Runtime:        s.Runtime,
		GroupAdd:       s.GroupAdd,
		OomScoreAdj:    int(s.OomScoreAdj),
	}
	slices.Sort(h.ExtraHosts)
	if len(s.Tmpfs) > 0 {
		h.Tmpfs = map[string]string{}
		for _, t := range s.Tmpfs {
			path, options, _ := strings.Cut(t, ":")
			h.Tmpfs[path] = options
		}
	}
	if s.Logging != nil {
		h.LogConfig = container.LogConfig{Type: s.Logging.Driver, Config: s.Logging.Options}
	}
	if unconfined {
		h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
	}
	return h, nil
}

// environment sorts, so that the same file gives the same container.
func environment(env types.MappingWithEquals) []string {
	out := make([]string, 0, len(env))
	for _, k := range sortedKeys(env) {
		if v := env[k]; v != nil {
			k += "=" + *v
		}
		out = append(out, k)
	}
	return out
}

func seconds(d *types.Duration) *int {
	if d == nil {
		return nil
	}
	s := int(time.Duration(*d).Seconds())
	return &s
}

func healthcheck(c *types.HealthCheckConfig) (*container.HealthConfig, error) {
	if c == nil {
		return nil, nil
	}
	h := &container.HealthConfig{
		Test: c.Test, Interval: duration(c.Interval), Timeout: duration(c.Timeout),
		StartPeriod: duration(c.StartPeriod), StartInterval: duration(c.StartInterval),
	}
	if c.Retries != nil {
		h.Retries = int(*c.Retries)
	}
	if c.Disable {
		h.Test = []string{"NONE"}
	}
	if c.StartInterval != nil && c.StartPeriod == nil {
		return nil, errors.New("healthcheck.start_interval requires healthcheck.start_period to be set")
	}
	return h, nil
}

func duration(d *types.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

func exposedPorts(s types.ServiceConfig) (network.PortSet, error) {
	out, _, err := Ports(s.Ports)
	if err != nil {
		return nil, err
	}
	for _, e := range s.Expose {
		ports, err := network.ParsePortRange(e)
		if err != nil {
			return nil, err
		}
		for port := range ports.All() {
			out[port] = struct{}{}
		}
	}
	return out, nil
}

// withPortNames adds what the service calls its ports, for lookups of SRV, unless it says
// that by the label itself. Docker allows names that no lookup can hold.
func withPortNames(s types.ServiceConfig, labels map[string]string) map[string]string {
	var names []string
	for _, p := range s.Ports {
		name := strings.ToLower(p.Name)
		entry := fmt.Sprintf("%s=%d/%s", name, p.Target, p.Protocol)
		if lookedUp.MatchString(name) && !slices.Contains(names, entry) {
			names = append(names, entry)
		}
	}
	if len(names) == 0 || labels[api.LabelPortNames] != "" {
		return labels
	}
	all := map[string]string{api.LabelPortNames: strings.Join(names, ",")}
	maps.Copy(all, labels)
	return all
}

var lookedUp = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,60}[a-z0-9])?$`)

// Ports translates published ports.
func Ports(ports []types.ServicePortConfig) (network.PortSet, network.PortMap, error) {
	exposed, bindings := network.PortSet{}, network.PortMap{}
	for _, p := range ports {
		port, err := network.ParsePort(fmt.Sprintf("%d/%s", p.Target, p.Protocol))
		if err != nil {
			return nil, nil, err
		}
		exposed[port] = struct{}{}
		b := network.PortBinding{HostPort: p.Published}
		if p.HostIP != "" {
			if b.HostIP, err = netip.ParseAddr(p.HostIP); err != nil {
				return nil, nil, fmt.Errorf("port %d: %w", p.Target, err)
			}
		}
		bindings[port] = append(bindings[port], b)
	}
	return exposed, bindings, nil
}

func restartPolicy(s types.ServiceConfig) container.RestartPolicy {
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		r := container.RestartPolicy{Name: restartMode(s.Deploy.RestartPolicy.Condition)}
		if n := s.Deploy.RestartPolicy.MaxAttempts; n != nil {
			r.MaximumRetryCount = int(*n)
		}
		return r
	}
	if s.Restart == "" {
		return container.RestartPolicy{}
	}
	name, num, _ := strings.Cut(s.Restart, ":")
	r := container.RestartPolicy{Name: restartMode(name)}
	if n, err := strconv.Atoi(num); err == nil {
		r.MaximumRetryCount = n
	}
	return r
}

func restartMode(condition string) container.RestartPolicyMode {
	switch condition {
	case "none", "no":
		return container.RestartPolicyDisabled
	case "any", "always":
		return container.RestartPolicyAlways
	default:
		return container.RestartPolicyMode(condition)
	}
}

// securityOpts reads seccomp profiles named by path.
func securityOpts(p *types.Project, opts []string) (parsed []string, unconfined bool, err error) {
	for _, opt := range opts {
		if opt == "systempaths=unconfined" {
			unconfined = true
			continue
		}
		key, value, ok := strings.Cut(opt, "=")
		if !ok && key != "no-new-privileges" {
			if key, value, ok = strings.Cut(opt, ":"); !ok {
				return nil, false, fmt.Errorf("invalid security-opt: %q", opt)
			}
		}
		if key == "seccomp" && value != "unconfined" && value != "builtin" {
			data, err := os.ReadFile(p.RelativePath(value))
			if err != nil {
				return nil, false, fmt.Errorf("opening seccomp profile (%s) failed: %w", value, err)
			}
			var b bytes.Buffer
			if err := json.Compact(&b, data); err != nil {
				return nil, false, fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", value, err)
			}
			opt = "seccomp=" + b.String()
		}
		parsed = append(parsed, opt)
	}
	return parsed, unconfined, nil
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
