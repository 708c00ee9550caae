package runflags

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// Spec is what to create.
type Spec struct {
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
}

// Parse translates the flags.
func (o *Options) Parse() (*Spec, error) {
	if err := o.unsupported(); err != nil {
		return nil, err
	}
	if o.swappiness != -1 && (o.swappiness < 0 || o.swappiness > 100) {
		return nil, fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", o.swappiness)
	}
	exposed, bound, err := Ports(o.publish.Values, o.expose.Values)
	if err != nil {
		return nil, err
	}
	cfg, err := o.config(exposed)
	if err != nil {
		return nil, err
	}
	host, err := o.hostConfig()
	if err != nil {
		return nil, err
	}
	host.PortBindings = bound
	host.Binds, cfg.Volumes, err = Volumes(o.volumes.Values)
	if err != nil {
		return nil, err
	}
	if o.AutoRemove && !host.RestartPolicy.IsNone() {
		return nil, errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	endpoints, err := o.endpoints()
	if err != nil {
		return nil, err
	}
	return &Spec{Config: cfg, HostConfig: host, Networking: &network.NetworkingConfig{EndpointsConfig: endpoints}}, nil
}

// unsupported refuses the flags that no Linux engine serves.
func (o *Options) unsupported() error {
	for _, f := range []string{"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"} {
		if o.changed(f) {
			return fmt.Errorf(`"--%s" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux`, f)
		}
	}
	if o.changed("kernel-memory") {
		return errors.New(`"--kernel-memory" is not supported: the kernel no longer has that limit`)
	}
	if o.useAPISocket {
		return errors.New(`"--use-api-socket" is not supported: mount the socket with -v if the container may control this host`)
	}
	return nil
}

func (o *Options) config(exposed network.PortSet) (*container.Config, error) {
	env, err := Env(o.envFile.Values, o.env.Values)
	if err != nil {
		return nil, err
	}
	labels, err := readPairs(o.labelFile.Values, func(string) (string, bool) { return "", false })
	if err != nil {
		return nil, err
	}
	health, err := o.healthConfig()
	if err != nil {
		return nil, err
	}
	all := Pairs(append(labels, o.labels.Values...))
	if err := o.healthLabels(all); err != nil {
		return nil, err
	}
	c := &container.Config{
		Hostname:     o.hostname,
		Domainname:   o.domainname,
		User:         o.user,
		AttachStdin:  o.Stdin || o.Attach.has("stdin"),
		AttachStdout: len(o.Attach.Values) == 0 || o.Attach.has("stdout"),
		AttachStderr: len(o.Attach.Values) == 0 || o.Attach.has("stderr"),
		ExposedPorts: exposed,
		Tty:          o.Tty,
		OpenStdin:    o.Stdin,
		Env:          env,
		Cmd:          o.Args,
		Healthcheck:  health,
		Image:        o.Image,
		WorkingDir:   o.workdir,
		Labels:       all,
		StopSignal:   o.stopSignal,
	}
	// Stdin ends with the client that is attached to it.
	c.StdinOnce = c.OpenStdin && c.AttachStdin
	if o.entrypoint != "" {
		c.Entrypoint = []string{o.entrypoint}
	} else if o.changed("entrypoint") {
		// "--entrypoint=" takes the image's away.
		c.Entrypoint = []string{""}
	}
	if o.changed("stop-timeout") {
		c.StopTimeout = &o.stopTimeout
	}
	return c, nil
}

// healthLabels writes what Docker's types have no field for into labels, where images
// and other clients have it too.
func (o *Options) healthLabels(labels map[string]string) error {
	var given []string
	for _, f := range []struct{ flag, label, value string }{
		{"health-cmd", "", o.healthCmd},
		{"health-http", api.LabelHealthHTTP, o.healthHTTP},
		{"health-tcp", api.LabelHealthTCP, o.healthTCP},
		{"health-grpc", api.LabelHealthGRPC, o.healthGRPC},
	} {
		if f.value == "" {
			continue
		}
		given = append(given, "--"+f.flag)
		if f.label != "" {
			labels[f.label] = f.value
		}
	}
	switch {
	case len(given) > 1:
		return fmt.Errorf("%s conflicts with %s: a container has one health check", given[0], given[1])
	case len(given) > 0 && o.noHealthcheck:
		return errors.New("--no-healthcheck conflicts with --health-* options")
	}
	switch o.healthOnFailure {
	case "":
		return nil
	case "none", "kill", "restart", "stop":
		labels[api.LabelHealthOnFailure] = o.healthOnFailure
		return nil
	}
	return fmt.Errorf("invalid value %q for --health-on-failure: must be one of none, kill, restart, stop", o.healthOnFailure)
}

func (o *Options) healthConfig() (*container.HealthConfig, error) {
	given := o.healthCmd != "" || o.healthInterval != 0 || o.healthTimeout != 0 || o.healthStartPeriod != 0 || o.healthRetries != 0 || o.healthStartInterval != 0
	switch {
	case o.noHealthcheck && given:
		return nil, errors.New("--no-healthcheck conflicts with --health-* options")
	case o.noHealthcheck:
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	case !given:
		return nil, nil
	case o.healthInterval < 0:
		return nil, errors.New("--health-interval cannot be negative")
	case o.healthTimeout < 0:
		return nil, errors.New("--health-timeout cannot be negative")
	case o.healthRetries < 0:
		return nil, errors.New("--health-retries cannot be negative")
	case o.healthStartPeriod < 0:
		return nil, errors.New("--health-start-period cannot be negative")
	case o.healthStartInterval < 0:
		return nil, errors.New("--health-start-interval cannot be negative")
	}
	h := &container.HealthConfig{Interval: o.healthInterval, Timeout: o.healthTimeout, StartPeriod: o.healthStartPeriod,
		StartInterval: o.healthStartInterval, Retries: o.healthRetries}
	if o.healthCmd != "" {
		h.Test = []string{"CMD-SHELL", o.healthCmd}
	}
	return h, nil
}

func (o *Options) hostConfig() (*container.HostConfig, error) {
	h := &container.HostConfig{
		ContainerIDFile: o.CIDFile,
		LogConfig:       container.LogConfig{Type: o.logDriver, Config: Pairs(o.logOpt.Values)},
		NetworkMode:     o.networks.mode(),
		AutoRemove:      o.AutoRemove,
		VolumeDriver:    o.volumeDriver,
		VolumesFrom:     o.volumesFrom.Values,
		Annotations:     o.annotations.orEmpty(),
		CapAdd:          capabilities(o.capAdd.Values),
		CapDrop:         capabilities(o.capDrop.Values),
		DNS:             []netip.Addr{},
		DNSOptions:      o.dnsOptions.orEmpty(),
		DNSSearch:       o.dnsSearch.orEmpty(),
		ExtraHosts:      o.extraHosts.Values,
		GroupAdd:        o.groupAdd.Values,
		IpcMode:         container.IpcMode(o.ipc),
		Links:           o.links.Values,
		OomScoreAdj:     o.oomScoreAdj,
		Privileged:      o.privileged,
		PublishAllPorts: o.publishAll,
		ReadonlyRootfs:  o.readOnly,
		Tmpfs:           map[string]string{},
		ShmSize:         o.shmSize.Value,
		Sysctls:         o.sysctls.orEmpty(),
		Runtime:         o.runtime,
		Isolation:       container.Isolation(o.isolation),
		Mounts:          o.mounts.values,
		PidMode:         container.PidMode(o.pid),
		UTSMode:         container.UTSMode(o.uts),
		UsernsMode:      container.UsernsMode(o.userns),
		CgroupnsMode:    container.CgroupnsMode(o.cgroupns),
	}
	for _, s := range o.dns.Values {
		// checkIP has seen it.
		h.DNS = append(h.DNS, netip.MustParseAddr(s))
	}
	for _, t := range o.tmpfs.Values {
		k, v, _ := strings.Cut(t, ":")
		h.Tmpfs[k] = v
	}
	if o.changed("init") {
		h.Init = &o.init
	}
	if o.logDriver == "none" && len(o.logOpt.Values) > 0 {
		return nil, errors.New("invalid logging opts for driver none")
	}
	if err := o.modes(h); err != nil {
		return nil, err
	}
	var err error
	if h.RestartPolicy, err = RestartPolicy(o.restart); err != nil {
		return nil, err
	}
	if h.SecurityOpt, h.MaskedPaths, h.ReadonlyPaths, err = securityOpts(o.securityOpt.Values); err != nil {
		return nil, err
	}
	if h.StorageOpt, err = storageOpts(o.storageOpt.Values); err != nil {
		return nil, err
	}
	return h, o.limits(&h.Resources)
}

// capabilities writes names in the one form that the API has, sorted.
func capabilities(names []string) []string {
	var out []string
	for _, n := range names {
		n = strings.ToUpper(n)
		if n != "ALL" && !strings.HasPrefix(n, "CAP_") {
			n = "CAP_" + n
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (o *Options) modes(h *container.HostConfig) error {
	switch {
	case !h.PidMode.Valid():
		return errors.New("--pid: invalid PID mode")
	case !h.UTSMode.Valid():
		return errors.New("--uts: invalid UTS mode")
	// "auto" is Muelle's own: one flag away from a user namespace.
	case !h.UsernsMode.Valid() && h.UsernsMode != "auto" && !strings.HasPrefix(string(h.UsernsMode), "auto:"):
		return errors.New("--userns: invalid USER mode")
	case !h.CgroupnsMode.Valid():
		return errors.New("--cgroupns: invalid CGROUP mode")
	}
	return nil
}

func (o *Options) limits(r *container.Resources) error {
	devices, cdi, err := Devices(o.devices.Values)
	if err != nil {
		return err
	}
	*r = container.Resources{
		CPUShares:            o.cpuShares,
		Memory:               o.memory.Value,
		NanoCPUs:             int64(o.cpus),
		CgroupParent:         o.cgroupParent,
		BlkioWeight:          o.blkioWeight,
		BlkioWeightDevice:    o.weightDevices.values,
		BlkioDeviceReadBps:   o.readBps.List(),
		BlkioDeviceWriteBps:  o.writeBps.List(),
		BlkioDeviceReadIOps:  o.readIOps.List(),
		BlkioDeviceWriteIOps: o.writeIOps.List(),
		CPUPeriod:            o.cpuPeriod,
		CPUQuota:             o.cpuQuota,
		CPURealtimePeriod:    o.cpuRealtimePeriod,
		CPURealtimeRuntime:   o.cpuRealtimeRuntime,
		CpusetCpus:           o.cpusetCpus,
		CpusetMems:           o.cpusetMems,
		Devices:              devices,
		DeviceCgroupRules:    o.deviceCgroupRules.Values,
		DeviceRequests:       o.gpus.values,
		MemoryReservation:    o.memoryReservation.Value,
		MemorySwap:           o.memorySwap.Value,
		MemorySwappiness:     &o.swappiness,
		OomKillDisable:       &o.oomKillDisable,
		PidsLimit:            &o.pidsLimit,
		Ulimits:              o.ulimits.list(),
	}
	if len(cdi) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: cdi})
	}
	return nil
}

// RestartPolicy parses NAME[:MAX].
func RestartPolicy(s string) (container.RestartPolicy, error) {
	var p container.RestartPolicy
	name, n, ok := strings.Cut(s, ":")
	if ok && name == "" {
		return p, errors.New("invalid restart policy format: no policy provided before colon")
	}
	p.Name = container.RestartPolicyMode(name)
	if n == "" {
		return p, nil
	}
	count, err := strconv.Atoi(n)
	if err != nil {
		return container.RestartPolicy{}, errors.New("invalid restart policy format: maximum retry count must be an integer")
	}
	p.MaximumRetryCount = count
	return p, nil
}

// securityOpts reads seccomp profiles, which are files on the client's side, and
// takes out systempaths=unconfined, which is two empty lists in the API.
func securityOpts(values []string) (out, masked, readOnly []string, err error) {
	for _, v := range values {
		if v == "systempaths=unconfined" {
			masked, readOnly = []string{}, []string{}
			continue
		}
		key, arg, ok := strings.Cut(v, "=")
		if !ok && !isSwitch(key) {
			key, arg, ok = strings.Cut(v, ":")
		}
		if (!ok || arg == "") && !isSwitch(key) {
			//lint:ignore ST1005 Docker's own text
			return nil, nil, nil, fmt.Errorf("Invalid --security-opt: %q", v)
		}
		if key == "seccomp" && arg != "builtin" && arg != "unconfined" {
			if v, err = seccompProfile(arg); err != nil {
				return nil, nil, nil, err
			}
		}
		out = append(out, v)
	}
	return out, masked, readOnly, nil
}

// isSwitch tells which security options need no value. Docker's client knows of the
// first only, and wants writable-cgroups=true.
func isSwitch(key string) bool { return key == "no-new-privileges" || key == "writable-cgroups" }

func seccompProfile(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("opening seccomp profile (%s) failed: %w", file, err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return "", fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", file, err)
	}
	return "seccomp=" + out.String(), nil
}

func storageOpts(values []string) (map[string]string, error) {
	m := map[string]string{}
	for _, v := range values {
		k, x, ok := strings.Cut(v, "=")
		if !ok {
			return nil, errors.New("invalid storage option")
		}
		m[k] = x
	}
	return m, nil
}
