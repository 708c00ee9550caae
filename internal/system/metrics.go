package system

import (
	"context"
	"fmt"
	"io"
	goruntime "runtime"
	"slices"
	"strings"

	containertypes "github.com/moby/moby/api/types/container"

	"muelle/internal/build"
	"muelle/internal/container"
	"muelle/internal/metric"
)

// Metrics writes what the engine and every container do, for Prometheus. What Docker
// has under a name stands under that name (engine_daemon_…); what it has not begins
// with muelle_.
func (s *Service) Metrics(ctx context.Context, out io.Writer) error {
	h, err := s.readHost()
	if err != nil {
		return err
	}
	all := s.o.Containers.Measure(ctx)
	w := metric.NewWriter(out)
	s.engineMetrics(ctx, w, h, all)
	containerMetrics(w, all)
	if err := processMetrics(w); err != nil {
		return err
	}
	return w.Err()
}

func (s *Service) engineMetrics(ctx context.Context, w *metric.Writer, h *host, all []container.Measurement) {
	commit, _ := buildSettings()
	w.Family("engine_daemon_engine_info", "gauge", "The information related to the engine and the OS it is running on")
	w.Sample(1, label("version", s.o.Version), label("commit", commit), label("architecture", goruntime.GOARCH), label("graphdriver", "overlayfs"),
		label("kernel", h.kernel), label("os", h.os), label("os_type", "linux"), label("os_version", h.osVersion), label("daemon_id", s.o.ID))
	w.Gauge("engine_daemon_engine_cpus_cpus", "The number of cpus that the host system of the engine has", float64(goruntime.NumCPU()))
	w.Gauge("engine_daemon_engine_memory_bytes", "The number of bytes of memory that the host system of the engine has", float64(h.memory))
	var running, paused, stopped int
	for _, m := range all {
		switch m.State {
		case containertypes.StateRunning, containertypes.StateRestarting:
			running++
		case containertypes.StatePaused:
			paused++
		default:
			stopped++
		}
	}
	w.Family("engine_daemon_container_states_containers", "gauge", "The count of containers in various states")
	w.Sample(float64(paused), label("state", "paused"))
	w.Sample(float64(running), label("state", "running"))
	w.Sample(float64(stopped), label("state", "stopped"))
	t := s.o.Containers.Timers()
	w.Family("engine_daemon_container_actions_seconds", "histogram", "The number of seconds it takes to process each container action")
	w.Timer(&t.Changes, label("action", "changes"))
	w.Timer(&t.Commit, label("action", "commit"))
	w.Timer(&t.Create, label("action", "create"))
	w.Timer(&t.Delete, label("action", "delete"))
	w.Timer(&t.Start, label("action", "start"))
	w.Family("engine_daemon_network_actions_seconds", "histogram", "The number of seconds it takes to process each network action")
	w.Timer(&t.Allocate, label("action", "allocate"))
	w.Timer(&t.Connect, label("action", "connect"))
	w.Timer(&t.Release, label("action", "release"))
	w.Family("engine_daemon_host_info_functions_seconds", "histogram", "The number of seconds it takes to call functions gathering info")
	// One reading of os-release serves both of Docker's functions.
	w.Timer(&s.releases, label("function", "operating_system"))
	w.Timer(&s.releases, label("function", "os_version"))
	w.Timer(&s.infos, label("function", "system_info"))
	w.Timer(&s.versions, label("function", "system_version"))
	w.Counter("engine_daemon_health_checks_total", "The total number of health checks", float64(t.Checks.Load()))
	w.Counter("engine_daemon_health_checks_failed_total", "The total number of failed health checks", float64(t.FailedChecks.Load()))
	counts := s.o.Builds.Counts()
	w.Counter("builder_builds_triggered_total", "Number of triggered image builds", float64(counts.Triggered))
	w.Family("builder_builds_failed_total", "counter", "Number of failed image builds")
	for i, reason := range build.Reasons() {
		w.Sample(float64(counts.Failed[i]), label("reason", reason))
	}
	logged := s.o.Containers.Logged(ctx)
	w.Counter("logger_log_entries_size_greater_than_buffer_total", "Number of log entries which are larger than the log buffer", float64(logged.Partial))
	w.Counter("logger_log_read_operations_failed_total", "Number of log reads from container stdio that failed", float64(logged.Unread))
	w.Counter("logger_log_write_operations_failed_total", "Number of log write operations that failed", float64(logged.Unwritten))
	published, listeners := s.o.Bus.Count()
	w.Counter("engine_daemon_events_total", "The number of events logged", float64(published))
	w.Gauge("engine_daemon_events_subscribers_total", "The number of current subscribers to events", float64(listeners))
}

func label(name, value string) metric.Label { return metric.Label{Name: name, Value: value} }

