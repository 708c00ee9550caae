package container

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/oci"
)

// Defaults are what the daemon's configuration gives to containers that ask for
// nothing else. Zero values mean Docker's own.
type Defaults struct {
	// ShmSize in bytes; zero means 64 MiB.
	ShmSize int64
	// IpcMode is private (also if empty) or shareable.
	IpcMode ctypes.IpcMode
	// CgroupnsMode is host or private; empty means host on cgroup v1 and private on v2.
	CgroupnsMode ctypes.CgroupnsMode
	// StopTimeout in seconds; nil means ten.
	StopTimeout *int
	// Ulimits by name.
	Ulimits []*ctypes.Ulimit
	// DNS, DNSOptions and DNSSearch go into resolv.conf.
	DNS        []netip.Addr
	DNSOptions []string
	DNSSearch  []string
	// Runtimes names what Options.Runtime knows beside the project's own; Runtime is what
	// a container gets that names none, empty for the project's own.
	Runtimes []string
	Runtime  string
	// CDI finds the devices of HostConfig.DeviceRequests.
	CDI oci.CDI
}

// SetDefaults replaces the defaults. Containers that exist keep what they were made
// with, the stop timeout and the resolver's settings excepted.
func (s *Service) SetDefaults(d Defaults) {
	if d.ShmSize == 0 {
		d.ShmSize = 64 << 20
	}
	s.defaults.Store(&d)
}

// stopTimeout is that of containers that have none of their own.
func (d *Defaults) stopTimeout() int {
	if d.StopTimeout == nil {
		return defaultStopTimeout
	}
	return *d.StopTimeout
}

// addUlimits gives hc the limits that it does not name itself.
func (d *Defaults) addUlimits(hc *ctypes.HostConfig) {
	if len(d.Ulimits) == 0 {
		return
	}
	byName := map[string]*ctypes.Ulimit{}
	for _, u := range d.Ulimits {
		byName[u.Name] = u
	}
	for _, u := range hc.Ulimits {
		byName[u.Name] = u
	}
	hc.Ulimits = slices.SortedFunc(maps.Values(byName), func(a, b *ctypes.Ulimit) int { return strings.Compare(a.Name, b.Name) })
}

// orDefault is own, or else def.
func orDefault[T any](own, def []T) []T {
	if len(own) > 0 {
		return own
	}
	return def
}
