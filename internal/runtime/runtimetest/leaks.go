package runtimetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Leaks lists what this process's tests have left: cgroups below the parent that the
// suite was given, mounts, shims.
func Leaks(parent string) (left []string) {
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + parent)
	for _, g := range append(groups, "/sys/fs/cgroup/"+parent) {
		if _, err := os.Stat(g); err == nil {
			left = append(left, "cgroup "+g)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		left = append(left, err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		// The names of the folders that testing.TB.TempDir makes.
		if strings.Contains(line, "TestConformance") || strings.Contains(line, "BenchmarkRuntime") {
			left = append(left, "mount "+strings.TrimSpace(line))
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		if b, err := os.ReadFile(p); err == nil && strings.HasPrefix(string(b), fmt.Sprintf("muelle-shim\x00t%d-", os.Getpid())) {
			left = append(left, "process "+p)
		}
	}
	return left
}
