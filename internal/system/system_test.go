package system_test

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	buildtypes "github.com/moby/moby/api/types/build"
	containertypes "github.com/moby/moby/api/types/container"
	imagetypes "github.com/moby/moby/api/types/image"
	systemtypes "github.com/moby/moby/api/types/system"
	volumetypes "github.com/moby/moby/api/types/volume"

	"muelle/api"
	"muelle/internal/build"
	"muelle/internal/check"
	"muelle/internal/container"
	"muelle/internal/image"
	"muelle/internal/linux/du"
	"muelle/internal/remote"
	"muelle/internal/runtime"
	"muelle/internal/system"
)

type containers []containertypes.Summary

func (c containers) List(context.Context, container.ListOptions) ([]containertypes.Summary, error) {
	return c, nil
}

func (containers) Leaks(context.Context) ([]check.Leak, error) { return nil, nil }
func (containers) Runs(string) bool                            { return false }
func (images) Leaks(context.Context) ([]check.Leak, error)     { return nil, nil }
func (images) CorruptBlobs(context.Context) ([]check.Leak, int, error) {
	return []check.Leak{{Finding: api.Finding{Kind: "blob"}, Mend: func(context.Context) error { return nil }}}, 3, nil
}
func (volumes) Leaks(context.Context) ([]check.Leak, error)  { return nil, nil }
func (builds) Leaks(context.Context) ([]check.Leak, error)   { return nil, nil }
func (builds) Counts() build.Counts                          { return build.Counts{Triggered: 4, Failed: [8]uint64{4: 3}} }
func (builds) Runs(string) bool                              { return false }
func (warnings) Leaks(context.Context) ([]check.Leak, error) { return nil, nil }

func TestCheck(t *testing.T) {
	for _, repair := range []bool{false, true} {
		r, err := service(t).Check(t.Context(), repair)
		if err != nil {
			t.Fatal(err)
		}
		want := &api.CheckReport{Blobs: 3, Findings: []api.Finding{{Kind: "blob", Mendable: true, Mended: repair}, {Kind: "firewall of others", Name: "this host", Problem: "WARNING: a firewall"}}}
		if d := cmp.Diff(want, r); d != "" {
			t.Errorf("repair %v: %s", repair, d)
		}
	}
}

func (containers) Usage(context.Context, *du.Counter) (container.Usage, error) {
	return container.Usage{Total: 1000, Logs: 200, Leftovers: 30}, nil
}

func (c containers) Measure(context.Context) []container.Measurement {
	return []container.Measurement{
		{
			ID: "a", Name: "web", Image: "bb", Project: "p", State: containertypes.StateRunning, Health: containertypes.Healthy, OOMKills: 2,
			Stats: &containertypes.StatsResponse{
				CPUStats:    containertypes.CPUStats{CPUUsage: containertypes.CPUUsage{TotalUsage: 1_500_000_000}},
				MemoryStats: containertypes.MemoryStats{Usage: 100, Stats: map[string]uint64{"inactive_file": 30}},
				Networks:    map[string]containertypes.NetworkStats{"eth0": {RxBytes: 7}},
				BlkioStats:  containertypes.BlkioStats{IoServiceBytesRecursive: []containertypes.BlkioStatEntry{{Op: "Read", Value: 5}, {Op: "read", Value: 6}}},
			},
		},
		{ID: "b", Name: "job", State: containertypes.StateExited, ExitCode: 3, RestartCount: 4, StartedAt: time.Unix(100, 0)},
	}
}

func (c containers) Timers() *container.Timers { return &container.Timers{} }
func (c containers) Logged(context.Context) runtime.Logged {
	return runtime.Logged{Partial: 1, Unread: 2, Unwritten: 3}
}

type bus struct{}

func (bus) Count() (uint64, int) { return 9, 1 }

type images int

func (images) StoreUsage(context.Context, *du.Counter) (image.StoreUsage, error) {
	return image.StoreUsage{Images: 100, Cache: 7, Unfinished: 11, Orphans: 13, Metadata: 17}, nil
}

func (i images) List(context.Context, image.ListOptions) ([]imagetypes.Summary, error) {
	return make([]imagetypes.Summary, i), nil
}

func (i images) DiskUsage(context.Context) (imagetypes.DiskUsage, error) {
	return imagetypes.DiskUsage{TotalCount: int64(i), TotalSize: 100}, nil
}

type volumes []volumetypes.Volume

func (v volumes) Usage(context.Context) ([]volumetypes.Volume, error) { return v, nil }

func (volumes) Overhead(context.Context, *du.Counter) (int64, int64, error) { return 19, 23, nil }

type builds []buildtypes.CacheRecord

func (b builds) DiskUsage(context.Context) ([]buildtypes.CacheRecord, error) { return b, nil }

