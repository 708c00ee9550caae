package config

import (
	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
)

// Update puts in what the update names; zero values change nothing.
func Update(hc *ctypes.HostConfig, u ctypes.UpdateConfig) error {
	if u.RestartPolicy.Name != "" {
		if hc.AutoRemove && !u.RestartPolicy.IsNone() {
			return invalid("Restart policy cannot be updated because AutoRemove is enabled for the container")
		}
		hc.RestartPolicy = u.RestartPolicy
	}
	r, n := &hc.Resources, &u.Resources
	if err := checkUpdate(n); err != nil {
		return err
	}
	if n.NanoCPUs > 0 && (r.CPUQuota > 0 || r.CPUPeriod > 0) || r.NanoCPUs > 0 && (n.CPUQuota > 0 || n.CPUPeriod > 0) {
		return errdefs.ErrConflict.WithMessage("Conflicting options: NanoCPUs cannot be combined with CPU period and quota")
	}
	set(&r.CPUShares, n.CPUShares)
	set(&r.Memory, n.Memory)
	set(&r.NanoCPUs, n.NanoCPUs)
	set(&r.BlkioWeight, n.BlkioWeight)
	set(&r.CPUPeriod, n.CPUPeriod)
	set(&r.CPUQuota, n.CPUQuota)
	set(&r.CpusetCpus, n.CpusetCpus)
	set(&r.CpusetMems, n.CpusetMems)
	set(&r.MemoryReservation, n.MemoryReservation)
	set(&r.MemorySwap, n.MemorySwap)
	if n.PidsLimit != nil {
		r.PidsLimit = n.PidsLimit
		if *n.PidsLimit <= 0 {
			r.PidsLimit = nil
		}
	}
	if r.MemorySwap > 0 && r.Memory > r.MemorySwap && n.MemorySwap == 0 {
		return errdefs.ErrConflict.WithMessage("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	return checkResources(r)
}

// checkUpdate refuses what cannot be changed once the container exists.
func checkUpdate(n *ctypes.Resources) error {
	if err := unsupportedResources(n); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"BlkioWeightDevice", len(n.BlkioWeightDevice) > 0},
		{"BlkioDeviceReadBps", len(n.BlkioDeviceReadBps) > 0}, {"BlkioDeviceWriteBps", len(n.BlkioDeviceWriteBps) > 0},
		{"BlkioDeviceReadIOps", len(n.BlkioDeviceReadIOps) > 0}, {"BlkioDeviceWriteIOps", len(n.BlkioDeviceWriteIOps) > 0},
		{"Devices", len(n.Devices) > 0}, {"DeviceCgroupRules", len(n.DeviceCgroupRules) > 0}, {"DeviceRequests", len(n.DeviceRequests) > 0},
		{"MemorySwappiness", n.MemorySwappiness != nil && *n.MemorySwappiness >= 0},
		{"OomKillDisable", n.OomKillDisable != nil && *n.OomKillDisable}, {"Ulimits", len(n.Ulimits) > 0},
	} {
		if f.given {
			return unsupported("updating " + f.name)
		}
	}
	return nil
}

func set[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}
