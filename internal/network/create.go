package network

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
	"muelle/internal/netdriver"
	"muelle/internal/netdriver/macvlan"
	"muelle/internal/network/address"
)

// Create makes a user-defined network.
func (s *Service) Create(_ context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	if err := supported(r); err != nil {
		return network.CreateResponse{}, err
	}
	s.create.Lock()
	defer s.create.Unlock()
	if err := s.nameIsFree(r.Name); err != nil {
		return network.CreateResponse{}, err
	}
	if r.ConfigOnly {
		return s.createConfig(r)
	}
	if err := s.fromConfig(&r); err != nil {
		return network.CreateResponse{}, err
	}
	rec := &record{Network: network.Network{
		Name: r.Name, ID: id.New(), Created: now(), Scope: "local", Driver: r.Driver,
		EnableIPv4: r.EnableIPv4 == nil || *r.EnableIPv4, EnableIPv6: r.EnableIPv6 != nil && *r.EnableIPv6,
		Internal: r.Internal, Attachable: r.Attachable,
		Labels: copyOf(r.Labels),
	}}
	if r.ConfigFrom != nil {
		rec.Network.ConfigFrom = *r.ConfigFrom
	}
	if rec.Network.Driver == "" || rec.Network.Driver == "default" {
		rec.Network.Driver = "bridge"
	}
	rec.Network.Options = s.withDefaults(rec.Network.Driver, r.Options)
	driver := s.drivers[rec.Network.Driver]
	if err := s.assignSubnets(rec, r.IPAM); err != nil {
		return network.CreateResponse{}, err
	}
	n, err := newNet(rec)
	if err != nil {
		return network.CreateResponse{}, err
	}
	if err := checkZone(n, n.Options); err != nil {
		return network.CreateResponse{}, err
	}
	if n.Interface, err = driver.Check(n.driverView()); err != nil {
		return network.CreateResponse{}, err
	}
	if err := s.interfaceIsFree(n); err != nil {
		return network.CreateResponse{}, err
	}
	if p, ok := driver.(netdriver.Prober); ok {
		if err := p.Probe(n.driverView()); err != nil {
			return network.CreateResponse{}, err
		}
	}
	return s.enter(n)
}

// enter saves a new network, and has it known from then on.
func (s *Service) enter(n *net) (network.CreateResponse, error) {
	if err := s.save(n, true); err != nil {
		return network.CreateResponse{}, err
	}
	s.mu.Lock()
	s.networks[n.ID] = n
	s.mu.Unlock()
	s.publish(n, events.ActionCreate, nil)
	return network.CreateResponse{ID: n.ID}, nil
}

const (
	longestName = 255
	// mostSubnets: each is compared with all others, while nobody else makes a network.
	mostSubnets = 128
	// mostOptions: options and labels are written down and shown with every listing.
	mostOptions = 1000
)

