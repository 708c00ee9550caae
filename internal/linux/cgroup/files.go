package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Membership is one control group of a process, with what its files say.
type Membership struct {
	// Version is 1 or 2; Controllers those of a v1 hierarchy.
	Version     int
	Controllers []string
	// Path is the directory on the host.
	Path  string
	Files []File
}

// File is one file of a group and its value, without the last newline.
type File struct{ Name, Value string }

// told are the files worth reading, by hierarchy: limits, use, and what was hit.
var told = map[string][]string{
	"memory":   {"memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt", "memory.swappiness", "memory.oom_control"},
	"cpu":      {"cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.stat"},
	"cpuacct":  {"cpuacct.usage"},
	"cpuset":   {"cpuset.cpus", "cpuset.mems"},
	"pids":     {"pids.max", "pids.current", "pids.events"},
	"devices":  {"devices.list"},
	"freezer":  {"freezer.state"},
	"blkio":    {"blkio.weight", "blkio.bfq.weight", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device", "blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"},
	"hugetlb":  nil,
	"net_prio": nil,
	"": {"cgroup.controllers", "cgroup.events", "cgroup.freeze", "memory.max", "memory.high", "memory.low", "memory.swap.max", "memory.current", "memory.peak", "memory.events",
		"cpu.max", "cpu.weight", "cpu.stat", "cpuset.cpus", "cpuset.cpus.effective", "pids.max", "pids.current", "pids.events", "io.max", "io.weight", "io.bfq.weight"},
}

// Memberships reads the control groups of a process. Hierarchies in which it is in
// the root are left out: they limit nothing.
func Memberships(pid int) ([]Membership, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("read control groups: %w", err)
	}
	mounts, err := Hierarchies()
	if err != nil {
		return nil, err
	}
	var list []Membership
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 || fields[2] == "/" {
			continue
		}
		names := strings.Split(fields[1], ",")
		i := slices.IndexFunc(mounts, func(h Hierarchy) bool { return h.Name == names[0] })
		if i < 0 {
			continue
		}
		m := Membership{Version: 1, Controllers: names, Path: filepath.Join(mounts[i].Mountpoint, fields[2])}
		if fields[1] == "" {
			m.Version, m.Controllers = 2, nil
		}
		if m.Files, err = readFiles(m.Path, names); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// readFiles reads what there is of the files; which there are depends on the kernel.
func readFiles(dir string, controllers []string) (list []File, err error) {
	for _, c := range controllers {
		for _, name := range told[c] {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read control group: %w", err)
			}
			list = append(list, File{name, strings.TrimRight(string(data), "\n")})
		}
	}
	return list, nil
}
