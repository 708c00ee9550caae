package oci

import (
	"fmt"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const cpuPeriod = 100_000 // microseconds; the kernel's default

// Resources translates limits. Zero values are left out: no limit. Devices are not
// part of it.
func Resources(r container.Resources) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{Memory: memory(r), CPU: cpu(r)}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		out.Pids = &specs.LinuxPids{Limit: r.PidsLimit}
	}
	var err error
	out.BlockIO, err = blockIO(r)
	return out, err
}

func memory(r container.Resources) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	any := false
	set := func(dst **int64, v int64) {
		if v != 0 {
			*dst, any = &v, true
		}
	}
	set(&m.Limit, r.Memory)
	set(&m.Reservation, r.MemoryReservation)
	swap := r.MemorySwap
	if swap == 0 && r.Memory > 0 {
		swap = 2 * r.Memory // Docker's default: as much swap as memory
	}
	set(&m.Swap, swap)
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		v := uint64(*r.MemorySwappiness)
		m.Swappiness, any = &v, true
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		m.DisableOOMKiller, any = r.OomKillDisable, true
	}
	if !any {
		return nil
	}
	return m
}

func cpu(r container.Resources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	any := c.Cpus != "" || c.Mems != ""
	if r.CPUShares > 0 {
		v := uint64(r.CPUShares)
		c.Shares, any = &v, true
	}
	if r.NanoCPUs > 0 {
		period := uint64(cpuPeriod)
		quota := r.NanoCPUs * cpuPeriod / 1e9
		c.Period, c.Quota, any = &period, &quota, true
	}
	if r.CPUPeriod > 0 {
		v := uint64(r.CPUPeriod)
		c.Period, any = &v, true
	}
	if r.CPUQuota != 0 {
		c.Quota, any = &r.CPUQuota, true
	}
	if r.CPURealtimePeriod > 0 {
		v := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod, any = &v, true
	}
	if r.CPURealtimeRuntime > 0 {
		c.RealtimeRuntime, any = &r.CPURealtimeRuntime, true
	}
	if !any {
		return nil
	}
	return c
}

func blockIO(r container.Resources) (*specs.LinuxBlockIO, error) {
	b := &specs.LinuxBlockIO{}
	if r.BlkioWeight > 0 {
		b.Weight = &r.BlkioWeight
	}
	for _, w := range r.BlkioWeightDevice {
		major, minor, err := deviceNumber(w.Path)
		if err != nil {
			return nil, err
		}
		d := specs.LinuxWeightDevice{Weight: &w.Weight}
		d.Major, d.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, d)
	}
	for _, t := range []struct {
		in  []*blkiodev.ThrottleDevice
		out *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioDeviceReadBps, &b.ThrottleReadBpsDevice},
		{r.BlkioDeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{r.BlkioDeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{r.BlkioDeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for _, in := range t.in {
			major, minor, err := deviceNumber(in.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: in.Rate}
			d.Major, d.Minor = major, minor
			*t.out = append(*t.out, d)
		}
	}
	if b.Weight == nil && b.WeightDevice == nil && b.ThrottleReadBpsDevice == nil && b.ThrottleWriteBpsDevice == nil &&
		b.ThrottleReadIOPSDevice == nil && b.ThrottleWriteIOPSDevice == nil {
		return nil, nil
	}
	return b, nil
}

func deviceNumber(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, invalid("block device %s: %v", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, invalid("%s is not a block device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

func deviceType(mode uint32) (string, error) {
	switch mode & unix.S_IFMT {
	case unix.S_IFBLK:
		return "b", nil
	case unix.S_IFCHR:
		return "c", nil
	case unix.S_IFIFO:
		return "p", nil
	}
	return "", fmt.Errorf("not a device node")
}