// supported refuses what this engine does not have, and what Docker refuses.
func supported(r network.CreateRequest) error {
	notYet := func(what string) error {
		return errdefs.ErrNotImplemented.WithMessage(what + " is not supported")
	}
	invalid := errdefs.ErrInvalidArgument
	switch {
	case r.Name == "":
		return invalid.WithMessage("network name cannot be blank or contain leading or trailing whitespace")
	case predefined(r.Name) || r.Name == network.NetworkDefault || r.Name == "container":
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("operation is not permitted on predefined %s network ", r.Name))
	case !id.ValidName(r.Name + "_"): // one character is enough, other than for containers
		return invalid.WithMessage(fmt.Sprintf("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", r.Name))
	case len(r.Name) > longestName:
		return invalid.WithMessage(fmt.Sprintf("invalid network name: it has %d characters, and may have %d", len(r.Name), longestName))
	case r.IPAM != nil && len(r.IPAM.Config) > mostSubnets:
		return invalid.WithMessage(fmt.Sprintf("invalid network config:\n%d subnets, and there may be %d", len(r.IPAM.Config), mostSubnets))
	case len(r.Options) > mostOptions || len(r.Labels) > mostOptions:
		return invalid.WithMessage(fmt.Sprintf("invalid network config:\n%d options and %d labels, and there may be %d of each", len(r.Options), len(r.Labels), mostOptions))
	case r.Driver == "overlay":
		return errdefs.ErrNotImplemented.WithMessage("the network driver overlay is not supported, as it joins the machines of a swarm: use bridge on this machine, macvlan to be on its link, or a tunnel between machines, such as WireGuard's")
	case r.Driver == "host" || r.Driver == "null":
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("only one instance of %q network is allowed", r.Driver))
	case r.Driver != "" && r.Driver != "bridge" && r.Driver != "default" && r.Driver != macvlan.Macvlan && r.Driver != macvlan.IPVlan:
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", r.Driver))
	case r.Scope != "" && r.Scope != "local":
		return notYet("the network scope " + r.Scope + " (this engine is one machine: there is only local)")
	case r.Ingress:
		return notYet("an ingress network (there is no swarm)")
	case r.EnableIPv4 != nil && !*r.EnableIPv4 && (r.EnableIPv6 == nil || !*r.EnableIPv6):
		return invalid.WithMessage("IPv4 or IPv6 must be enabled")
	case r.IPAM != nil && r.IPAM.Driver != "" && r.IPAM.Driver != "default":
		return notYet("the address management driver " + r.IPAM.Driver)
	}
	return checkConfigs(r)
}

func (s *Service) nameIsFree(name string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range s.networks {
		if n.Name == name {
			return errdefs.ErrAlreadyExists.WithMessage(fmt.Sprintf("network with name %s already exists", name))
		}
	}
	return nil
}

// interfaceIsFree: two networks may have been told the same bridge name, or parent.
// Several of macvlan may share one, as with Docker, but in the mode passthru.
func (s *Service) interfaceIsFree(made *net) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, n := range s.networks {
		if made.Interface == "" || n.Interface != made.Interface {
			continue
		}
		if err := made.beside(n); err != nil {
			return err
		}
	}
	return nil
}

// beside tells why a network cannot have the same interface as another.
func (n *net) beside(o *net) error {
	const passthru = "passthru"
	denied := func(format string, args ...any) error {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf(format, args...))
	}
	switch {
	case n.Driver == predefinedBridge && o.Driver == predefinedBridge:
		return denied("conflicts with network %s (%s): networks have same bridge name", o.ID, o.Name)
	case n.Driver == predefinedBridge || o.Driver == predefinedBridge:
		return denied("interface %s is that of the %s network %s", n.Interface, o.Driver, o.Name)
	case n.Driver != o.Driver:
		return denied("the %s network %s is already using parent interface %s, which carries either macvlan or ipvlan: use the driver %s, or another parent, such as a VLAN of it", o.Driver, o.Name, n.Interface, macvlan.Macvlan)
	case n.Driver == macvlan.IPVlan:
		return denied("network %s is already using parent interface %s", o.Name, n.Interface)
	case o.Options["macvlan_mode"] == passthru:
		return denied("macvlan network %s is already using parent interface %s in mode passthru", o.Name, n.Interface)
	case n.Options["macvlan_mode"] == passthru:
		return denied("cannot use mode passthru, macvlan network %s is already using parent interface %s", o.Name, n.Interface)
	}
	return nil
}

