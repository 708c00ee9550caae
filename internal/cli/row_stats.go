package cli

import (
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"muelle/internal/console"
)

// reading is the last known state of one container.
type reading struct {
	container, id, name                             string
	cpu, memory, limit, memoryPerc, rx, tx, rd, wrt float64
	pids                                            uint64
	valid                                           bool
}

type statsRow struct {
	reading
	trunc bool
}

func (r *statsRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// Container is the name or id that was asked for.
func (r *statsRow) Container() string { return r.container }

// Name is the container's name.
func (r *statsRow) Name() string {
	if len(r.name) > 1 {
		return strings.TrimPrefix(r.name, "/")
	}
	return "--"
}

// ID is the container's id.
func (r *statsRow) ID() string { return shorten(r.id, r.trunc) }

func (r *statsRow) or(s string) string {
	if !r.valid {
		return "--"
	}
	return s
}

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) + "%" }

// CPUPerc is the share of one processor.
func (r *statsRow) CPUPerc() string { return r.or(percent(r.cpu)) }

// MemUsage is what is used and the limit.
func (r *statsRow) MemUsage() string {
	if !r.valid {
		return "-- / --"
	}
	return units.BytesSize(r.memory) + " / " + units.BytesSize(r.limit)
}

// MemPerc is the share of the limit.
func (r *statsRow) MemPerc() string { return r.or(percent(r.memoryPerc)) }

// NetIO is what came in and went out.
func (r *statsRow) NetIO() string { return r.or(inOut(r.rx, r.tx)) }

// BlockIO is what was read and written.
func (r *statsRow) BlockIO() string { return r.or(inOut(r.rd, r.wrt)) }

// PIDs counts processes.
func (r *statsRow) PIDs() string { return r.or(strconv.FormatUint(r.pids, 10)) }

func inOut(a, b float64) string {
	return units.HumanSizeWithPrecision(a, 3) + " / " + units.HumanSizeWithPrecision(b, 3)
}

// take computes a reading from the daemon's numbers.
func (r *reading) take(v *container.StatsResponse) {
	r.id, r.name, r.valid = v.ID, v.Name, true
	cpu := float64(v.CPUStats.CPUUsage.TotalUsage) - float64(v.PreCPUStats.CPUUsage.TotalUsage)
	system := float64(v.CPUStats.SystemUsage) - float64(v.PreCPUStats.SystemUsage)
	n := float64(v.CPUStats.OnlineCPUs)
	if n == 0 {
		n = float64(len(v.CPUStats.CPUUsage.PercpuUsage))
	}
	r.cpu = 0
	if system > 0 && cpu > 0 {
		r.cpu = cpu / system * n * 100
	}
	// The page cache that nobody needs does not count; its key depends on the
	// cgroup version.
	used := v.MemoryStats.Usage
	if c, ok := v.MemoryStats.Stats["total_inactive_file"]; ok && c < used {
		used -= c
	} else if c := v.MemoryStats.Stats["inactive_file"]; !ok && c < used {
		used -= c
	}
	r.memory, r.limit, r.memoryPerc = float64(used), float64(v.MemoryStats.Limit), 0
	if r.limit != 0 {
		r.memoryPerc = r.memory / r.limit * 100
	}
	r.pids = v.PidsStats.Current
	r.rx, r.tx, r.rd, r.wrt = 0, 0, 0, 0
	for _, x := range v.Networks {
		r.rx += float64(x.RxBytes)
		r.tx += float64(x.TxBytes)
	}
	for _, b := range v.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(b.Op) {
		case "read":
			r.rd += float64(b.Value)
		case "write":
			r.wrt += float64(b.Value)
		}
	}
}
