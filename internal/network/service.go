package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/meta"
	"muelle/internal/netdriver"
	"muelle/internal/netdriver/bridge"
	"muelle/internal/netdriver/builtin"
	"muelle/internal/netdriver/macvlan"
	"muelle/internal/network/address"
	"muelle/internal/network/port"
	"muelle/internal/network/resolver"
)

// publisher is where network events go: event.Bus.
type publisher interface {
	Publish(typ events.Type, action events.Action, id string, attributes map[string]string)
}

// AddressPool is a range that subnets of user-defined networks are cut from:
// default-address-pools of daemon.json.
type AddressPool = address.Pool

// Options says where a Service works and what it is given.
type Options struct {
	// Root keeps one record per network: data-root/networks.
	Root string
	// Pending is the file, of this boot, that keeps the lookups which others are being
	// asked for: exec-root/lookups; empty: they are not kept.
	Pending string
	// Instance is part of every kernel name; empty for the default places.
	Instance string
	// Bus takes the network events; may be nil.
	Bus publisher
	// AddressPools replaces the default pools, unless empty.
	AddressPools  []AddressPool
	DefaultBridge DefaultBridge
	// NetworkOptions are driver options by driver for networks created without them
	// (default-network-opts).
	NetworkOptions map[string]map[string]string
	// HostGateways stand for host-gateway in extra hosts; empty: the host's address on
	// the container's own network (host-gateway-ips).
	HostGateways []netip.Addr
	// KeepOut: nothing is added to the rules of other firewalls (firewall-cooperation
	// false); what they would drop is told by Warnings only.
	KeepOut bool
	// ResolvConf and HostsFile are the host's files; default /etc/resolv.conf and /etc/hosts.
	ResolvConf, HostsFile string
	Log                   *slog.Logger
}

// Service keeps networks and sandboxes. Methods are safe for concurrent use.
type Service struct {
	o        Options
	log      *slog.Logger
	records  *meta.Dir[record]
	bridge   *bridge.Driver
	drivers  map[string]netdriver.Driver
	ports    *port.Book
	sharing  *sharing
	resolver *resolver.Server
	resolv   resolvConf
	routes   routeWatch

	recovered struct {
		sync.Mutex
		done bool
	}

	// create makes networks one after the other, so that no two choose one subnet.
	create sync.Mutex

	mu        sync.RWMutex
	networks  map[string]*net
	sandboxes map[string]*sandbox
	ended     map[endedPort]time.Time
}

// Open reads the records of networks. It changes nothing in the kernel: bridges
// and rules come with the first container, or with Adopt.
func Open(_ context.Context, o Options) (*Service, error) {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.HostsFile == "" {
		o.HostsFile = "/etc/hosts"
	}
	if len(o.AddressPools) == 0 {
		o.AddressPools = address.DefaultPools()
	}
	for _, p := range o.AddressPools {
		if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen()-2 {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid default address pool %s: size %d", p.Base, p.Size))
		}
	}
	records, err := meta.Open[record](o.Root, 1)
	if err != nil {
		return nil, fmt.Errorf("open networks: %w", err)
	}
	if err := records.Sweep(); err != nil {
		return nil, fmt.Errorf("open networks: %w", err)
	}
	br := bridge.New(bridge.Options{Instance: o.Instance, KeepOut: o.KeepOut, Log: o.Log})
	s := &Service{
		o: o, log: o.Log, records: records, bridge: br,
		drivers: map[string]netdriver.Driver{"bridge": br, "host": builtin.Driver{Name: "host"}, "null": builtin.Driver{Name: "null"},
			macvlan.Macvlan: macvlan.New(macvlan.Macvlan, o.Instance, o.Log), macvlan.IPVlan: macvlan.New(macvlan.IPVlan, o.Instance, o.Log)},
		ports:     port.NewBook(),
		sharing:   newSharing(),
		resolv:    resolvConf{path: o.ResolvConf},
		networks:  map[string]*net{},
		sandboxes: map[string]*sandbox{},
		ended:     map[endedPort]time.Time{},
	}
	s.resolver = resolver.New(directory{s}, o.Pending, o.Log)
	all, errs := records.All()
	for _, err := range errs {
		s.log.Error("network record is unreadable", "err", err)
	}
	for _, r := range all {
		n, err := newNet(r)
		if err != nil {
			s.log.Error("network record is unusable", "network", r.Network.Name, "err", err)
			continue
		}
		s.networks[r.Network.ID] = n
	}
	if err := s.checkDefaults(); err != nil {
		return nil, err
	}
	if err := s.predefine(); err != nil {
		return nil, err
	}
	return s, nil
}

// Close stops the resolver and all background work. Containers that run keep
// their networks; when none runs, bridges, rules and sysctls of ours are removed.
func (s *Service) Close(context.Context) error {
	s.routes.close()
	s.resolver.Close()
	s.mu.RLock()
	idle := len(s.sandboxes) == 0
	for _, sb := range s.sandboxes {
		sb.close()
	}
	s.mu.RUnlock()
	var errs []error
	for _, kind := range []string{macvlan.Macvlan, macvlan.IPVlan} {
		errs = append(errs, s.drivers[kind].(*macvlan.Driver).Close(idle))
	}
	return errors.Join(append(errs, s.bridge.Close(idle))...)
}

// Adopted tells that every running container has been adopted: what the kernel
// still has of this instance and nobody owns is removed, and the rules are
// replaced in one transaction. Lookups are answered from then on. Called once after
// Open, before the first Prepare.
func (s *Service) Adopted(ctx context.Context) error {
	s.recovered.Lock()
	defer s.recovered.Unlock()
	if s.recovered.done {
		return nil
	}
	// Not before all names are known: a lookup of one that is not would be answered wrongly.
	s.resolver.Serve()
	if err := s.bridge.Recover(ctx); err != nil {
		return fmt.Errorf("recover networks: %w", err)
	}
	s.recovered.done = true
	s.routes.start(s)
	return nil
}

// Firewalls says what rules of others on this host would drop the containers' traffic,
// and the command that mends it.
func (s *Service) Firewalls() []string { return s.bridge.Warnings() }

// Warnings are those of Firewalls, and the host's routes that stand in the way.
func (s *Service) Warnings() []string {
	list := s.Firewalls()
	for _, c := range s.clashes() {
		list = append(list, c.text())
	}
	return list
}

func (s *Service) publish(n *net, action events.Action, attrs map[string]string) {
	if s.o.Bus == nil {
		return
	}
	all := map[string]string{"name": n.Name, "type": n.Driver}
	for k, v := range attrs {
		all[k] = v
	}
	s.o.Bus.Publish(events.NetworkEventType, action, n.ID, all)
}

// hostsFile is the host's own, for containers that share its namespace.
func (s *Service) hostsFile() ([]byte, error) {
	data, err := os.ReadFile(s.o.HostsFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func now() time.Time { return time.Now().UTC() }
