package ocirun

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/cgroup"
)

// event is one line of events, in runc's form.
type event struct {
	Type string `json:"type"`
	ID   string `json:"id"`
	Data any    `json:"data,omitempty"`
}

type statistics struct {
	CPU    cpuStatistics    `json:"cpu"`
	Memory memoryStatistics `json:"memory"`
	Pids   pidStatistics    `json:"pids"`
	Blkio  blkioStatistics  `json:"blkio"`
}

type cpuStatistics struct {
	Usage struct {
		Total  uint64   `json:"total"`
		Percpu []uint64 `json:"percpu,omitempty"`
		Kernel uint64   `json:"kernel"`
		User   uint64   `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods          uint64 `json:"periods,omitempty"`
		ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
		ThrottledTime    uint64 `json:"throttledTime,omitempty"`
	} `json:"throttling"`
}

type memoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

type memoryStatistics struct {
	Cache  uint64            `json:"cache,omitempty"`
	Usage  memoryEntry       `json:"usage"`
	Swap   memoryEntry       `json:"swap"`
	Kernel memoryEntry       `json:"kernel"`
	Raw    map[string]uint64 `json:"raw,omitempty"`
}

type pidStatistics struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

type blkioEntry struct {
	Major uint64 `json:"major"`
	Minor uint64 `json:"minor"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

type blkioStatistics struct {
	Bytes      []blkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	Operations []blkioEntry `json:"ioServicedRecursive,omitempty"`
}

func (a *App) events(args []string) error {
	f := flags()
	interval := f.Duration("interval", 5*time.Second, "")
	once := f.Bool("stats", false, "")
	if err := parse(f, args, 1, 1); err != nil {
		return err
	}
	if *interval <= 0 {
		return errors.New("duration interval must be greater than 0")
	}
	r, err := a.open(f.Arg(0))
	if err != nil {
		return err
	}
	r.close() // others may act meanwhile
	g, err := r.group()
	if err != nil {
		return err
	}
	if status, err := r.status(); err != nil {
		return err
	} else if status == specs.StateStopped {
		return errors.New("container with id " + r.ID + " is not running")
	}
	if *once {
		return a.statistics(r.ID, g)
	}
	return a.follow(r, g, *interval)
}

func (a *App) statistics(id string, g *cgroup.Group) error {
	s, err := g.Stats()
	if err != nil {
		return err
	}
	return json.NewEncoder(a.Stdout).Encode(event{Type: "stats", ID: id, Data: translate(s)})
}

// follow prints statistics, and kills for lack of memory, until the container ends.
func (a *App) follow(r *record, g *cgroup.Group, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	var kills uint64
	for r.alive() {
		select {
		case <-look.C:
			n, err := g.OOMKills()
			if err == nil && n > kills {
				kills = n
				if err := json.NewEncoder(a.Stdout).Encode(event{Type: "oom", ID: r.ID}); err != nil {
					return err
				}
			}
		case <-tick.C:
			if err := a.statistics(r.ID, g); err != nil && r.alive() {
				return err
			}
		}
	}
	return nil
}

func translate(s *cgroups.Stats) statistics {
	var out statistics
	u := s.CpuStats.CpuUsage
	out.CPU.Usage.Total, out.CPU.Usage.Percpu = u.TotalUsage, u.PercpuUsage
	out.CPU.Usage.Kernel, out.CPU.Usage.User = u.UsageInKernelmode, u.UsageInUsermode
	t := s.CpuStats.ThrottlingData
	out.CPU.Throttling.Periods, out.CPU.Throttling.ThrottledPeriods, out.CPU.Throttling.ThrottledTime = t.Periods, t.ThrottledPeriods, t.ThrottledTime
	m := s.MemoryStats
	out.Memory = memoryStatistics{Cache: m.Cache, Usage: memory(m.Usage), Swap: memory(m.SwapUsage), Kernel: memory(m.KernelUsage), Raw: m.Stats}
	out.Pids = pidStatistics{Current: s.PidsStats.Current, Limit: s.PidsStats.Limit}
	out.Blkio = blkioStatistics{Bytes: blkio(s.BlkioStats.IoServiceBytesRecursive), Operations: blkio(s.BlkioStats.IoServicedRecursive)}
	return out
}

func memory(d cgroups.MemoryData) memoryEntry {
	return memoryEntry{Limit: d.Limit, Usage: d.Usage, Max: d.MaxUsage, Failcnt: d.Failcnt}
}

func blkio(in []cgroups.BlkioStatEntry) (out []blkioEntry) {
	for _, e := range in {
		out = append(out, blkioEntry{Major: e.Major, Minor: e.Minor, Op: e.Op, Value: e.Value})
	}
	return out
}
