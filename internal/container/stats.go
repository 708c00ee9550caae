package container

import (
	"context"
	"fmt"
	"iter"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/container/process"
	"muelle/internal/runtime"
)

// Top lists the processes of a running container, as the host sees them.
func (s *Service) Top(ctx context.Context, ref, psArgs string) (ctypes.TopResponse, error) {
	c, err := s.find(ref)
	if err != nil {
		return ctypes.TopResponse{}, err
	}
	c.mu.Lock()
	task, alive, restarting := c.task, c.st.alive(), c.st.Status == ctypes.StateRestarting
	c.mu.Unlock()
	switch {
	case restarting:
		return ctypes.TopResponse{}, conflict("container %s is restarting, wait until the container is running", c.id)
	case !alive || task == nil:
		return ctypes.TopResponse{}, conflict("container %s is not running", c.id)
	}
	pids, err := task.Pids(ctx)
	if err != nil {
		return ctypes.TopResponse{}, notRunning(err, c.id)
	}
	r := ctypes.TopResponse{}
	if r.Titles, r.Processes, err = process.List(ctx, psArgs, pids); err != nil {
		return r, err
	}
	s.event(c, events.ActionTop, nil)
	return r, nil
}

// Pids lists the processes of a running container, by their numbers on the host.
func (s *Service) Pids(ctx context.Context, ref string) ([]int, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	task, alive := c.task, c.st.alive()
	c.mu.Unlock()
	if !alive || task == nil {
		return nil, conflict("container %s is not running", c.id)
	}
	pids, err := task.Pids(ctx)
	return pids, notRunning(err, c.id)
}

// Stats reads the resources that a container uses: once, or every second while it
// exists. One that does not run has empty readings, as Docker's.
func (s *Service) Stats(ctx context.Context, ref string, o StatsOptions) (iter.Seq2[*ctypes.StatsResponse, error], error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return func(yield func(*ctypes.StatsResponse, error) bool) {
		var before *ctypes.StatsResponse
		for {
			now, _, err := s.reading(ctx, c)
			if err != nil {
				yield(nil, err)
				return
			}
			if before != nil {
				now.PreRead, now.PreCPUStats = before.Read, before.CPUStats
			}
			// Without streaming, one reading follows another after a second, so that the
			// client can tell the load of the processor.
			if o.Stream || o.OneShot || before != nil || now.Read.IsZero() {
				if !yield(now, nil) || !o.Stream {
					return
				}
			}
			before = now
			c.mu.Lock()
			removed := c.removed
			c.mu.Unlock()
			if removed {
				return
			}
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return
			case <-s.ctx.Done():
				return
			}
		}
	}, nil
}

// reading reads a container's resources, and how often the kernel killed in it for
// want of memory.
func (s *Service) reading(ctx context.Context, c *entry) (_ *ctypes.StatsResponse, oomKills uint64, err error) {
	c.mu.Lock()
	task, alive, name, mode := c.task, c.st.alive(), c.rec.Name, c.rec.HostConfig.NetworkMode
	c.mu.Unlock()
	r := &ctypes.StatsResponse{ID: c.id, Name: "/" + name, OSType: "linux"}
	if !alive || task == nil {
		return r, 0, nil
	}
	st, err := task.Stats(ctx)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.st.alive() || c.task != task {
			return r, 0, nil // it ended meanwhile
		}
		return nil, 0, fmt.Errorf("read statistics of container %s: %w", c.id, err)
	}
	r.Read = st.Read
	r.CPUStats = ctypes.CPUStats{
		CPUUsage:    ctypes.CPUUsage{TotalUsage: st.CPUTotal, UsageInKernelmode: st.CPUSystem, UsageInUsermode: st.CPUUser},
		SystemUsage: systemCPU(), OnlineCPUs: uint32(goruntime.NumCPU()),
		ThrottlingData: ctypes.ThrottlingData{Periods: st.Periods, ThrottledPeriods: st.ThrottledPeriods, ThrottledTime: st.ThrottledTime},
	}
	r.MemoryStats = ctypes.MemoryStats{Usage: st.MemoryUsage, MaxUsage: st.MemoryMax, Stats: st.MemoryStat, Failcnt: 0, Limit: st.MemoryLimit}
	if total := memTotal(); r.MemoryStats.Limit == 0 || r.MemoryStats.Limit > total {
		r.MemoryStats.Limit = total
	}
	r.PidsStats = ctypes.PidsStats{Current: st.PidsCurrent, Limit: st.PidsLimit}
	r.BlkioStats = blkio(st)
	if !mode.IsHost() {
		r.Networks = networkStats(task.Pid())
	}
	return r, st.OOMKills, nil
}

func blkio(st *runtime.Stats) ctypes.BlkioStats {
	return ctypes.BlkioStats{
		IoServiceBytesRecursive: []ctypes.BlkioStatEntry{{Op: "read", Value: st.BlockRead}, {Op: "write", Value: st.BlockWrite}},
		IoServicedRecursive:     []ctypes.BlkioStatEntry{{Op: "read", Value: st.BlockReadOps}, {Op: "write", Value: st.BlockWriteOps}},
	}
}

// systemCPU is the time that all processors have spent since boot, in nanoseconds.
func systemCPU() uint64 {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	var ticks uint64
	for i, f := range fields {
		if i == 0 || i > 8 { // guest time is in user time already
			continue
		}
		n, _ := strconv.ParseUint(f, 10, 64)
		ticks += n
	}
	return ticks * uint64(time.Second/process.ClockTicks)
}

func memTotal() uint64 { h := readMem(); return h * 1024 }

func readMem() (kib uint64) {
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		fmt.Sscanf(string(data), "MemTotal: %d", &kib)
	}
	return kib
}

// networkStats reads the counters of a network namespace through a process in it.
func networkStats(pid int) map[string]ctypes.NetworkStats {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	out := map[string]ctypes.NetworkStats{}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 12 {
			continue
		}
		num := func(i int) uint64 { n, _ := strconv.ParseUint(f[i], 10, 64); return n }
		out[name] = ctypes.NetworkStats{
			RxBytes: num(0), RxPackets: num(1), RxErrors: num(2), RxDropped: num(3),
			TxBytes: num(8), TxPackets: num(9), TxErrors: num(10), TxDropped: num(11),
		}
	}
	return out
}
