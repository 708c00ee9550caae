package network

import (
	"context"
	"log/slog"
	"net/netip"
	"os"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/filter"
)

// publisher is where network events go: event.Bus.
type publisher interface {
	Publish(typ events.Type, action events.Action, id string, attributes map[string]string)
}

// AddressPool is a range that subnets of user-defined networks are cut from:
// default-address-pools of daemon.json.
type AddressPool struct {
	Base netip.Prefix
	Size int // prefix length of each subnet
}

// Options says where a Service works and what it is given.
type Options struct {
	// Root keeps one record per network: data-root/networks.
	Root string
	// Instance is part of every kernel name; empty for the default places.
	Instance string
	// Bus takes the network events; may be nil.
	Bus publisher
	// AddressPools replaces the default pools, unless empty.
	AddressPools []AddressPool
	// BridgeIP is the address and prefix of the predefined bridge (daemon.json bip),
	// or the zero value: one is chosen from the pools.
	BridgeIP netip.Prefix
	// ResolvConf and HostsFile are the host's files; default /etc/resolv.conf and /etc/hosts.
	ResolvConf, HostsFile string
	Log                   *slog.Logger
}

// Service keeps networks and sandboxes. Methods are safe for concurrent use.
type Service struct{}

// Open reads the records of networks. It changes nothing in the kernel: bridges
// and rules come with the first container, or with Adopt.
func Open(ctx context.Context, o Options) (*Service, error) { panic("being written") }

// Close stops the resolver and all background work. Containers that run keep
// their networks; when none runs, bridges, rules and sysctls of ours are removed.
func (s *Service) Close(ctx context.Context) error { panic("being written") }

// Create makes a user-defined network.
func (s *Service) Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	panic("being written")
}

// Get resolves a name, id or unique id prefix.
func (s *Service) Get(ref string) (network.Summary, error) { panic("being written") }

// List gives the networks that pass the filters.
func (s *Service) List(ctx context.Context, f filter.Args) ([]network.Summary, error) {
	panic("being written")
}

// Inspect gives one network with the containers on it; verbose adds the counts of addresses.
func (s *Service) Inspect(ctx context.Context, ref string, verbose bool) (network.Inspect, error) {
	panic("being written")
}

// Remove removes a network without endpoints, and its bridge.
func (s *Service) Remove(ctx context.Context, ref string) error { panic("being written") }

// Prune removes user-defined networks without endpoints.
func (s *Service) Prune(ctx context.Context, f filter.Args) (network.PruneReport, error) {
	panic("being written")
}

// Prepare makes the network side of a container: namespace, endpoints, names,
// ports. On error nothing is left.
func (s *Service) Prepare(ctx context.Context, spec SandboxSpec) (*Sandbox, error) {
	panic("being written")
}

// Release gives back name, addresses and host ports of a container before it
// returns; interfaces and rules go after it. Unknown ids are no error.
func (s *Service) Release(ctx context.Context, containerID string) error { panic("being written") }

// Adopt takes over a running container after a restart of the daemon. In the
// spec, Endpoints[].Settings are those that Prepare gave (addresses, endpoint id,
// MAC); held are the descriptors of Sandbox.Held by name (runtime.Task.Held),
// netns that of its namespace. Adopt owns the files from then on, also on error.
func (s *Service) Adopt(ctx context.Context, spec SandboxSpec, held map[string]*os.File, netns *os.File) error {
	panic("being written")
}

// Adopted tells that every running container has been adopted: what the kernel
// still has of this instance and nobody owns is removed, and the rules are
// replaced in one transaction. Called once after Open, before the first Prepare.
func (s *Service) Adopted(ctx context.Context) error { panic("being written") }

// Renamed changes a running container's name for the resolver.
func (s *Service) Renamed(containerID, name string) { panic("being written") }

// Sandbox gives a running container's sandbox as inspect shows it, without files.
func (s *Service) Sandbox(containerID string) (*Sandbox, bool) { panic("being written") }

// Connect attaches a running container to a further network: not implemented yet.
func (s *Service) Connect(ctx context.Context, ref, containerID string, settings *network.EndpointSettings) error {
	panic("being written")
}

// Disconnect detaches a running container from a network: not implemented yet.
func (s *Service) Disconnect(ctx context.Context, ref, containerID string, force bool) error {
	panic("being written")
}

// Warnings says what on this host would drop the containers' traffic, and the
// command that mends it.
func (s *Service) Warnings() []string { panic("being written") }
