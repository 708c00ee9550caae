package server

import (
	"net/netip"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// diskUsage has the fields of both generations of GET /system/df.
type diskUsage struct {
	system.DiskUsage
	*legacyDiskUsage
}

type legacyDiskUsage struct {
	LayersSize int64
	Images     []image.Summary
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
}

func (d *diskUsage) legacy(du *system.DiskUsage) {
	l := &legacyDiskUsage{}
	if u := du.ImageUsage; u != nil {
		l.LayersSize, l.Images = u.TotalSize, u.Items
	}
	if u := du.ContainerUsage; u != nil {
		l.Containers = u.Items
	}
	if u := du.VolumeUsage; u != nil {
		l.Volumes = u.Items
	}
	if u := du.BuildCacheUsage; u != nil {
		l.BuildCache = u.Items
	}
	d.legacyDiskUsage = l
}

func (d *diskUsage) withoutItems() {
	if u := d.ImageUsage; u != nil {
		c := *u
		c.Items, d.ImageUsage = nil, &c
	}
	if u := d.ContainerUsage; u != nil {
		c := *u
		c.Items, d.ContainerUsage = nil, &c
	}
	if u := d.VolumeUsage; u != nil {
		c := *u
		c.Items, d.VolumeUsage = nil, &c
	}
	if u := d.BuildCacheUsage; u != nil {
		c := *u
		c.Items, d.BuildCacheUsage = nil, &c
	}
}

// legacyInspect is a container for clients before 1.52, whose templates ask for
// .NetworkSettings.IPAddress and its neighbours.
type legacyInspect struct {
	*container.InspectResponse
	NetworkSettings *legacyNetworkSettings
}

type legacyNetworkSettings struct {
	*container.NetworkSettings
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []string
	SecondaryIPv6Addresses []string
	EndpointID             string
	Gateway                netip.Addr
	GlobalIPv6Address      netip.Addr
	GlobalIPv6PrefixLen    int
	IPAddress              netip.Addr
	IPPrefixLen            int
	IPv6Gateway            netip.Addr
	MacAddress             network.HardwareAddr
}

// legacyInspectOf shows the endpoint on the default bridge at the top, as Docker did.
func legacyInspectOf(c *container.InspectResponse) any {
	if c.NetworkSettings == nil {
		return c
	}
	n := &legacyNetworkSettings{NetworkSettings: c.NetworkSettings}
	if e := c.NetworkSettings.Networks[network.NetworkBridge]; e != nil {
		n.EndpointID, n.Gateway, n.IPAddress, n.IPPrefixLen, n.MacAddress = e.EndpointID, e.Gateway, e.IPAddress, e.IPPrefixLen, e.MacAddress
		n.GlobalIPv6Address, n.GlobalIPv6PrefixLen, n.IPv6Gateway = e.GlobalIPv6Address, e.GlobalIPv6PrefixLen, e.IPv6Gateway
	}
	return legacyInspect{c, n}
}
