package project

import (
	"context"

	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/filter"
	"muelle/internal/policy"
)

// ensureZone makes the zone of a network that stays what the document says, without
// touching its containers.
func (u *up) ensureZone(ctx context.Context, n api.ProjectNetwork, have network.Network) error {
	want, err := policy.Zone(n)
	if err != nil {
		return err
	}
	is, err := policy.FromOptions(have.Options)
	if err == nil && policy.Equal(is, want) {
		return nil
	}
	return u.report.around("Network "+n.Name, "Changing zone", "Zone changed", func() error {
		if err := u.networks.SetZone(ctx, have.ID, want); err != nil {
			return err
		}
		return u.containers.FollowZones(ctx)
	})
}

// knownNetwork tells what a network that there is may do.
func (s *Service) knownNetwork(name string) (policy.Network, bool) {
	all, err := s.networks.List(context.Background(), filter.Args{})
	if err != nil {
		return policy.Network{}, false
	}
	for _, n := range all {
		if n.Name != name && n.ID != name {
			continue
		}
		z, err := policy.FromOptions(n.Options)
		if err != nil {
			return policy.Network{}, false
		}
		known := policy.NewNetwork(name, n.Name, n.Driver, n.Options, z)
		known.Internal, known.IPv6, known.NoIPv4 = n.Internal, n.EnableIPv6, !n.EnableIPv4
		for _, c := range n.IPAM.Config {
			if c.Gateway.IsValid() {
				known.Gateways = append(known.Gateways, c.Gateway)
			}
		}
		return known, true
	}
	return policy.Network{}, false
}
