package api

import "github.com/moby/moby/api/types/network"

// PortsUpdate is the body of POST /muelle/v1/containers/NAME/ports: what a container
// publishes beside what it does, and no longer. A binding in Remove without a host
// port means all of that container port; one without an address, those of any.
type PortsUpdate struct {
	Add    network.PortMap `json:",omitempty"`
	Remove network.PortMap `json:",omitempty"`
}

// PortsUpdateResponse tells what is published now; empty for a container that does
// not run.
type PortsUpdateResponse struct {
	Ports network.PortMap
}
