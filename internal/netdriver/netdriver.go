// Package netdriver is the contract between the network service, which keeps
// names, addresses and ports, and a technology that carries packets. There is one
// folder per technology: bridge, host, none; each passes the suite in netdrivertest.
package netdriver

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"

	"muelle/api"
)

// Network is what a driver is told of a network. It is read, never kept or changed.
type Network struct {
	ID, Name string
	// Interface is what the driver's Name gave, kept in the network's record.
	Interface string
	Subnets   []Subnet
	Internal  bool
	Options   map[string]string
	// Borrowed: the interface is somebody else's, with its addresses; it is neither made
	// nor changed nor removed.
	Borrowed bool
	// Default marks the predefined network of its driver.
	Default bool
	// Zone says what the network may do.
	Zone api.Zone
}

// Subnet is one range of addresses; Gateway is the host's own address in it.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Endpoint is one container's attachment to one network.
type Endpoint struct {
	ID string
	// Container is its id, for messages.
	Container string
	NetNS     *os.File
	// Interface is the name inside the namespace.
	Interface string
	MAC       net.HardwareAddr
	Addresses []netip.Prefix
	// Gateways are the default routes to be set; none but on one endpoint of a container.
	Gateways []netip.Addr
	// Publishes: ports of the host lead here, which the container itself may ask for.
	Publishes bool
}

// Mapping is one published port: what arrives for Host goes to the Targets, which
// share its new connections. An unspecified Host address means all of the host's
// addresses of its family. The Targets are of the same family; where containers have no
// address of it they are of the other, and nothing is translated: the process that holds
// the port relays.
type Mapping struct {
	Protocol string // "tcp", "udp" or "sctp"
	Host     netip.AddrPort
	Targets  []netip.AddrPort
}

// Same tells whether two mappings are of the same port of the host.
func (m Mapping) Same(o Mapping) bool { return m.Protocol == o.Protocol && m.Host == o.Host }

// Equal tells whether they also lead to the same targets, in the same order.
func (m Mapping) Equal(o Mapping) bool { return m.Same(o) && slices.Equal(m.Targets, o.Targets) }

// Driver carries the packets of networks. Methods are safe for concurrent use, and
// idempotent, so that a daemon that was killed in between finishes the next time.
type Driver interface {
	// Check refuses options that the driver does not know with errdefs.ErrInvalidArgument
	// or ErrNotImplemented, and gives the name of the interface that the network will
	// have on the host, if it has one.
	Check(n Network) (string, error)
	// Up makes the network's side of the host, if it is not there.
	Up(ctx context.Context, n Network) error
	// Down removes it. The routes are gone when it returns, the rest soon after.
	Down(ctx context.Context, n Network) error
	// Join attaches the namespace. On error nothing of the endpoint is left.
	Join(ctx context.Context, n Network, e Endpoint) error
	// Leave detaches after it has returned; gone is called when the address can be
	// given to somebody else. The namespace may be gone before.
	Leave(n Network, e Endpoint, gone func())
	// Publish makes the ports reachable, all or none; a port that is published already
	// leads to its new Targets from then on. Unpublish takes effect soon after it
	// returns; a Publish of the same port may follow at once.
	Publish(ctx context.Context, ports []Mapping) error
	Unpublish(ports []Mapping)
}

// Prober is a Driver of networks for which the kernel may lack something.
type Prober interface {
	// Probe tells before a network's first container comes whether it could be served: n
	// has been checked. Nothing is left of it.
	Probe(n Network) error
}
