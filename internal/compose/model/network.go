package model

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// endpoints are the attachments by network key, and the network mode: the key of
// the network of highest priority, or what network_mode says.
func endpoints(p *types.Project, s types.ServiceConfig) (container.NetworkMode, map[string]*network.EndpointSettings, error) {
	if s.NetworkMode != "" {
		return container.NetworkMode(s.NetworkMode), nil, nil
	}
	if len(p.Networks) == 0 || len(s.Networks) == 0 {
		return network.NetworkNone, nil, nil
	}
	keys := s.NetworksByPriority()
	out := map[string]*network.EndpointSettings{}
	for i, key := range keys {
		mac := ""
		if i == 0 {
			mac = s.MacAddress
		}
		e, err := endpoint(s, s.Networks[key], mac)
		if err != nil {
			return "", nil, fmt.Errorf("network %s: %w", key, err)
		}
		out[key] = e
	}
	return container.NetworkMode(keys[0]), out, nil
}

func endpoint(s types.ServiceConfig, c *types.ServiceNetworkConfig, mac string) (*network.EndpointSettings, error) {
	e := &network.EndpointSettings{Aliases: []string{s.Name}}
	if c == nil {
		return e, setMAC(e, mac)
	}
	if c.UseServiceNameAlias != nil && !*c.UseServiceNameAlias {
		e.Aliases = nil
	}
	e.Aliases = append(e.Aliases, c.Aliases...)
	e.GwPriority = c.GatewayPriority
	if c.MacAddress != "" && mac != "" && c.MacAddress != mac {
		return nil, errors.New("the service-level mac_address should have the same value")
	}
	if c.MacAddress != "" {
		mac = c.MacAddress
	}
	e.DriverOpts = maps.Clone(c.DriverOpts)
	if c.InterfaceName != "" {
		if e.DriverOpts == nil {
			e.DriverOpts = map[string]string{}
		}
		e.DriverOpts["com.docker.network.endpoint.ifname"] = c.InterfaceName
	}
	var err error
	ipam := &network.EndpointIPAMConfig{}
	if c.Ipv4Address != "" {
		if ipam.IPv4Address, err = netip.ParseAddr(c.Ipv4Address); err != nil {
			return nil, fmt.Errorf("invalid IPv4 address: %w", err)
		}
		ipam.IPv4Address = ipam.IPv4Address.Unmap()
	}
	if c.Ipv6Address != "" {
		if ipam.IPv6Address, err = netip.ParseAddr(c.Ipv6Address); err != nil {
			return nil, fmt.Errorf("invalid IPv6 address: %w", err)
		}
	}
	if ipam.LinkLocalIPs, err = addresses(c.LinkLocalIPs); err != nil {
		return nil, fmt.Errorf("invalid link-local IP: %w", err)
	}
	if c.Ipv4Address != "" || c.Ipv6Address != "" || len(ipam.LinkLocalIPs) > 0 {
		e.IPAMConfig = ipam
	}
	return e, setMAC(e, mac)
}

func setMAC(e *network.EndpointSettings, mac string) error {
	if mac == "" {
		return nil
	}
	m, err := net.ParseMAC(mac)
	if err != nil {
		return fmt.Errorf("invalid MAC address: %w", err)
	}
	e.MacAddress = network.HardwareAddr(m)
	return nil
}

func addresses(list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// links gives a service's links the form that the engine's have, "target:alias". On
// networks with names they are aliases that only this service knows: a target is a
// service with all of its replicas, those of later too, or a container. Elsewhere they
// are Docker's old links to one container each, which the daemon finds for a service.
func links(s types.ServiceConfig, out *api.ProjectService) {
	old := len(out.Endpoints) == 0
	var list []string
	for _, l := range s.Links {
		service, alias, ok := strings.Cut(l, ":")
		switch {
		case old && !ok:
			list = append(list, service+":"+service)
		case old || ok && alias != service:
			list = append(list, service+":"+alias)
		}
	}
	for _, l := range s.ExternalLinks {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = name
		}
		if old {
			name = types.ContainerPrefix + name
		}
		list = append(list, name+":"+alias)
	}
	if old {
		out.HostConfig.Links = list
	}
	for _, e := range out.Endpoints {
		e.Links = list
	}
}

func translateNetwork(key string, n types.NetworkConfig) (api.ProjectNetwork, error) {
	out := api.ProjectNetwork{Key: key, Name: n.Name, External: bool(n.External)}
	hash, err := NetworkHash(n)
	if err != nil {
		return out, err
	}
	out.ConfigHash = hash
	if out.Zone, err = zone(key, n); err != nil {
		return out, err
	}
	out.Create = network.CreateRequest{
		Name: n.Name, Driver: n.Driver, Options: n.DriverOpts, Internal: n.Internal,
		Attachable: n.Attachable, EnableIPv4: n.EnableIPv4, EnableIPv6: n.EnableIPv6, Labels: n.Labels,
	}
	if n.Ipam.Driver == "" && len(n.Ipam.Config) == 0 && len(n.Ipam.Options) == 0 {
		return out, nil
	}
	out.Create.IPAM = &network.IPAM{Driver: n.Ipam.Driver, Options: n.Ipam.Options}
	for _, pool := range n.Ipam.Config {
		c, err := ipamPool(pool)
		if err != nil {
			return out, err
		}
		out.Create.IPAM.Config = append(out.Create.IPAM.Config, c)
	}
	return out, nil
}

func ipamPool(pool *types.IPAMPool) (c network.IPAMConfig, err error) {
	if pool.Subnet != "" {
		if c.Subnet, err = netip.ParsePrefix(pool.Subnet); err != nil {
			return c, fmt.Errorf("invalid subnet: %w", err)
		}
	}
	if pool.IPRange != "" {
		if c.IPRange, err = netip.ParsePrefix(pool.IPRange); err != nil {
			return c, fmt.Errorf("invalid ip-range: %w", err)
		}
	}
	if pool.Gateway != "" {
		if c.Gateway, err = netip.ParseAddr(pool.Gateway); err != nil {
			return c, fmt.Errorf("invalid gateway address: %w", err)
		}
	}
	for name, a := range pool.AuxiliaryAddresses {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return c, fmt.Errorf("invalid auxiliary address: %w", err)
		}
		if c.AuxAddress == nil {
			c.AuxAddress = map[string]netip.Addr{}
		}
		c.AuxAddress[name] = addr
	}
	return c, nil
}