// perContainer is a family with one value per container; ok is false where a
// container has none.
type perContainer struct {
	name, kind, help string
	value            func(m *container.Measurement) (v float64, ok bool)
}

func always(f func(m *container.Measurement) float64) func(*container.Measurement) (float64, bool) {
	return func(m *container.Measurement) (float64, bool) { return f(m), true }
}

// running gives a value of containers that run.
func running(f func(r *containertypes.StatsResponse) float64) func(*container.Measurement) (float64, bool) {
	return func(m *container.Measurement) (float64, bool) {
		if m.Stats == nil {
			return 0, false
		}
		return f(m.Stats), true
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func containerMetrics(w *metric.Writer, all []container.Measurement) {
	labels := make([][]metric.Label, len(all))
	for i, m := range all {
		labels[i] = []metric.Label{label("id", m.ID), label("name", m.Name), label("image", m.Image), label("project", m.Project), label("service", m.Service)}
	}
	for _, f := range containerFamilies() {
		w.Family(f.name, f.kind, f.help)
		for i := range all {
			if v, ok := f.value(&all[i]); ok {
				w.Sample(v, labels[i]...)
			}
		}
	}
	w.Family("muelle_container_health", "gauge", "1 for the health status that a container with checks has")
	for i, m := range all {
		if m.Health == "" {
			continue
		}
		for _, status := range []containertypes.HealthStatus{containertypes.Starting, containertypes.Healthy, containertypes.Unhealthy} {
			w.Sample(flag(m.Health == status), append(slices.Clone(labels[i]), label("status", string(status)))...)
		}
	}
	networkMetrics(w, all, labels)
	blockMetrics(w, all, labels)
}

func containerFamilies() []perContainer {
	return []perContainer{
		{"muelle_container_running", "gauge", "1 while the container runs", always(func(m *container.Measurement) float64 { return flag(m.State == containertypes.StateRunning) })},
		{"muelle_container_paused", "gauge", "1 while the container is paused", always(func(m *container.Measurement) float64 { return flag(m.State == containertypes.StatePaused) })},
		{"muelle_container_restarts_total", "counter", "How often the restart policy started the container again", always(func(m *container.Measurement) float64 { return float64(m.RestartCount) })},
		{"muelle_container_exit_code", "gauge", "Exit code of the last run of a container that does not run", func(m *container.Measurement) (float64, bool) {
			return float64(m.ExitCode), m.Stats == nil && !m.StartedAt.IsZero()
		}},
		{"muelle_container_oom_killed", "gauge", "1 if the last run ended for want of memory", always(func(m *container.Measurement) float64 { return flag(m.OOMKilled) })},
		{"muelle_container_oom_kills_total", "counter", "Processes that the kernel killed in this run for want of memory", func(m *container.Measurement) (float64, bool) {
			return float64(m.OOMKills), m.Stats != nil
		}},
		{"muelle_container_start_time_seconds", "gauge", "When the last run began, in seconds since 1970", func(m *container.Measurement) (float64, bool) {
			return float64(m.StartedAt.UnixMilli()) / 1000, !m.StartedAt.IsZero()
		}},
		{"muelle_container_health_failing_streak", "gauge", "Health checks that failed one after the other", func(m *container.Measurement) (float64, bool) {
			return float64(m.FailingStreak), m.Health != ""
		}},
		{"muelle_container_cpu_seconds_total", "counter", "Time of processors used", running(func(r *containertypes.StatsResponse) float64 { return float64(r.CPUStats.CPUUsage.TotalUsage) / 1e9 })},
		{"muelle_container_cpu_user_seconds_total", "counter", "Time of processors used outside the kernel", running(func(r *containertypes.StatsResponse) float64 {
			return float64(r.CPUStats.CPUUsage.UsageInUsermode) / 1e9
		})},
		{"muelle_container_cpu_system_seconds_total", "counter", "Time of processors used in the kernel", running(func(r *containertypes.StatsResponse) float64 {
			return float64(r.CPUStats.CPUUsage.UsageInKernelmode) / 1e9
		})},
		{"muelle_container_cpu_throttled_seconds_total", "counter", "Time that processes waited because of the limit", running(func(r *containertypes.StatsResponse) float64 {
			return float64(r.CPUStats.ThrottlingData.ThrottledTime) / 1e9
		})},
		{"muelle_container_memory_usage_bytes", "gauge", "Memory used without the page cache that can go, as stats shows it", running(workingSet)},
		{"muelle_container_memory_total_bytes", "gauge", "Memory used with the page cache", running(func(r *containertypes.StatsResponse) float64 { return float64(r.MemoryStats.Usage) })},
		{"muelle_container_memory_limit_bytes", "gauge", "Limit of memory, or the host's memory", running(func(r *containertypes.StatsResponse) float64 { return float64(r.MemoryStats.Limit) })},
		{"muelle_container_pids", "gauge", "Processes and threads", running(func(r *containertypes.StatsResponse) float64 { return float64(r.PidsStats.Current) })},
		{"muelle_container_pids_limit", "gauge", "Limit of processes and threads, where there is one", func(m *container.Measurement) (float64, bool) {
			if m.Stats == nil || m.Stats.PidsStats.Limit == 0 || m.Stats.PidsStats.Limit > 1<<62 {
				return 0, false
			}
			return float64(m.Stats.PidsStats.Limit), true
		}},
	}
}

// workingSet is what Docker's stats shows as memory: the key of what can be dropped
// depends on the cgroup version.
func workingSet(r *containertypes.StatsResponse) float64 {
	used := r.MemoryStats.Usage
	for _, key := range []string{"total_inactive_file", "inactive_file"} {
		if v, ok := r.MemoryStats.Stats[key]; ok {
			return float64(used - min(v, used))
		}
	}
	return float64(used)
}

func networkMetrics(w *metric.Writer, all []container.Measurement, labels [][]metric.Label) {
	for _, f := range []struct {
		name, help string
		value      func(n containertypes.NetworkStats) uint64
	}{
		{"receive_bytes", "Bytes received", func(n containertypes.NetworkStats) uint64 { return n.RxBytes }},
		{"receive_packets", "Packets received", func(n containertypes.NetworkStats) uint64 { return n.RxPackets }},
		{"receive_errors", "Errors of receiving", func(n containertypes.NetworkStats) uint64 { return n.RxErrors }},
		{"receive_dropped", "Packets dropped on the way in", func(n containertypes.NetworkStats) uint64 { return n.RxDropped }},
		{"transmit_bytes", "Bytes sent", func(n containertypes.NetworkStats) uint64 { return n.TxBytes }},
		{"transmit_packets", "Packets sent", func(n containertypes.NetworkStats) uint64 { return n.TxPackets }},
		{"transmit_errors", "Errors of sending", func(n containertypes.NetworkStats) uint64 { return n.TxErrors }},
		{"transmit_dropped", "Packets dropped on the way out", func(n containertypes.NetworkStats) uint64 { return n.TxDropped }},
	} {
		w.Family("muelle_container_network_"+f.name+"_total", "counter", f.help)
		for i, m := range all {
			if m.Stats == nil {
				continue
			}
			for _, name := range sortedNames(m.Stats.Networks) {
				w.Sample(float64(f.value(m.Stats.Networks[name])), append(slices.Clone(labels[i]), label("interface", name))...)
			}
		}
	}
}

func sortedNames(m map[string]containertypes.NetworkStats) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func blockMetrics(w *metric.Writer, all []container.Measurement, labels [][]metric.Label) {
	for _, f := range []struct {
		name, op, help string
		entries        func(b *containertypes.BlkioStats) []containertypes.BlkioStatEntry
	}{
		{"read_bytes", "read", "Bytes read from block devices", func(b *containertypes.BlkioStats) []containertypes.BlkioStatEntry { return b.IoServiceBytesRecursive }},
		{"write_bytes", "write", "Bytes written to block devices", func(b *containertypes.BlkioStats) []containertypes.BlkioStatEntry { return b.IoServiceBytesRecursive }},
		{"reads", "read", "Reads from block devices", func(b *containertypes.BlkioStats) []containertypes.BlkioStatEntry { return b.IoServicedRecursive }},
		{"writes", "write", "Writes to block devices", func(b *containertypes.BlkioStats) []containertypes.BlkioStatEntry { return b.IoServicedRecursive }},
	} {
		w.Family("muelle_container_block_"+f.name+"_total", "counter", f.help)
		for i, m := range all {
			if m.Stats == nil {
				continue
			}
			var sum uint64
			for _, e := range f.entries(&m.Stats.BlkioStats) {
				if strings.EqualFold(e.Op, f.op) {
					sum += e.Value
				}
			}
			w.Sample(float64(sum), labels[i]...)
		}
	}
}

// processMetrics are the daemon's own, under the names of Prometheus's libraries.
func processMetrics(w *metric.Writer) error {
	p, err := readProcess()
	if err != nil {
		return fmt.Errorf("read the daemon's own numbers: %w", err)
	}
	w.Counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", p.cpu)
	w.Gauge("process_resident_memory_bytes", "Resident memory size in bytes.", p.resident)
	w.Gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", p.virtual)
	w.Gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", p.started)
	w.Gauge("process_open_fds", "Number of open file descriptors.", float64(openFiles()))
	w.Gauge("process_max_fds", "Maximum number of open file descriptors.", p.maxFiles)
	w.Gauge("go_goroutines", "Number of goroutines that currently exist.", float64(goruntime.NumGoroutine()))
	w.Family("go_info", "gauge", "Information about the Go environment.")
	w.Sample(1, label("version", goruntime.Version()))
	return nil
}
