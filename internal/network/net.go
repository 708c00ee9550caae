package network

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
	"muelle/internal/linux/rtnl"
	"muelle/internal/netdriver"
	"muelle/internal/netdriver/macvlan"
	"muelle/internal/network/address"
)

// record is what is kept of a network.
type record struct {
	network.Network
	// Interface is the driver's name for it on the host.
	Interface string
	// Borrowed: the interface is the host's own and stays what it is.
	Borrowed bool `json:",omitempty"`
	// Unfollowed: its zone was changed, and published ports may still lead where they did.
	Unfollowed bool `json:",omitempty"`
	// Chosen: nobody asked for this subnet, so it may be replaced while unused.
	Chosen bool
}

// net is a network. Its fields but the record are guarded by Service.mu.
type net struct {
	record
	subnets   []*address.Subnet
	endpoints map[string]*endpoint
	names     map[string][]*endpoint
	removed   bool
	// pending counts endpoints on their way, which keep the network from being removed.
	pending int
	// leaving counts endpoints whose interfaces are going; cooling, not nil while there
	// are any, is closed when the next one's addresses are free.
	leaving int
	cooling chan struct{}
	// up makes the driver's Up happen once at a time.
	up sync.Mutex
}

// endpoint is a container's attachment to a network.
type endpoint struct {
	id       string
	net      *net
	sandbox  *sandbox
	names    []string
	settings *network.EndpointSettings
	iface    string
	gateway  bool // the container's default route goes here
}

const (
	predefinedBridge = "bridge"
	predefinedHost   = "host"
	predefinedNone   = "none"
)

// newNet makes the live form of a record.
func newNet(r *record) (*net, error) {
	n := &net{record: *r, endpoints: map[string]*endpoint{}, names: map[string][]*endpoint{}}
	if r.Network.ConfigOnly {
		return n, nil
	}
	for _, c := range r.Network.IPAM.Config {
		s, err := address.NewSubnet(c.Subnet, c.IPRange)
		if err != nil {
			return nil, err
		}
		reserved := []netip.Addr{c.Gateway}
		for _, a := range c.AuxAddress {
			reserved = append(reserved, a)
		}
		for _, a := range reserved {
			if !a.IsValid() {
				continue
			}
			if err := s.Take(a); err != nil {
				return nil, err
			}
		}
		n.subnets = append(n.subnets, s)
	}
	return n, nil
}

// predefined tells whether a network is one of the three that always exist.
func predefined(name string) bool {
	return name == predefinedBridge || name == predefinedHost || name == predefinedNone
}

// resolves tells whether the containers on a network find each other by name.
func (n *net) resolves() bool { return n.attaches() && n.Name != predefinedBridge }

// attaches tells whether containers get an interface and addresses.
func (n *net) attaches() bool {
	return n.Driver == predefinedBridge || n.Driver == macvlan.Macvlan || n.Driver == macvlan.IPVlan
}

// unplug detaches a container that goes on.
func (s *Service) unplug(e *endpoint) error {
	return s.drivers[e.net.Driver].(interface {
		Unplug(e netdriver.Endpoint) error
	}).Unplug(e.driverView())
}

// driverView is what the driver is told.
func (n *net) driverView() netdriver.Network {
	d := netdriver.Network{
		ID: n.ID, Name: n.Name, Interface: n.Interface, Internal: n.Internal, Options: n.Options, Default: predefined(n.Name), Borrowed: n.Borrowed,
		Zone: n.zone(),
	}
	for _, c := range n.IPAM.Config {
		d.Subnets = append(d.Subnets, netdriver.Subnet{Prefix: c.Subnet, Gateway: c.Gateway})
	}
	return d
}

func (s *Service) driverView(n *net) netdriver.Network {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return n.driverView()
}

// predefine makes the networks that always exist where they are missing, and the
// bridge what the configuration wants.
func (s *Service) predefine() error {
	have := map[string]*net{}
	for _, n := range s.networks {
		if predefined(n.Name) {
			have[n.Name] = n
		}
	}
	for name, driver := range map[string]string{predefinedHost: "host", predefinedNone: "null"} {
		if have[name] != nil {
			continue
		}
		err := s.keepPredefined(&record{Network: network.Network{
			Name: name, ID: id.New(), Created: now(), Scope: "local", Driver: driver, EnableIPv4: true,
			IPAM: network.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{},
		}}, nil)
		if err != nil {
			return err
		}
	}
	return s.predefineBridge(have[predefinedBridge])
}

