package server

import (
	"encoding/json"

	containertypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// legacyCreate are the fields of POST /containers/create that the API once had and
// that clients still send.
type legacyCreate struct {
	// MacAddress of the main network, now a field of its endpoint.
	MacAddress network.HardwareAddr
	HostConfig struct{ KernelMemory, KernelMemoryTCP int64 }
}

// noKernelMemory is Docker's warning where the kernel has no such limit, which holds
// for every kernel that containers run on here.
const noKernelMemory = "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded."

// createRequest reads the body, translating old fields to those of today, or warning
// of what has none.
func createRequest(body json.RawMessage) (_ *containertypes.CreateRequest, warnings []string, _ error) {
	req, old := &containertypes.CreateRequest{}, legacyCreate{}
	if len(body) > 0 {
		for _, v := range []any{req, &old} {
			if err := json.Unmarshal(body, v); err != nil {
				return nil, nil, badRequest("invalid JSON: %s", err)
			}
		}
	}
	if old.HostConfig.KernelMemory != 0 || old.HostConfig.KernelMemoryTCP != 0 {
		warnings = append(warnings, noKernelMemory)
	}
	switch {
	case req.Config == nil:
		return nil, nil, badRequest("config cannot be empty in order to create a container")
	case len(old.MacAddress) > 0:
		return req, warnings, setMacAddress(req, old.MacAddress)
	}
	return req, warnings, nil
}

// setMacAddress gives the address to the endpoint on the container's main network.
func setMacAddress(req *containertypes.CreateRequest, mac network.HardwareAddr) error {
	mode := containertypes.NetworkMode("")
	if req.HostConfig != nil {
		mode = req.HostConfig.NetworkMode
	}
	if mode.IsHost() || mode.IsNone() || mode.IsContainer() {
		return badRequest("conflicting options: mac-address and the network mode")
	}
	if req.NetworkingConfig == nil {
		req.NetworkingConfig = &network.NetworkingConfig{}
	}
	endpoints := req.NetworkingConfig.EndpointsConfig
	name := string(mode)
	if name == "" {
		name = network.NetworkDefault
	}
	if _, ok := endpoints[name]; !ok && len(endpoints) == 1 {
		for only := range endpoints {
			name = only
		}
	}
	e := endpoints[name]
	switch {
	case e == nil:
		e = &network.EndpointSettings{}
	case len(e.MacAddress) > 0 && e.MacAddress.String() != mac.String():
		return badRequest("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	e.MacAddress = mac
	if endpoints == nil {
		req.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	req.NetworkingConfig.EndpointsConfig[name] = e
	return nil
}
