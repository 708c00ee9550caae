// Package network keeps networks, addresses, names and published ports. A
// container is known to it as a Sandbox: a network namespace with names, a project
// and a service given downwards, also when it has no endpoint at all; so the
// resolver and everything that explains reachability need no container.
package network

import (
	"context"
	"errors"
	"net/netip"
	"os"

	"github.com/moby/moby/api/types/network"

	"muelle/internal/runtime"
)

// SandboxSpec describes the network side of a container about to start.
type SandboxSpec struct {
	ID       string // the container's
	Name     string // without slash
	Hostname string
	Domain   string
	Project  string // Compose's, from labels, or empty
	Service  string
	// Mode is "none", "bridge", "host" or a network's name or id. ("container:ID" is
	// resolved by the caller: it asks no sandbox of its own.)
	Mode      string
	Endpoints []EndpointSpec
	// Detached: Endpoints are all there is; the mode's network may have been left.
	Detached bool
	// Ports to publish; for Exposed see PublishAll.
	Ports      network.PortMap
	Exposed    network.PortSet
	PublishAll bool
	// PortNames are what the container calls its ports: "web/tcp" is 8080.
	PortNames  map[string][]uint16
	DNS        []netip.Addr
	DNSSearch  []string
	DNSOptions []string
	ExtraHosts []string // "name:address", address may be host-gateway
	// Linked are lines of the hosts file about other containers.
	Linked  []Linked
	Sysctls map[string]string
	// Ready: the container takes new connections at once where it shares a name or ports
	// with others; else SetReady says when.
	Ready bool
	// Hold, unless nil, takes the sockets of many published ports ahead of the rest, which
	// it may do while other things are prepared.
	Hold func(context.Context, []runtime.Held) error `json:"-"`
	// UserNS owns the network namespace; nil: the host's. Prepare only reads it.
	UserNS *os.File
}

// Linked is what one container is told of another that it links to.
type Linked struct {
	Address netip.Addr
	Names   []string
}

// EndpointSpec is one attachment to a network.
type EndpointSpec struct {
	Network  string                    // name or id
	Settings *network.EndpointSettings // may be nil
}

// Sandbox is what the container's runtime needs and inspect shows. The caller
// closes NetNS and the files in Held once the runtime has them.
type Sandbox struct {
	ID    string
	NetNS *os.File // nil for the host's
	Held  []runtime.Held
	// Hosts, ResolvConf: contents of the files bind-mounted into the container.
	Hosts, ResolvConf []byte
	// Endpoints by network name, complete with addresses, as inspect shows.
	Endpoints map[string]*network.EndpointSettings
	// Ports as inspect shows: every exposed port, with bindings where published.
	Ports network.PortMap
}

// Close closes the files that the sandbox carries.
func (s *Sandbox) Close() error {
	var errs []error
	if s.NetNS != nil {
		errs = append(errs, s.NetNS.Close())
	}
	for _, h := range s.Held {
		errs = append(errs, h.File.Close())
	}
	return errors.Join(errs...)
}
