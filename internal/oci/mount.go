package oci

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

const defaultShmSize = 64 << 20

// mounts gives the usual file systems and the container's own, parents first.
func mounts(o Options) ([]specs.Mount, error) {
	h := o.HostConfig
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if h.IpcMode.IsHost() {
		all[5] = specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
	}
	if shm := shmMount(o); shm != nil {
		all = append(all, *shm)
	}
	if h.Privileged {
		for i := range all {
			if d := all[i].Destination; d == "/sys" || d == "/sys/fs/cgroup" {
				all[i].Options = slices.DeleteFunc(slices.Clone(all[i].Options), func(o string) bool { return o == "ro" })
			}
		}
	}
	for dest, options := range h.Tmpfs {
		m := specs.Mount{Destination: path.Clean(dest), Type: "tmpfs", Source: "tmpfs", Options: []string{"noexec", "nosuid", "nodev"}}
		if !path.IsAbs(dest) {
			return nil, invalid("invalid mount path: '%s' mount path must be absolute", dest)
		}
		m.Options = tmpfsOptions(m.Options, options)
		o.Mounts = append(slices.Clone(o.Mounts), m)
	}
	for _, m := range o.Mounts {
		m.Destination = path.Clean(m.Destination)
		if i := slices.IndexFunc(all, func(have specs.Mount) bool { return have.Destination == m.Destination }); i >= 0 {
			all = slices.Delete(all, i, i+1)
		}
		// A mount of /dev or /sys as a whole takes the place of what is usual below.
		if m.Destination == "/dev" || m.Destination == "/sys" || m.Destination == "/proc" {
			all = slices.DeleteFunc(all, func(have specs.Mount) bool {
				return m.Destination != "/dev" && strings.HasPrefix(have.Destination, m.Destination+"/")
			})
		}
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b specs.Mount) int {
		return depth(a.Destination) - depth(b.Destination)
	})
	return all, nil
}

func depth(dest string) int {
	if dest == "/" {
		return 0
	}
	return strings.Count(dest, "/")
}

func shmMount(o Options) *specs.Mount {
	h := o.HostConfig
	bind := func(source string) *specs.Mount {
		return &specs.Mount{Destination: "/dev/shm", Type: "bind", Source: source, Options: []string{"rbind", "nosuid", "noexec", "nodev"}}
	}
	switch {
	case h.IpcMode.IsNone():
		return nil
	case h.IpcMode.IsHost():
		return bind("/dev/shm")
	case o.ShmPath != "":
		return bind(o.ShmPath)
	}
	size := h.ShmSize
	if size == 0 {
		size = defaultShmSize
	}
	return &specs.Mount{
		Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
		Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)},
	}
}

// tmpfsOptions lets the user's options win over the opposite default ones.
func tmpfsOptions(defaults []string, given string) []string {
	options := slices.Clone(defaults)
	for _, opt := range strings.Split(given, ",") {
		if opt == "" {
			continue
		}
		opposite := "no" + opt
		options = slices.DeleteFunc(options, func(have string) bool { return have == opposite || have == opt })
		options = append(options, opt)
	}
	return options
}

// Paths of Docker's default profile; /sys/devices/virtual/powercap is masked for
// CVE-2020-8694, /proc/interrupts against timing of keystrokes.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
		"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// DefaultPaths gives the masked and the read-only paths that inspect shows for a
// container which asked for none.
func DefaultPaths() (masked, readonly []string) {
	return slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
}

func paths(s *specs.Spec, o Options, security Security) {
	if o.HostConfig.Privileged || security.SystemPathsUnconfined {
		return
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = maskedPaths, readonlyPaths
	if o.HostConfig.MaskedPaths != nil {
		s.Linux.MaskedPaths = o.HostConfig.MaskedPaths
	}
	if o.HostConfig.ReadonlyPaths != nil {
		s.Linux.ReadonlyPaths = o.HostConfig.ReadonlyPaths
	}
}
