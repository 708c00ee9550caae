// Package config checks what a container is asked to be, with Docker's texts, and
// merges the image's defaults in. It knows nothing of containers that exist.
package config

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/blkiodev"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/linux/cgroup"
)

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func unsupported(what string) error {
	return errdefs.ErrNotImplemented.WithMessage(what + " is not supported yet")
}

// mostOfList is how many words of a kind a container may have: the image adds some, and
// the shim takes twice as many.
const mostOfList = 1 << 15

// Validate checks what is known without the image.
func Validate(c *ctypes.Config) error {
	if c.WorkingDir != "" && !path.IsAbs(c.WorkingDir) {
		return invalid("the working directory '%s' is invalid, it needs to be an absolute path", c.WorkingDir)
	}
	for what, list := range map[string][]string{"environment variables": c.Env, "arguments": c.Cmd, "arguments of the entrypoint": c.Entrypoint} {
		if len(list) > mostOfList {
			return invalid("%d %s, and there may be %d", len(list), what, mostOfList)
		}
	}
	for _, kv := range c.Env {
		if name, _, _ := strings.Cut(kv, "="); name == "" {
			return invalid("invalid environment variable: %s", kv)
		}
		if strings.ContainsRune(kv, 0) {
			return invalid("invalid environment variable: %q", kv)
		}
	}
	for _, s := range append(append([]string{c.WorkingDir, c.User, c.Hostname, c.Domainname}, c.Cmd...), c.Entrypoint...) {
		if strings.ContainsRune(s, 0) {
			return invalid("invalid character in %q", s)
		}
	}
	if len(c.Hostname) > 63 {
		return invalid("invalid hostname: %s: more than 63 characters", c.Hostname)
	}
	if c.StopSignal != "" {
		if _, err := ParseSignal(c.StopSignal); err != nil {
			return err
		}
	}
	if _, err := PortNames(c.Labels); err != nil {
		return err
	}
	return validateHealth(c.Healthcheck)
}

