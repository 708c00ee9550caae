package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/cgroups"
	// The package registers how device rules are set; without it they are refused.
	_ "github.com/opencontainers/cgroups/devices"
	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func newManager(path string, paths map[string]string) (cgroups.Manager, error) {
	config := &cgroups.Cgroup{Path: path, Resources: &cgroups.Resources{}}
	if Version() == 2 {
		return fs2.NewManager(config, paths[""])
	}
	return fs.NewManager(config, paths)
}

// resources translates the OCI document's limits.
func resources(r *specs.LinuxResources) (*cgroups.Resources, error) {
	out := &cgroups.Resources{SkipFreezeOnSet: true}
	if r == nil {
		out.SkipDevices = true
		return out, nil
	}
	if r.Network != nil && (r.Network.ClassID != nil || len(r.Network.Priorities) > 0) {
		return nil, errors.New("network class and priority cgroups are not supported")
	}
	if len(r.Rdma) > 0 {
		return nil, errors.New("rdma limits are not supported")
	}
	rules, err := deviceRules(r.Devices)
	if err != nil {
		return nil, err
	}
	out.Devices, out.SkipDevices = rules, len(rules) == 0
	setMemory(out, r.Memory)
	setCPU(out, r.CPU)
	setBlockIO(out, r.BlockIO)
	if r.Pids != nil && r.Pids.Limit != nil {
		out.PidsLimit = r.Pids.Limit
	}
	for _, l := range r.HugepageLimits {
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: l.Pagesize, Limit: l.Limit})
	}
	if len(r.Unified) > 0 {
		if Version() != 2 {
			return nil, cgroups.ErrV1NoUnified
		}
		out.Unified = r.Unified
	}
	return out, nil
}

func setMemory(out *cgroups.Resources, m *specs.LinuxMemory) {
	if m == nil {
		return
	}
	out.Memory = value(m.Limit)
	out.MemoryReservation = value(m.Reservation)
	// A kernel without swap accounting has no such file; Docker goes on without.
	if swapAccounting() {
		out.MemorySwap = value(m.Swap)
	}
	if Version() == 1 {
		out.MemorySwappiness = m.Swappiness
		out.OomKillDisable = value(m.DisableOOMKiller)
	}
	out.MemoryCheckBeforeUpdate = value(m.CheckBeforeUpdate)
}

func swapAccounting() bool {
	if Version() == 2 {
		// The root group has no such file; fs2 tolerates its absence by itself.
		return true
	}
	_, err := os.Stat(filepath.Join(Root, "memory", "memory.memsw.limit_in_bytes"))
	return err == nil
}

func setCPU(out *cgroups.Resources, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Shares != nil {
		out.CpuShares = *c.Shares
		out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(*c.Shares)
	}
	out.CpuQuota = value(c.Quota)
	out.CpuPeriod = value(c.Period)
	out.CpuBurst = c.Burst
	out.CpuRtRuntime = value(c.RealtimeRuntime)
	out.CpuRtPeriod = value(c.RealtimePeriod)
	out.CpusetCpus, out.CpusetMems = c.Cpus, c.Mems
	out.CPUIdle = c.Idle
}

func setBlockIO(out *cgroups.Resources, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	out.BlkioWeight = value(b.Weight)
	out.BlkioLeafWeight = value(b.LeafWeight)
	for _, d := range b.WeightDevice {
		out.BlkioWeightDevice = append(out.BlkioWeightDevice,
			cgroups.NewWeightDevice(d.Major, d.Minor, value(d.Weight), value(d.LeafWeight)))
	}
	throttle := func(in []specs.LinuxThrottleDevice) (all []*cgroups.ThrottleDevice) {
		for _, d := range in {
			all = append(all, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
		}
		return all
	}
	out.BlkioThrottleReadBpsDevice = throttle(b.ThrottleReadBpsDevice)
	out.BlkioThrottleWriteBpsDevice = throttle(b.ThrottleWriteBpsDevice)
	out.BlkioThrottleReadIOPSDevice = throttle(b.ThrottleReadIOPSDevice)
	out.BlkioThrottleWriteIOPSDevice = throttle(b.ThrottleWriteIOPSDevice)
}

// liftThrottles takes the rates of 0, which take a limit away, out of version 2's, where
// they are called max, and gives the lines to write instead.
func liftThrottles(r *cgroups.Resources) (lines []string) {
	if Version() != 2 {
		return nil
	}
	for _, l := range []struct {
		list *[]*cgroups.ThrottleDevice
		key  string
	}{
		{&r.BlkioThrottleReadBpsDevice, "rbps"}, {&r.BlkioThrottleWriteBpsDevice, "wbps"},
		{&r.BlkioThrottleReadIOPSDevice, "riops"}, {&r.BlkioThrottleWriteIOPSDevice, "wiops"},
	} {
		*l.list = slices.DeleteFunc(*l.list, func(d *cgroups.ThrottleDevice) bool {
			if d.Rate == 0 {
				lines = append(lines, fmt.Sprintf("%d:%d %s=max", d.Major, d.Minor, l.key))
			}
			return d.Rate == 0
		})
	}
	return lines
}

// deviceRules adds to a document's list what every OCI runtime allows on top of
// it: the nodes that each container has, and mknod without access.
func deviceRules(in []specs.LinuxDeviceCgroup) ([]*devices.Rule, error) {
	if len(in) == 0 {
		return nil, nil
	}
	var out []*devices.Rule
	for _, d := range in {
		r := &devices.Rule{
			Type: devices.WildcardDevice, Major: devices.Wildcard, Minor: devices.Wildcard,
			Permissions: devices.Permissions(d.Access), Allow: d.Allow,
		}
		if d.Type != "" {
			r.Type = devices.Type(d.Type[0])
		}
		if len(d.Type) > 1 || !r.Type.IsValid() {
			return nil, fmt.Errorf("device rule of unknown type %q", d.Type)
		}
		if d.Major != nil {
			r.Major = *d.Major
		}
		if d.Minor != nil {
			r.Minor = *d.Minor
		}
		if r.Permissions == "" {
			r.Permissions = "rwm"
		}
		if !r.Permissions.IsValid() {
			return nil, fmt.Errorf("device rule with unknown access %q", d.Access)
		}
		out = append(out, r)
	}
	allow := func(t devices.Type, major, minor int64, p devices.Permissions) {
		out = append(out, &devices.Rule{Type: t, Major: major, Minor: minor, Permissions: p, Allow: true})
	}
	allow(devices.CharDevice, devices.Wildcard, devices.Wildcard, "m")
	allow(devices.BlockDevice, devices.Wildcard, devices.Wildcard, "m")
	for _, minor := range []int64{3, 5, 7, 8, 9} { // null zero full random urandom
		allow(devices.CharDevice, 1, minor, "rwm")
	}
	allow(devices.CharDevice, 5, 0, "rwm")                  // tty
	allow(devices.CharDevice, 5, 2, "rwm")                  // ptmx
	allow(devices.CharDevice, 136, devices.Wildcard, "rwm") // pts
	return out, nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
