package network

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/id"
)

// A configuration network is a template: subnets, options and labels that networks made
// with --config-from take over. No container joins it, and its subnets are nobody's.

// checkConfigs tells what cannot go together, in Docker's words.
func checkConfigs(r network.CreateRequest) error {
	from := r.ConfigFrom != nil && r.ConfigFrom.Network != ""
	forbidden := errdefs.ErrPermissionDenied
	switch {
	case r.ConfigOnly && (r.Internal || r.Attachable || r.Ingress || r.Scope != ""):
		return forbidden.WithMessage("configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.")
	case r.ConfigOnly && from:
		return forbidden.WithMessage("a configuration network cannot depend on another configuration network")
	case from && (asksIPAM(r.IPAM) || r.EnableIPv6 != nil && *r.EnableIPv6 || len(r.Labels) > 0):
		return forbidden.WithMessage("user specified configurations are not supported if the network depends on a configuration network")
	case from && len(r.Options) > 0:
		return forbidden.WithMessage("network driver options are not supported if the network depends on a configuration network")
	}
	return nil
}

func asksIPAM(i *network.IPAM) bool {
	return i != nil && (len(i.Config) > 0 || len(i.Options) > 0)
}

// createConfig keeps a configuration network.
func (s *Service) createConfig(r network.CreateRequest) (network.CreateResponse, error) {
	rec := &record{Network: network.Network{
		Name: r.Name, ID: id.New(), Created: now(), Scope: "local", Driver: "null", ConfigOnly: true,
		EnableIPv4: r.EnableIPv4 == nil || *r.EnableIPv4, EnableIPv6: r.EnableIPv6 != nil && *r.EnableIPv6,
		Labels: copyOf(r.Labels), Options: copyOf(r.Options), IPAM: network.IPAM{Driver: "default", Options: map[string]string{}},
	}}
	if r.IPAM != nil {
		rec.Network.IPAM.Options, rec.Network.IPAM.Config = copyOf(r.IPAM.Options), r.IPAM.Config
		for _, c := range r.IPAM.Config {
			if c.Subnet.IsValid() {
				if err := checkSubnet(c); err != nil {
					return network.CreateResponse{}, err
				}
			}
		}
	}
	n, err := newNet(rec)
	if err != nil {
		return network.CreateResponse{}, err
	}
	return s.enter(n)
}

// fromConfig completes a request by the configuration network that it names.
func (s *Service) fromConfig(r *network.CreateRequest) error {
	if r.ConfigFrom == nil || r.ConfigFrom.Network == "" {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, err := s.findLocked(r.ConfigFrom.Network)
	if err != nil || !n.ConfigOnly {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("configuration network %q does not exist", r.ConfigFrom.Network))
	}
	v := n.view()
	r.ConfigFrom = &network.ConfigReference{Network: v.Name}
	r.Labels, r.Options, r.IPAM = v.Labels, v.Options, &v.IPAM
	r.EnableIPv4, r.EnableIPv6 = &v.EnableIPv4, &v.EnableIPv6
	return nil
}

// configures tells whether a network was made from the configuration network. mu is held.
func (s *Service) configures(config *net) bool {
	for _, n := range s.networks {
		if config.ConfigOnly && n.ConfigFrom.Network == config.Name {
			return true
		}
	}
	return false
}
