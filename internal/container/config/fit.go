package config

import (
	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/linux/cgroup"
)

const absent = " or the cgroup is not mounted. "

// Fit takes away limits that this kernel cannot hold and gives Docker's warnings of
// them (moby's verifyPlatformContainerResources).
func Fit(r *ctypes.Resources, f cgroup.Features) (warnings []string) {
	drop := func(asked, supported bool, text string, clear func()) {
		if asked && !supported {
			warnings = append(warnings, "Your kernel does not support "+text)
			clear()
		}
	}
	drop(r.Memory > 0, f.Memory, "memory limit capabilities"+absent+"Limitation discarded.", func() { r.Memory, r.MemorySwap = 0, -1 })
	drop(r.Memory > 0 && r.MemorySwap != -1, f.Swap, "swap limit capabilities"+absent+"Memory limited without swap.", func() { r.MemorySwap = -1 })
	drop(r.MemorySwappiness != nil && *r.MemorySwappiness != -1, f.Swappiness, "memory swappiness capabilities"+absent+"Memory swappiness discarded.", func() { r.MemorySwappiness = nil })
	drop(r.MemoryReservation > 0, f.Reservation, "memory soft limit capabilities"+absent+"Limitation discarded.", func() { r.MemoryReservation = 0 })
	drop(r.OomKillDisable != nil && *r.OomKillDisable, f.OOMKillDisable, "OomKillDisable. OomKillDisable discarded.", func() { r.OomKillDisable = nil })
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory == 0 {
		warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
	}
	drop(r.PidsLimit != nil && *r.PidsLimit > 0, f.Pids, "PIDs limit capabilities"+absent+"PIDs limit discarded.", func() { r.PidsLimit = nil })
	drop(r.CPUShares > 0, f.CPUShares, "CPU shares"+absent+"Shares discarded.", func() { r.CPUShares = 0 })
	drop(r.CPUPeriod != 0 || r.CPUQuota != 0, f.CPUQuota, "CPU CFS scheduler. CPU period/quota discarded.", func() { r.CPUPeriod, r.CPUQuota = 0, 0 })
	drop(r.CpusetCpus != "" || r.CpusetMems != "", f.CPUSet, "cpuset"+absent+"Cpuset discarded.", func() { r.CpusetCpus, r.CpusetMems = "", "" })
	drop(r.BlkioWeight > 0, f.BlockWeight, "Block I/O weight"+absent+"Weight discarded.", func() { r.BlkioWeight = 0 })
	drop(len(r.BlkioWeightDevice) > 0, f.BlockWeightDevice, "Block I/O weight_device"+absent+"Weight-device discarded.", func() { r.BlkioWeightDevice = nil })
	drop(len(r.BlkioDeviceReadBps) > 0, f.BlockThrottle, "BPS Block I/O read limit"+absent+"Block I/O BPS read limit discarded.", func() { r.BlkioDeviceReadBps = nil })
	drop(len(r.BlkioDeviceWriteBps) > 0, f.BlockThrottle, "BPS Block I/O write limit"+absent+"Block I/O BPS write limit discarded.", func() { r.BlkioDeviceWriteBps = nil })
	drop(len(r.BlkioDeviceReadIOps) > 0, f.BlockThrottle, "IOPS Block read limit"+absent+"Block I/O IOPS read limit discarded.", func() { r.BlkioDeviceReadIOps = nil })
	drop(len(r.BlkioDeviceWriteIOps) > 0, f.BlockThrottle, "IOPS Block write limit"+absent+"Block I/O IOPS write limit discarded.", func() { r.BlkioDeviceWriteIOps = nil })
	return warnings
}

// supported refuses what cannot be done without: a limit that would otherwise be
// missed silently has no warning in Docker's API, but an error.
func supported(r *ctypes.Resources, f cgroup.Features) error {
	switch {
	case r.NanoCPUs > 0 && !f.CPUQuota:
		return invalid("NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted")
	case (r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0) && !f.CPURealtime:
		return invalid("Your kernel does not support CPU real-time scheduler%s", noRealtime())
	case r.CPURealtimePeriod != 0 && r.CPURealtimeRuntime != 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod:
		return invalid("cpu real-time runtime cannot be higher than cpu real-time period")
	}
	return nil
}

// noRealtime says why not.
func noRealtime() string {
	if cgroup.Version() == 2 {
		return ": cgroup v2 has no real-time processor time for groups"
	}
	return ": it was built without CONFIG_RT_GROUP_SCHED"
}
