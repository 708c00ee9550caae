package config

import (
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
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
	if err := conflictingUpdate(r, n); err != nil {
		return err
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
	set(&r.CPURealtimePeriod, n.CPURealtimePeriod)
	set(&r.CPURealtimeRuntime, n.CPURealtimeRuntime)
	if n.PidsLimit != nil {
		r.PidsLimit = n.PidsLimit
		if *n.PidsLimit <= 0 {
			r.PidsLimit = nil
		}
	}
	if n.MemorySwappiness != nil && *n.MemorySwappiness >= 0 {
		r.MemorySwappiness = n.MemorySwappiness
	}
	if n.OomKillDisable != nil {
		r.OomKillDisable = n.OomKillDisable
	}
	if len(n.BlkioWeightDevice) > 0 {
		r.BlkioWeightDevice = n.BlkioWeightDevice
	}
	for _, l := range []struct{ to, from *[]*blkiodev.ThrottleDevice }{
		{&r.BlkioDeviceReadBps, &n.BlkioDeviceReadBps}, {&r.BlkioDeviceWriteBps, &n.BlkioDeviceWriteBps},
		{&r.BlkioDeviceReadIOps, &n.BlkioDeviceReadIOps}, {&r.BlkioDeviceWriteIOps, &n.BlkioDeviceWriteIOps},
	} {
		*l.to = mergeThrottles(*l.to, *l.from)
	}
	return checkResources(r)
}

// mergeThrottles replaces the limits of devices that have some and adds the others.
func mergeThrottles(have, given []*blkiodev.ThrottleDevice) []*blkiodev.ThrottleDevice {
	out := slices.DeleteFunc(slices.Clone(have), func(old *blkiodev.ThrottleDevice) bool {
		return slices.ContainsFunc(given, func(n *blkiodev.ThrottleDevice) bool { return n != nil && n.Path == old.Path })
	})
	return append(out, given...)
}

// conflictingUpdate finds what goes not together with what is set already.
func conflictingUpdate(r, n *ctypes.Resources) error {
	conflict := func(text string) error { return errdefs.ErrConflict.WithMessage(text) }
	switch {
	case n.NanoCPUs > 0 && r.CPUPeriod > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
	case n.NanoCPUs > 0 && r.CPUQuota > 0:
		return conflict("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
	case n.CPUPeriod > 0 && r.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
	case n.CPUQuota > 0 && r.NanoCPUs > 0:
		return conflict("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
	case n.MemorySwap == 0 && r.MemorySwap > 0 && n.Memory > r.MemorySwap:
		return conflict("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time")
	}
	return nil
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
		{"Devices", len(n.Devices) > 0}, {"DeviceCgroupRules", len(n.DeviceCgroupRules) > 0}, {"DeviceRequests", len(n.DeviceRequests) > 0},
		{"Ulimits", len(n.Ulimits) > 0}, {"CgroupParent", n.CgroupParent != ""},
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