func validateHealth(h *ctypes.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, t := range []struct {
		name  string
		value time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if t.value != 0 && t.value < ctypes.MinimumDuration {
			return invalid("%s in Healthcheck cannot be less than %s", t.name, ctypes.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return invalid("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) > 0 {
		switch h.Test[0] {
		case "NONE":
		case "CMD", "CMD-SHELL":
			if len(h.Test) < 2 {
				return invalid("the test of the health check is empty")
			}
		default:
			return invalid("Unknown healthcheck type: %s", h.Test[0])
		}
	}
	return nil
}

// ValidateHost checks the part that belongs to this host, together with the other.
func ValidateHost(c *ctypes.Config, h *ctypes.HostConfig) error {
	for _, check := range []func(*ctypes.Config, *ctypes.HostConfig) error{
		validateLines, validateUnsupported, validateModes, validateNetworkMode, validatePorts, validateResources,
	} {
		if err := check(c, h); err != nil {
			return err
		}
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return invalid("can't create 'AutoRemove' container with restart policy")
	}
	if err := ctypes.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return invalid("%s", err)
	}
	if h.ShmSize < 0 {
		return invalid("SHM size can not be less than 0")
	}
	if h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000 {
		return invalid("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj)
	}
	for _, e := range h.ExtraHosts {
		if name, ip, ok := strings.Cut(e, ":"); !ok || name == "" || ip == "" {
			return invalid("bad format for add-host: %q", e)
		}
	}
	for key := range h.Sysctls {
		if strings.HasPrefix(key, "net.") && h.NetworkMode.IsHost() {
			return invalid("sysctl '%s' not allowed in host network namespace", key)
		}
	}
	return nil
}

// validateUnsupported refuses what would otherwise be silently ignored.
func validateUnsupported(_ *ctypes.Config, h *ctypes.HostConfig) error {
	switch {
	case len(h.StorageOpt) > 0:
		return errdefs.ErrNotImplemented.WithMessage("HostConfig.StorageOpt is not supported: containers share their file system; limit a folder with a volume of a size (volume create -o type=tmpfs -o device=tmpfs -o o=size=1g)")
	case h.Cgroup != "":
		return unsupported("HostConfig.Cgroup")
	case !h.Isolation.IsDefault():
		return invalid("invalid isolation (%s): unsupported on this platform", h.Isolation)
	case h.VolumeDriver != "" && h.VolumeDriver != "local":
		return unsupported("HostConfig.VolumeDriver=" + h.VolumeDriver)
	case h.Umask != nil && *h.Umask > 0o777:
		return invalid("invalid umask: %#o", *h.Umask)
	}
	return unsupportedResources(&h.Resources)
}

// unsupportedResources refuses limits that this host or this runtime cannot hold.
func unsupportedResources(r *ctypes.Resources) error {
	switch {
	case r.CPUCount != 0 || r.CPUPercent != 0 || r.IOMaximumIOps != 0 || r.IOMaximumBandwidth != 0:
		return invalid("CpuCount, CpuPercent, IOMaximumIOps and IOMaximumBandwidth are for Windows only")
	}
	return nil
}

func validateModes(c *ctypes.Config, h *ctypes.HostConfig) error {
	switch {
	case !h.IpcMode.Valid() || h.IpcMode == "container:":
		return invalid("invalid IPC mode: %s", h.IpcMode)
	case !h.PidMode.Valid():
		return invalid("invalid PID mode: %s", h.PidMode)
	case !h.UTSMode.Valid():
		return invalid("invalid UTS mode: %s", h.UTSMode)
	case !h.CgroupnsMode.Valid():
		return invalid("invalid cgroup namespace mode: %s", h.CgroupnsMode)
	case h.UTSMode.IsHost() && c.Hostname != "":
		return invalid("conflicting options: hostname and the UTS mode")
	}
	return nil
}

func validateNetworkMode(c *ctypes.Config, h *ctypes.HostConfig) error {
	if !h.NetworkMode.IsContainer() {
		return nil
	}
	switch {
	case h.NetworkMode.ConnectedContainer() == "":
		return invalid("invalid network mode: invalid container format container:<name|id>")
	case c.Hostname != "":
		return invalid("conflicting options: hostname and the network mode")
	case len(h.DNS) > 0:
		return invalid("conflicting options: dns and the network mode")
	case len(h.ExtraHosts) > 0:
		return invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		return invalid("conflicting options: port publishing and the container type network mode")
	case len(c.ExposedPorts) > 0:
		return invalid("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

func validatePorts(c *ctypes.Config, h *ctypes.HostConfig) error {
	for port := range c.ExposedPorts {
		if p := port.Proto(); port.Num() == 0 || p != network.TCP && p != network.UDP && p != network.SCTP {
			return invalid("invalid port specification: %q", port)
		}
	}
	for port, bindings := range h.PortBindings {
		switch port.Proto() {
		case network.TCP, network.UDP, network.SCTP:
		default:
			return invalid("invalid port specification: %q", port)
		}
		if port.Num() == 0 {
			return invalid("invalid port specification: %q", port)
		}
		for _, b := range bindings {
			if b.HostPort == "" {
				continue
			}
			if _, err := network.ParsePortRange(b.HostPort); err != nil {
				return invalid("invalid port specification: %q", b.HostPort)
			}
		}
	}
	return nil
}

const minMemory = 6 << 20

func validateResources(_ *ctypes.Config, h *ctypes.HostConfig) error {
	if err := checkResources(&h.Resources); err != nil {
		return err
	}
	return checkUlimits(h.Ulimits)
}

// ulimits are those that the kernel has, by the names of --ulimit.
var ulimits = strings.Fields("as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack")

func checkUlimits(limits []*ctypes.Ulimit) error {
	for _, u := range limits {
		switch {
		case u == nil:
			return invalid("invalid ulimit: null")
		case !slices.Contains(ulimits, u.Name):
			return invalid("invalid ulimit type: %s", u.Name)
		case u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1):
			return invalid("ulimit %s: soft limit must be less than or equal to hard limit: %d > %d", u.Name, u.Soft, u.Hard)
		}
	}
	return nil
}

// checkBlockIO: an entry may be null in JSON.
func checkBlockIO(r *ctypes.Resources) error {
	for _, w := range r.BlkioWeightDevice {
		if w == nil || w.Path == "" || w.Weight < 10 || w.Weight > 1000 {
			return invalid("invalid BlkioWeightDevice: a path and a weight from 10 to 1000 are needed")
		}
	}
	for _, list := range [][]*blkiodev.ThrottleDevice{r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps} {
		for _, t := range list {
			if t == nil || t.Path == "" {
				return invalid("invalid limit of a block device: a path is needed")
			}
		}
	}
	return nil
}

func checkResources(r *ctypes.Resources) error {
	cpus := runtime.NumCPU()
	online, nodes := cmp.Or(onlineOf("cpu"), r.CpusetCpus), cmp.Or(onlineOf("node"), r.CpusetMems)
	switch {
	case r.Memory != 0 && r.Memory < minMemory:
		return invalid("Minimum memory limit allowed is 6MB")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.MemorySwap < -1:
		return invalid("invalid memory swap limit: %d", r.MemorySwap)
	case r.Memory == 0 && r.MemorySwap > 0:
		return invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return invalid("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.MemoryReservation != 0 && r.MemoryReservation < minMemory:
		return invalid("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > 0 && r.Memory < r.MemoryReservation:
		return invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return invalid("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
	case r.NanoCPUs != 0 && r.NanoCPUs < 1e7 || r.NanoCPUs > int64(cpus)*1e9:
		return invalid("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available", cpus, cpus)
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPUShares < 0:
		return invalid("invalid CPU shares (%d): value must be a positive integer", r.CPUShares)
	case r.CPUShares == 1 || r.CPUShares > 1<<18:
		return invalid("invalid CPU shares (%d): the range is from 2 to 262144", r.CPUShares)
	case r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000):
		return invalid("Range of blkio weight is from 10 to 1000")
	case !validCPUSet(r.CpusetCpus):
		return invalid("Invalid value %s for cpuset cpus", r.CpusetCpus)
	case !validCPUSet(r.CpusetMems):
		return invalid("Invalid value %s for cpuset mems", r.CpusetMems)
	case highest(r.CpusetCpus) > highest(online):
		return invalid("Requested CPUs are not available - requested %s, available: %s", r.CpusetCpus, online)
	case highest(r.CpusetMems) > highest(nodes):
		return invalid("Requested memory nodes are not available - requested %s, available: %s", r.CpusetMems, nodes)
	}
	if err := supported(r, cgroup.HostFeatures()); err != nil {
		return err
	}
	return checkBlockIO(r)
}

// onlineOf lists the processors or the memory nodes as "0-3"; empty where the kernel
// does not tell.
func onlineOf(what string) string {
	list, err := os.ReadFile("/sys/devices/system/" + what + "/online")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(list))
}

// highest is the largest number in a valid list as "0-2,7", -1 in none.
func highest(list string) int {
	most := -1
	for _, f := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '-' }) {
		if n, err := strconv.Atoi(f); err == nil {
			most = max(most, n)
		}
	}
	return most
}

// validCPUSet accepts lists as "0-2,7".
func validCPUSet(s string) bool {
	if s == "" {
		return true
	}
	for part := range strings.SplitSeq(s, ",") {
		var from, to int
		n, err := fmt.Sscanf(part+"\n", "%d-%d\n", &from, &to)
		if n == 2 && err == nil && 0 <= from && from <= to {
			continue
		}
		if n, err = fmt.Sscanf(part+"\n", "%d\n", &from); n != 1 || err != nil || from < 0 {
			return false
		}
	}
	return true
}

// validateLines refuses what would become several lines of a container's hosts and
// resolv.conf, and more mounts than a shim takes.
func validateLines(c *ctypes.Config, h *ctypes.HostConfig) error {
	if n := len(h.Binds) + len(h.Mounts) + len(c.Volumes) + len(h.Tmpfs); n > mostOfList {
		return invalid("%d mounts, and there may be %d", n, mostOfList)
	}
	for what, list := range map[string][]string{
		"hostname": {c.Hostname}, "domain name": {c.Domainname}, "extra host": h.ExtraHosts, "DNS search domain": h.DNSSearch, "DNS option": h.DNSOptions,
	} {
		for _, text := range list {
			if strings.ContainsFunc(text, unicode.IsControl) {
				return invalid("invalid %s %q: it has control characters", what, text)
			}
		}
	}
	return nil
}