// assignSubnets takes the subnets asked for and chooses those that are missing:
// one of IPv4, and one of IPv6 where that is enabled.
func (s *Service) assignSubnets(rec *record, asked *network.IPAM) error {
	ipam := network.IPAM{Driver: "default", Options: map[string]string{}}
	have4, have6 := false, false
	if asked != nil {
		ipam.Options = copyOf(asked.Options)
		for _, c := range asked.Config {
			if !c.Subnet.IsValid() {
				if c.IPRange.IsValid() || c.Gateway.IsValid() || len(c.AuxAddress) > 0 {
					return errdefs.ErrInvalidArgument.WithMessage("invalid network config:\na subnet is needed for an ip-range, gateway or auxiliary address")
				}
				continue
			}
			config, err := s.complete(c, ipam.Config)
			if err != nil {
				return err
			}
			have4, have6 = have4 || config.Subnet.Addr().Is4(), have6 || config.Subnet.Addr().Is6()
			ipam.Config = append(ipam.Config, config)
		}
	}
	if have6 && !rec.Network.EnableIPv6 {
		return errdefs.ErrInvalidArgument.WithMessage("invalid network config:\nIPv6 subnet given, but IPv6 is not enabled for this network")
	}
	if have4 && !rec.Network.EnableIPv4 {
		return errdefs.ErrInvalidArgument.WithMessage("invalid network config:\nIPv4 subnet given, but IPv4 is not enabled for this network")
	}
	if !have4 && rec.Network.EnableIPv4 {
		config, err := s.chooseSubnet()
		if err != nil {
			return err
		}
		rec.Chosen = !have6
		ipam.Config = append([]network.IPAMConfig{config}, ipam.Config...)
	}
	if rec.Network.EnableIPv6 && !have6 {
		config, err := s.chooseIPv6()
		if err != nil {
			return err
		}
		rec.Chosen = false
		ipam.Config = append(ipam.Config, config)
	}
	// IPv4's first, as Docker lists them.
	slices.SortStableFunc(ipam.Config, func(a, b network.IPAMConfig) int { return a.Subnet.Addr().BitLen() - b.Subnet.Addr().BitLen() })
	rec.Network.IPAM = ipam
	return nil
}

// complete checks a subnet that was asked for.
func (s *Service) complete(c network.IPAMConfig, others []network.IPAMConfig) (network.IPAMConfig, error) {
	taken := s.takenByNetworks()
	for _, o := range others {
		taken = append(taken, o.Subnet)
	}
	if err := checkSubnet(c); err != nil {
		return c, err
	}
	if address.Overlaps(c.Subnet, taken) {
		return c, errdefs.ErrPermissionDenied.WithMessage("invalid pool request: Pool overlaps with other one on this address space")
	}
	if c.Gateway.IsValid() {
		return c, nil
	}
	return chooseGateway(c)
}

// unusable are addresses that no interface of a container can answer by: RFC 6890's of
// "this network" and of loopback, and groups.
var unusable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("ff00::/8"),
}

// checkSubnet: addresses that belong to a subnet must lie in it.
func checkSubnet(c network.IPAMConfig) error {
	if i := slices.IndexFunc(unusable, c.Subnet.Overlaps); i >= 0 {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\ninvalid subnet %s: no container can have an address of %s", c.Subnet, unusable[i]))
	}
	if c.Subnet != c.Subnet.Masked() {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\ninvalid subnet %s: it should be %s", c.Subnet, c.Subnet.Masked()))
	}
	for name, a := range c.AuxAddress {
		if !c.Subnet.Contains(a) {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\ninvalid auxiliary address %s (%s): parent subnet is %s", a, name, c.Subnet))
		}
	}
	if c.Gateway.IsValid() && !c.Subnet.Contains(c.Gateway) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\ninvalid gateway %s: parent subnet is %s", c.Gateway, c.Subnet))
	}
	return nil
}

func chooseGateway(c network.IPAMConfig) (network.IPAMConfig, error) {
	used := map[netip.Addr]bool{}
	for _, a := range c.AuxAddress {
		used[a] = true
	}
	from := c.Subnet
	if c.IPRange.IsValid() {
		from = c.IPRange
	}
	for a := from.Addr(); from.Contains(a); a = a.Next() {
		if a != c.Subnet.Addr() && !used[a] {
			c.Gateway = a
			return c, nil
		}
	}
	return c, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid network config:\nno address for a gateway in %s", from))
}

// chooseIPv6 takes a subnet of a unique local range.
func (s *Service) chooseIPv6() (network.IPAMConfig, error) {
	taken, err := s.takenByHost()
	if err != nil {
		return network.IPAMConfig{}, err
	}
	subnet, err := address.Choose(s.pools(true), append(taken, s.takenByNetworks()...))
	if err != nil {
		return network.IPAMConfig{}, err
	}
	return network.IPAMConfig{Subnet: subnet, Gateway: subnet.Addr().Next()}, nil
}

func copyOf(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
