package client

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// CreateOptions describe a container.
type CreateOptions struct {
	Name       string
	Platform   string
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
}

// createRequest has a field that servers before 1.44 want and later ones warn of.
type createRequest struct {
	container.CreateRequest
	MacAddress string `json:",omitempty"`
}

// Create makes a container. What the server is too old for is an error, not left
// out.
func (s Containers) Create(ctx context.Context, o CreateOptions) (container.CreateResponse, error) {
	var out container.CreateResponse
	in := createRequest{CreateRequest: container.CreateRequest{Config: o.Config, HostConfig: o.HostConfig, NetworkingConfig: o.Networking}}
	for _, n := range needs(o) {
		older, err := s.c.Older(ctx, n.version)
		if err != nil {
			return out, err
		}
		if older && n.what != macAddress {
			return out, fmt.Errorf("%q requires API version %s, but the daemon's is older", n.what, n.version)
		}
		if older {
			in.MacAddress = o.Networking.EndpointsConfig[string(o.HostConfig.NetworkMode)].MacAddress.String()
		}
	}
	err := s.c.Post(ctx, "/containers/create", values("name", o.Name, "platform", o.Platform), in, &out)
	return out, err
}

// need is a feature and the version that brought it.
type need struct{ what, version string }

const macAddress = "mac-address"

// needs lists what is asked for and not all versions know; nothing in the usual
// case, so that no version need be asked for.
func needs(o CreateOptions) (all []need) {
	add := func(on bool, what, version string) {
		if on {
			all = append(all, need{what, version})
		}
	}
	add(o.Platform != "", "platform", "1.41")
	if o.Config != nil && o.Config.Healthcheck != nil {
		add(o.Config.Healthcheck.StartInterval != 0, "health-start-interval", "1.44")
	}
	if o.HostConfig == nil {
		return all
	}
	add(len(o.HostConfig.Annotations) > 0, "annotation", "1.43")
	add(o.HostConfig.CgroupnsMode != "", "cgroupns", "1.41")
	for _, m := range o.HostConfig.Mounts {
		if b := m.BindOptions; b != nil {
			add(b.ReadOnlyNonRecursive || b.ReadOnlyForceRecursive, "bind-recursive", "1.44")
		}
		add(m.VolumeOptions != nil && m.VolumeOptions.Subpath != "", "volume-subpath", "1.45")
		add(m.Type == "image", "mount type=image", "1.47")
	}
	if o.Networking != nil {
		add(len(o.Networking.EndpointsConfig) > 1, "several networks", "1.44")
		e := o.Networking.EndpointsConfig[string(o.HostConfig.NetworkMode)]
		add(e != nil && e.MacAddress != nil, macAddress, "1.44")
	}
	return all
}
