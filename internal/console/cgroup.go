package console

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"muelle/api"
)

// leaveCgroup moves a process into cgroups of its own, so that the end of the
// session that started it does not end it. Where that cannot be done the daemon
// still works, hence no error.
func leaveCgroup(pid int) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || parts[2] == "/" {
			continue
		}
		mount := cgroupMount(parts[1])
		if mount == "" {
			continue
		}
		dir := filepath.Join(mount, api.DaemonCgroup)
		if strings.Contains(parts[1], "cpuset") {
			// A new cpuset of version 1 has no processors yet and takes nobody in.
			dir = mount
		} else if os.Mkdir(dir, 0o755) != nil {
			if _, err := os.Stat(dir); err != nil {
				continue
			}
		}
		_ = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	}
}

// cgroupMount finds where a hierarchy is mounted: "" is cgroup v2's name.
func cgroupMount(controllers string) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for s := bufio.NewScanner(f); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		fields, fs := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(fs) < 3 {
			continue
		}
		if controllers == "" && fs[0] == "cgroup2" {
			return fields[4]
		}
		if controllers != "" && fs[0] == "cgroup" {
			first, _, _ := strings.Cut(controllers, ",")
			if slices.Contains(strings.Split(fs[2], ","), first) {
				return fields[4]
			}
		}
	}
	return ""
}