type warnings []string

func (w warnings) Warnings() []string { return append(w.Firewalls(), "a route") }

// Firewalls are what of them the system check tells: a route is a finding of its own.
func (w warnings) Firewalls() []string { return w }

func service(t *testing.T) *system.Service {
	t.Helper()
	r, err := remote.New(remote.Options{Mirrors: []string{"http://127.0.0.1:5050"}, Insecure: []string{"reg:5000", "10.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	return system.New(system.Options{
		Containers: containers{
			{ID: "a", State: containertypes.StateRunning, SizeRw: 10},
			{ID: "b", State: containertypes.StatePaused, SizeRw: 20},
			{ID: "c", State: containertypes.StateExited, SizeRw: 40},
			{ID: "d", State: containertypes.StateCreated},
		},
		Images: images(3),
		Volumes: volumes{
			{Name: "v", UsageData: &volumetypes.UsageData{Size: 7, RefCount: 1}},
			{Name: "w", UsageData: &volumetypes.UsageData{Size: 5}},
		},
		Builds: builds{
			{ID: "x", Size: 3}, {ID: "y", Size: 4, InUse: true}, {ID: "z", Size: 100, Shared: true},
		},
		Networks: warnings{"WARNING: a firewall"}, Bus: bus{},
		Remote: r, ID: "id", DataRoot: "/d", Version: "1.2.3", Live: system.Live{LiveRestore: true}, LogDriver: "local",
	})
}

func TestInfo(t *testing.T) {
	info, err := service(t).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := []int{info.Containers, info.ContainersRunning, info.ContainersPaused, info.ContainersStopped, info.Images}
	if diff := cmp.Diff([]int{4, 1, 1, 2, 3}, got); diff != "" {
		t.Error(diff)
	}
	if last := info.Warnings[len(info.Warnings)-2:]; last[0] != "WARNING: a firewall" || last[1] != "a route" {
		t.Errorf("warnings %q", info.Warnings)
	}
	if diff := cmp.Diff([]string{"http://127.0.0.1:5050"}, info.RegistryConfig.Mirrors); diff != "" {
		t.Error(diff)
	}
	if info.RegistryConfig.IndexConfigs["reg:5000"] == nil || len(info.RegistryConfig.InsecureRegistryCIDRs) != 3 {
		t.Errorf("registries %+v", info.RegistryConfig)
	}
	if !slices.Contains(info.Plugins.Log, info.LoggingDriver) {
		t.Errorf("log drivers %v", info.Plugins.Log)
	}
	if info.LoggingDriver != "local" {
		t.Errorf("log driver %s", info.LoggingDriver)
	}
	if info.NCPU < 1 || info.MemTotal < 1<<20 || info.KernelVersion == "" || info.OperatingSystem == "" || info.Name == "" {
		t.Errorf("host %+v", info)
	}
}

func TestDiskUsage(t *testing.T) {
	du, err := service(t).DiskUsage(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	type sums struct{ Total, Active, Size, Reclaimable int64 }
	got := map[string]sums{
		"images":     {du.ImageUsage.TotalCount, du.ImageUsage.ActiveCount, du.ImageUsage.TotalSize, du.ImageUsage.Reclaimable},
		"containers": {du.ContainerUsage.TotalCount, du.ContainerUsage.ActiveCount, du.ContainerUsage.TotalSize, du.ContainerUsage.Reclaimable},
		"volumes":    {du.VolumeUsage.TotalCount, du.VolumeUsage.ActiveCount, du.VolumeUsage.TotalSize, du.VolumeUsage.Reclaimable},
		"builds":     {du.BuildCacheUsage.TotalCount, du.BuildCacheUsage.ActiveCount, du.BuildCacheUsage.TotalSize, du.BuildCacheUsage.Reclaimable},
	}
	want := map[string]sums{"images": {3, 0, 100, 0}, "containers": {4, 2, 70, 40}, "volumes": {2, 1, 12, 5}, "builds": {3, 1, 7, 3}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	du, err = service(t).DiskUsage(t.Context(), []systemtypes.DiskUsageObject{systemtypes.VolumeObject})
	if err != nil {
		t.Fatal(err)
	}
	if du.VolumeUsage == nil || du.ImageUsage != nil || du.ContainerUsage != nil || du.BuildCacheUsage != nil {
		t.Errorf("asked for volumes, got %+v", du)
	}
}

func TestVersion(t *testing.T) {
	v, err := service(t).Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Version != "1.2.3" || v.APIVersion != "1.56" || v.MinAPIVersion != "1.24" || v.Components[0].Details["ApiVersion"] != "1.56" {
		t.Errorf("got %+v", v)
	}
}

func TestID(t *testing.T) {
	dir := t.TempDir()
	first, err := system.ID(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(first) {
		t.Errorf("identity %q", first)
	}
	if again, err := system.ID(dir); err != nil || again != first {
		t.Errorf("second time: %q, %v", again, err)
	}
	if _, err := system.ID(filepath.Join(dir, "none")); err == nil || !strings.HasPrefix(err.Error(), "keep engine's identity: ") {
		t.Errorf("got %v", err)
	}
}

func TestAccountAddsUp(t *testing.T) {
	root := t.TempDir()
	s := system.New(system.Options{Containers: containers{{ID: "a", SizeRw: 10, State: containertypes.StateExited}}, Images: images(1), Volumes: volumes{
		{Name: "v", UsageData: &volumetypes.UsageData{Size: 7}}, {Name: "mounted", UsageData: &volumetypes.UsageData{Size: -1}},
	}, Builds: builds{}, DataRoot: root})
	d, err := s.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	var sum int64
	for _, r := range d.Rows {
		got[r.Kind] = r.Size
		sum += r.Size
	}
	own, err := du.Alone(root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{
		"Images": 100, "Containers": 10, "Local Volumes": 7, "Build Cache": 7, "Logs": 200, "Daemon log": 0, "Unfinished": 11,
		"Metadata": 1000 - 10 - 200 - 30 + 17 + 19 + own, "Leftovers": 13 + 30 + 23, "Other": 0,
	}
	if diff := cmp.Diff(want, got); diff != "" || d.Total != sum {
		t.Errorf("total %d of %d: %s", d.Total, sum, diff)
	}
}

func TestMetrics(t *testing.T) {
	var b strings.Builder
	if err := service(t).Metrics(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	const web, job = `{id="a",name="web",image="bb",project="p",service=""`, `{id="b",name="job",image="",project="",service=""`
	for _, want := range []string{
		`engine_daemon_container_states_containers{state="running"} 1`,
		`engine_daemon_container_states_containers{state="stopped"} 1`,
		`engine_daemon_container_actions_seconds_count{action="start"} 0`,
		`engine_daemon_events_total 9`,
		`engine_daemon_container_actions_seconds_count{action="changes"} 0`,
		`engine_daemon_container_actions_seconds_count{action="commit"} 0`,
		`engine_daemon_network_actions_seconds_count{action="allocate"} 0`,
		`engine_daemon_host_info_functions_seconds_count{function="system_info"} 0`,
		// operating_system and os_version are timed by the reading that these metrics made.
		`engine_daemon_host_info_functions_seconds_count{function="operating_system"} 1`,
		`engine_daemon_host_info_functions_seconds_count{function="os_version"} 1`,
		`logger_log_entries_size_greater_than_buffer_total 1`,
		`logger_log_read_operations_failed_total 2`,
		`logger_log_write_operations_failed_total 3`,
		`engine_daemon_health_checks_total 0`,
		`builder_builds_triggered_total 4`,
		`builder_builds_failed_total{reason="dockerfile_syntax_error"} 3`,
		`engine_daemon_events_subscribers_total 1`,
		`muelle_container_running` + web + `} 1`,
		`muelle_container_running` + job + `} 0`,
		`muelle_container_restarts_total` + job + `} 4`,
		`muelle_container_exit_code` + job + `} 3`,
		`muelle_container_start_time_seconds` + job + `} 100`,
		`muelle_container_oom_kills_total` + web + `} 2`,
		`muelle_container_cpu_seconds_total` + web + `} 1.5`,
		`muelle_container_memory_usage_bytes` + web + `} 70`,
		`muelle_container_health` + web + `,status="healthy"} 1`,
		`muelle_container_health` + web + `,status="unhealthy"} 0`,
		`muelle_container_network_receive_bytes_total` + web + `,interface="eth0"} 7`,
		`muelle_container_block_read_bytes_total` + web + `} 11`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	for _, not := range []string{`muelle_container_cpu_seconds_total` + job, `muelle_container_health` + job, `muelle_container_exit_code` + web} {
		if strings.Contains(b.String(), not) {
			t.Errorf("%s is there", not)
		}
	}
	// A family stands once, and every sample below its own.
	seen := map[string]bool{}
	family := ""
	for line := range strings.Lines(b.String()) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			family, _, _ = strings.Cut(name, " ")
			if seen[family] {
				t.Errorf("%s stands twice", family)
			}
			seen[family] = true
		} else if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, family) {
			t.Errorf("%q does not belong to %s", line, family)
		}
	}
	for _, process := range []string{"process_resident_memory_bytes", "process_start_time_seconds", "go_goroutines"} {
		if !seen[process] {
			t.Errorf("%s is missing", process)
		}
	}
}
