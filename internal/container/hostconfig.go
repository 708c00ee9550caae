package container

import (
	"cmp"
	"fmt"
	"os"
	"slices"

	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"

	"muelle/internal/container/logopt"
	"muelle/internal/container/mountpoint"
	"muelle/internal/id"
	"muelle/internal/linux/cgroup"
	"muelle/internal/oci"
)

// hostDefaults fills what the daemon decides.
func (s *Service) hostDefaults(cfg *ctypes.Config, hc *ctypes.HostConfig) {
	d := s.defaults.Load()
	if hc.NetworkMode == "" || hc.NetworkMode.IsDefault() {
		hc.NetworkMode = mnet.NetworkBridge
	}
	if cfg.NetworkDisabled {
		hc.NetworkMode = mnet.NetworkNone
	}
	if hc.IpcMode == "" {
		hc.IpcMode = ctypes.IPCModePrivate
		if d.IpcMode != "" {
			hc.IpcMode = d.IpcMode
		}
	}
	if hc.CgroupnsMode == "" {
		hc.CgroupnsMode = ctypes.CgroupnsModeHost
		if cgroup.Version() == 2 {
			hc.CgroupnsMode = ctypes.CgroupnsModePrivate
		}
		if d.CgroupnsMode != "" {
			hc.CgroupnsMode = d.CgroupnsMode
		}
	}
	if hc.ShmSize == 0 && (hc.IpcMode.IsPrivate() || hc.IpcMode.IsShareable()) {
		hc.ShmSize = d.ShmSize
	}
	d.addUlimits(hc)
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = ctypes.RestartPolicyDisabled
	}
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
		hc.PidsLimit = nil
	}
	masked, readonly := oci.DefaultPaths()
	if !hc.Privileged && !slices.Contains(hc.SecurityOpt, "systempaths=unconfined") {
		if hc.MaskedPaths == nil {
			hc.MaskedPaths = masked
		}
		if hc.ReadonlyPaths == nil {
			hc.ReadonlyPaths = readonly
		}
	}
	hc.LogConfig.Type, hc.LogConfig.Config = logopt.Merge(hc.LogConfig.Type, hc.LogConfig.Config, s.o.DefaultLog.Type, s.o.DefaultLog.Config)
	if hc.Runtime == "" {
		hc.Runtime = cmp.Or(s.defaults.Load().Runtime, OwnRuntime)
	}
}

func (s *Service) setHostname(cid string, cfg *ctypes.Config, hc *ctypes.HostConfig) error {
	if cfg.Hostname != "" || hc.NetworkMode.IsContainer() {
		return nil
	}
	if hc.NetworkMode.IsHost() || hc.UTSMode.IsHost() {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("read the host's name: %w", err)
		}
		cfg.Hostname = name
		return nil
	}
	cfg.Hostname = id.Short(cid)
	return nil
}

// resolveModes replaces names by ids in container:NAME, so that renaming does not
// break them.
func (s *Service) resolveModes(hc *ctypes.HostConfig) error {
	resolve := func(namespace, ref string) (string, error) {
		c, err := s.find(ref)
		if err != nil {
			// Not found would make a client look for the image elsewhere.
			return "", invalid("joining %s namespace of container: %s", namespace, err)
		}
		return "container:" + c.id, nil
	}
	if hc.NetworkMode.IsContainer() {
		mode, err := resolve("network", hc.NetworkMode.ConnectedContainer())
		if err != nil {
			return err
		}
		hc.NetworkMode = ctypes.NetworkMode(mode)
	}
	if hc.PidMode.IsContainer() {
		mode, err := resolve("PID", hc.PidMode.Container())
		if err != nil {
			return err
		}
		hc.PidMode = ctypes.PidMode(mode)
	}
	if hc.IpcMode.IsContainer() {
		mode, err := resolve("IPC", hc.IpcMode.Container())
		if err != nil {
			return err
		}
		hc.IpcMode = ctypes.IpcMode(mode)
	}
	return nil
}

// mountsOf gives the mounts of another container for --volumes-from.
func (s *Service) mountsOf(ref string) ([]mountpoint.Mount, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, invalid("%s", err)
	}
	rec, _ := c.snapshot()
	return rec.Mounts, nil
}