// chooseSubnet takes the first subnet of the pools that clashes neither with
// another network nor with a route or name server of the host.
func (s *Service) chooseSubnet() (network.IPAMConfig, error) {
	taken, err := s.takenByHost()
	if err != nil {
		return network.IPAMConfig{}, err
	}
	subnet, err := address.Choose(s.pools(false), append(taken, s.takenByNetworks()...))
	if err != nil {
		return network.IPAMConfig{}, err
	}
	return network.IPAMConfig{Subnet: subnet, Gateway: subnet.Addr().Next()}, nil
}

func (s *Service) takenByNetworks() (taken []netip.Prefix) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range s.networks {
		if n.ConfigOnly {
			continue
		}
		for _, c := range n.IPAM.Config {
			taken = append(taken, c.Subnet)
		}
	}
	return taken
}

func (s *Service) takenByHost() (taken []netip.Prefix, err error) {
	routes, err := rtnl.Routes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if !s.bridge.Ours(r.Interface) {
			taken = append(taken, r.Prefix)
		}
	}
	for _, a := range s.resolv.read().Servers {
		taken = append(taken, netip.PrefixFrom(a, a.BitLen()))
	}
	return taken, nil
}

func (s *Service) save(n *net, durable bool) error {
	if err := s.records.Save(n.ID, &n.record, durable); err != nil {
		return fmt.Errorf("save network %s: %w", n.Name, err)
	}
	return nil
}

// bringUp makes the driver's side of a network. A subnet that we chose ourselves
// and that a route of the host has taken since is replaced while nobody uses it.
func (s *Service) bringUp(ctx context.Context, n *net) error {
	n.up.Lock()
	defer n.up.Unlock()
	if n.Chosen && s.routes.clashes(n.ID) && s.idle(n) && s.inTheWay(n.ID) {
		// Its interface is still there, with a subnet that a route has taken since.
		if err := s.takeDown(ctx, n); err != nil {
			return err
		}
	}
	err := s.drivers[n.Driver].Up(ctx, s.driverView(n))
	for range 3 {
		if err == nil || !errdefs.IsConflict(err) || !n.Chosen {
			return err
		}
		if rechosen := s.rechoose(n); rechosen != nil {
			return fmt.Errorf("%w; %w", err, rechosen)
		}
		err = s.drivers[n.Driver].Up(ctx, s.driverView(n))
	}
	return err
}

// takeDown removes the driver's side of a network, unless another has the same parent:
// then the last one does.
func (s *Service) takeDown(ctx context.Context, n *net) error {
	if n.Driver == macvlan.Macvlan { // nobody begins to share it meanwhile
		s.create.Lock()
		defer s.create.Unlock()
	}
	s.mu.RLock()
	shared := false
	for _, o := range s.networks {
		shared = shared || o != n && o.Driver == n.Driver && o.Interface == n.Interface && n.Interface != ""
	}
	view := n.driverView()
	s.mu.RUnlock()
	if shared {
		return nil
	}
	return s.drivers[n.Driver].Down(ctx, view)
}

// idle: nobody is on a network. The first of those on their way to it moves it.
func (s *Service) idle(n *net) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(n.endpoints) == 0
}

func (s *Service) rechoose(n *net) error {
	s.create.Lock()
	defer s.create.Unlock()
	config, err := s.chooseSubnet()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(n.endpoints) > 0 {
		return fmt.Errorf("network %s is in use", n.Name)
	}
	old := n.IPAM.Config[0].Subnet
	n.IPAM.Config = []network.IPAMConfig{config}
	fresh, err := newNet(&n.record)
	if err != nil {
		return err
	}
	n.subnets = fresh.subnets
	s.log.Info("network gets another subnet: a route of the host has taken the old one", "network", n.Name, "old", old, "new", config.Subnet)
	return s.save(n, true)
}
