package model

import (
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
)

// resources are the limits; those of deploy win over the service's own, as with
// Docker Compose.
func resources(s types.ServiceConfig) container.Resources {
	r := container.Resources{
		CgroupParent:       s.CgroupParent,
		Memory:             int64(s.MemLimit),
		MemorySwap:         int64(s.MemSwapLimit),
		MemoryReservation:  int64(s.MemReservation),
		OomKillDisable:     &s.OomKillDisable,
		CPUPeriod:          s.CPUPeriod,
		CPUQuota:           s.CPUQuota,
		CPURealtimePeriod:  s.CPURTPeriod,
		CPURealtimeRuntime: s.CPURTRuntime,
		CPUShares:          s.CPUShares,
		NanoCPUs:           int64(s.CPUS * 1e9),
		CpusetCpus:         s.CPUSet,
		DeviceCgroupRules:  s.DeviceCgroupRules,
	}
	if s.MemSwappiness != 0 {
		v := int64(s.MemSwappiness)
		r.MemorySwappiness = &v
	}
	if s.PidsLimit != 0 {
		r.PidsLimit = &s.PidsLimit
	}
	blkio(s.BlkioConfig, &r)
	if s.Deploy != nil {
		deployed(s.Deploy.Resources, &r)
	}
	for _, g := range s.Gpus {
		r.DeviceRequests = append(r.DeviceRequests, deviceRequest(g, append(slices.Clone(g.Capabilities), "gpu")))
	}
	var vendors []string
	for _, d := range s.Devices {
		// A name of the Container Device Interface, vendor.com/class=name.
		if !strings.HasPrefix(d.Source, "/") && strings.Contains(d.Source, "=") {
			vendors = append(vendors, d.Source)
			continue
		}
		r.Devices = append(r.Devices, container.DeviceMapping{
			PathOnHost: d.Source, PathInContainer: d.Target, CgroupPermissions: d.Permissions,
		})
	}
	if len(vendors) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: vendors})
	}
	for _, name := range sortedKeys(s.Ulimits) {
		u := s.Ulimits[name]
		l := &container.Ulimit{Name: name, Soft: int64(u.Single), Hard: int64(u.Single)}
		if u.Soft != 0 {
			l.Soft = int64(u.Soft)
		}
		if u.Hard != 0 {
			l.Hard = int64(u.Hard)
		}
		r.Ulimits = append(r.Ulimits, l)
	}
	return r
}

func deployed(d types.Resources, r *container.Resources) {
	if l := d.Limits; l != nil {
		if l.MemoryBytes != 0 {
			r.Memory = int64(l.MemoryBytes)
		}
		if l.NanoCPUs != 0 {
			r.NanoCPUs = int64(l.NanoCPUs * 1e9)
		}
		if l.Pids > 0 {
			r.PidsLimit = &l.Pids
		}
	}
	if d.Reservations == nil {
		return
	}
	if d.Reservations.MemoryBytes != 0 {
		r.MemoryReservation = int64(d.Reservations.MemoryBytes)
	}
	for _, want := range d.Reservations.Devices {
		r.DeviceRequests = append(r.DeviceRequests, deviceRequest(want, want.Capabilities))
	}
}

func deviceRequest(d types.DeviceRequest, capabilities []string) container.DeviceRequest {
	return container.DeviceRequest{
		Driver: d.Driver, Count: int(d.Count), DeviceIDs: d.IDs, Capabilities: [][]string{capabilities}, Options: d.Options,
	}
}

func blkio(b *types.BlkioConfig, r *container.Resources) {
	if b == nil {
		return
	}
	r.BlkioWeight = b.Weight
	for _, w := range b.WeightDevice {
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, &blkiodev.WeightDevice{Path: w.Path, Weight: w.Weight})
	}
	throttle := func(in []types.ThrottleDevice) (out []*blkiodev.ThrottleDevice) {
		for _, t := range in {
			out = append(out, &blkiodev.ThrottleDevice{Path: t.Path, Rate: uint64(t.Rate)})
		}
		return out
	}
	r.BlkioDeviceReadBps = throttle(b.DeviceReadBps)
	r.BlkioDeviceReadIOps = throttle(b.DeviceReadIOps)
	r.BlkioDeviceWriteBps = throttle(b.DeviceWriteBps)
	r.BlkioDeviceWriteIOps = throttle(b.DeviceWriteIOps)
}
