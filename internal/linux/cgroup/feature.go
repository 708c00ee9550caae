package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Features tells which limits this host's kernel and its mounted hierarchies hold.
type Features struct {
	Memory, Swap, Reservation, Swappiness, OOMKillDisable bool
	CPUShares, CPUQuota, CPURealtime, CPUSet, Pids        bool
	BlockWeight, BlockWeightDevice, BlockThrottle         bool
}

var features = sync.OnceValue(findFeatures)

// HostFeatures looks once, but for what a module may bring later.
func HostFeatures() Features {
	f := features()
	if !f.BlockWeightDevice && f.BlockThrottle && Version() == 2 {
		f.BlockWeightDevice = bfqLoaded()
		f.BlockWeight = f.BlockWeight || f.BlockWeightDevice
	}
	return f
}

// bfqLoaded: version 2's files of the scheduler bfq are in groups only, of which there
// may be none yet.
func bfqLoaded() bool {
	_, err := os.Stat("/sys/module/bfq")
	return err == nil
}

func findFeatures() Features {
	if Version() == 2 {
		return unifiedFeatures()
	}
	var all []Hierarchy
	if found, err := Hierarchies(); err == nil {
		all = found
	}
	has := func(controller string, files ...string) bool {
		i := slices.IndexFunc(all, func(h Hierarchy) bool { return h.Name == controller })
		return i >= 0 && (len(files) == 0 || slices.ContainsFunc(files, func(f string) bool { return inGroups(all[i].Mountpoint, f) }))
	}
	return Features{
		Memory: has("memory", "memory.limit_in_bytes"), Swap: has("memory", "memory.memsw.limit_in_bytes"),
		Reservation: has("memory", "memory.soft_limit_in_bytes"), Swappiness: has("memory", "memory.swappiness"),
		OOMKillDisable: has("memory", "memory.oom_control"),
		CPUShares:      has("cpu", "cpu.shares"), CPUQuota: has("cpu", "cpu.cfs_quota_us"), CPURealtime: has("cpu", "cpu.rt_runtime_us"),
		CPUSet: has("cpuset"), Pids: has("pids"),
		BlockWeight:       has("blkio", "blkio.weight", "blkio.bfq.weight"),
		BlockWeightDevice: has("blkio", "blkio.weight_device", "blkio.bfq.weight_device"),
		BlockThrottle:     has("blkio", "blkio.throttle.read_bps_device"),
	}
}

func unifiedFeatures() Features {
	list, err := os.ReadFile(filepath.Join(Root, "cgroup.controllers"))
	if err != nil {
		return Features{}
	}
	controllers := strings.Fields(string(list))
	has := func(controller string) bool { return slices.Contains(controllers, controller) }
	memory, cpu, io := has("memory"), has("cpu"), has("io")
	// Without any group with the controller there is no telling; a kernel that cannot
	// account swap is rare.
	swap := inGroups(Root, "memory.swap.max") || !inGroups(Root, "memory.max")
	return Features{
		Memory: memory, Swap: memory && swap, Reservation: memory,
		CPUShares: cpu, CPUQuota: cpu, CPUSet: has("cpuset"), Pids: has("pids"),
		// io.cost.qos is the root's own file of the controller behind io.weight.
		BlockWeight:       io && (inGroups(Root, "io.cost.qos") || inGroups(Root, "io.weight") || inGroups(Root, "io.bfq.weight")),
		BlockWeightDevice: io && inGroups(Root, "io.bfq.weight"),
		BlockThrottle:     io,
	}
}

// inGroups looks for a file in a hierarchy's root and in the groups of the root: some
// files are only in the one, some only in the others.
func inGroups(root, file string) bool {
	if _, err := os.Stat(filepath.Join(root, file)); err == nil {
		return true
	}
	found, err := filepath.Glob(filepath.Join(root, "*", file))
	return err == nil && len(found) > 0
}
