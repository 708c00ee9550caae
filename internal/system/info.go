package system

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"muelle/internal/container"
	"muelle/internal/container/logopt"
	"muelle/internal/image"
	"muelle/internal/linux/cgroup"
)

// Runtime is the name of the project's own container runtime.
const Runtime = "muelle"

// Info gives what `docker info` shows.
func (s *Service) Info(ctx context.Context) (*system.Info, error) {
	defer s.infos.Since(time.Now())
	h, err := s.readHost()
	if err != nil {
		return nil, err
	}
	now := s.live.Load()
	info := &system.Info{
		ID: s.o.ID, Name: h.name, Labels: now.Labels, Debug: now.Debug, ExperimentalBuild: s.o.Experimental,
		// The driver type is how clients recognise an image store of containerd's kind.
		Driver:       "overlayfs",
		DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}},
		Plugins: system.PluginsInfo{
			Volume:  []string{"local"},
			Network: []string{"bridge", "host", "null"},
			Log:     logopt.Drivers(),
		},
		NFd: openFiles(), NGoroutines: goruntime.NumGoroutine(),
		SystemTime:    time.Now().Format(time.RFC3339Nano),
		LoggingDriver: s.o.LogDriver,
		CgroupDriver:  cmp.Or(s.o.CgroupDriver, string(container.CgroupFS)), CgroupVersion: strconv.Itoa(cgroup.Version()),
		KernelVersion: h.kernel, OperatingSystem: h.os, OSVersion: h.osVersion, OSType: "linux", Architecture: h.machine,
		IndexServerAddress: "https://index.docker.io/v1/",
		RegistryConfig:     s.registries(),
		NCPU:               goruntime.NumCPU(), MemTotal: h.memory,
		DockerRootDir: s.o.DataRoot,
		HTTPProxy:     proxy("HTTP_PROXY"), HTTPSProxy: proxy("HTTPS_PROXY"), NoProxy: proxy("NO_PROXY"),
		ServerVersion: s.o.Version,
		Runtimes: map[string]system.RuntimeWithStatus{
			Runtime: {Runtime: system.Runtime{Path: s.o.Shim}},
		},
		DefaultRuntime:      cmp.Or(now.DefaultRuntime, Runtime),
		Swarm:               swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		LiveRestoreEnabled:  now.LiveRestore,
		InitBinary:          "muelle-shim",
		ContainerdCommit:    system.Commit{ID: libraryVersion("github.com/containerd/containerd/v2")},
		RuncCommit:          system.Commit{ID: s.o.Version},
		InitCommit:          system.Commit{ID: s.o.Version},
		SecurityOptions:     slices.Clone(s.o.SecurityOptions),
		DefaultAddressPools: s.o.AddressPools,
		FirewallBackend:     &system.FirewallInfo{Driver: "nftables"},
		IPv4Forwarding:      readFlag("/proc/sys/net/ipv4/ip_forward"),
		CDISpecDirs:         append([]string{}, now.CDI.Dirs...),
	}
	for _, name := range now.CDI.Devices() {
		info.DiscoveredDevices = append(info.DiscoveredDevices, system.DeviceInfo{Source: "cdi", ID: name})
	}
	if cgroup.Version() == 2 {
		info.SecurityOptions = append(info.SecurityOptions, "name=cgroupns")
	}
	for name, b := range now.Runtimes {
		info.Runtimes[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: b.Path, Args: b.Args}}
	}
	limits(info)
	info.Warnings = append(limitWarnings(info), s.o.Networks.Warnings()...)
	info.Warnings = append(info.Warnings, s.o.Warnings...)
	_, info.NEventsListener = s.o.Bus.Count()
	if err := s.count(ctx, info); err != nil {
		return nil, err
	}
	return info, nil
}

func (s *Service) count(ctx context.Context, info *system.Info) error {
	list, err := s.o.Containers.List(ctx, container.ListOptions{All: true})
	if err != nil {
		return fmt.Errorf("count containers: %w", err)
	}
	info.Containers = len(list)
	for _, c := range list {
		switch c.State {
		case containertypes.StateRunning, containertypes.StateRestarting:
			info.ContainersRunning++
		case containertypes.StatePaused:
			info.ContainersPaused++
		default:
			info.ContainersStopped++
		}
	}
	imgs, err := s.o.Images.List(ctx, image.ListOptions{})
	if err != nil {
		return fmt.Errorf("count images: %w", err)
	}
	info.Images = len(imgs)
	return nil
}

func (s *Service) registries() *registry.ServiceConfig {
	configured := s.o.Remote.Configured()
	c := &registry.ServiceConfig{
		Mirrors:               configured.Mirrors,
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")},
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: configured.Mirrors, Secure: true, Official: true},
		},
	}
	for _, name := range configured.Insecure {
		if p, err := netip.ParsePrefix(name); err == nil {
			c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, p)
			continue
		}
		c.IndexConfigs[name] = &registry.IndexInfo{Name: name, Mirrors: []string{}}
	}
	return c
}

// limits tells which of Docker's resource limits this kernel can hold.
func limits(info *system.Info) {
	f := cgroup.HostFeatures()
	info.MemoryLimit, info.SwapLimit, info.OomKillDisable = f.Memory, f.Swap, f.OOMKillDisable
	info.CPUShares, info.CPUCfsPeriod, info.CPUCfsQuota = f.CPUShares, f.CPUQuota, f.CPUQuota
	info.CPUSet, info.PidsLimit = f.CPUSet, f.Pids
}

func limitWarnings(info *system.Info) []string {
	var out []string
	f := cgroup.HostFeatures()
	for _, w := range []struct {
		ok   bool
		text string
	}{
		{info.MemoryLimit, "WARNING: No memory limit support"},
		{info.SwapLimit, "WARNING: No swap limit support"},
		{info.CPUShares, "WARNING: No cpu shares support"},
		{info.CPUCfsQuota, "WARNING: No cpu cfs quota support"},
		{info.CPUCfsPeriod, "WARNING: No cpu cfs period support"},
		{info.CPUSet, "WARNING: No cpuset support"},
		{info.PidsLimit, "WARNING: No pids limit support"},
		{info.OomKillDisable || info.CgroupVersion == "2", "WARNING: No oom kill disable support"},
		{f.BlockThrottle, "WARNING: No blkio throttle.read_bps_device support"},
		{f.BlockThrottle, "WARNING: No blkio throttle.write_bps_device support"},
		{f.BlockThrottle, "WARNING: No blkio throttle.read_iops_device support"},
		{f.BlockThrottle, "WARNING: No blkio throttle.write_iops_device support"},
	} {
		if !w.ok {
			out = append(out, w.text)
		}
	}
	return out
}

// proxy reads a proxy variable in either spelling, without what it has of a password.
func proxy(name string) string {
	v := os.Getenv(name)
	if v == "" {
		v = os.Getenv(strings.ToLower(name))
	}
	return maskCredentials(v)
}
