package native

import (
	"context"
	"strings"
	"time"

	"github.com/opencontainers/cgroups"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
)

// Stats implements runtime.Task.
func (t *task) Stats(context.Context) (*runtime.Stats, error) {
	if _, err := t.running(); err != nil {
		return nil, err
	}
	s, err := t.group.Stats()
	if err != nil {
		return nil, err
	}
	out := &runtime.Stats{
		Read: time.Now(), CgroupVersion: cgroup.Version(),
		CPUTotal: s.CpuStats.CpuUsage.TotalUsage, CPUUser: s.CpuStats.CpuUsage.UsageInUsermode,
		CPUSystem: s.CpuStats.CpuUsage.UsageInKernelmode,
		Periods:   s.CpuStats.ThrottlingData.Periods, ThrottledPeriods: s.CpuStats.ThrottlingData.ThrottledPeriods,
		ThrottledTime: s.CpuStats.ThrottlingData.ThrottledTime,
		MemoryUsage:   s.MemoryStats.Usage.Usage, MemoryMax: s.MemoryStats.Usage.MaxUsage,
		MemoryLimit: s.MemoryStats.Usage.Limit, MemoryStat: s.MemoryStats.Stats,
		PidsCurrent: s.PidsStats.Current, PidsLimit: s.PidsStats.Limit,
	}
	out.BlockRead, out.BlockWrite = sum(s.BlkioStats.IoServiceBytesRecursive)
	out.BlockReadOps, out.BlockWriteOps = sum(s.BlkioStats.IoServicedRecursive)
	if out.OOMKills, err = t.group.OOMKills(); err != nil {
		return nil, err
	}
	return out, nil
}

func sum(all []cgroups.BlkioStatEntry) (read, write uint64) {
	for _, e := range all {
		switch strings.ToLower(e.Op) {
		case "read":
			read += e.Value
		case "write":
			write += e.Value
		}
	}
	return read, write
}
