package network

import (
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/internal/policy"
)

// zone is what the network may do, from its driver options: Docker's client, which
// knows no zones, writes and shows them so.
func (n *net) zone() api.Zone {
	z, err := policy.FromOptions(n.Options)
	if err != nil {
		// Create and SetZone let nothing else in; a record that was edited closes the network.
		return api.Zone{Publish: api.ZoneNone, Egress: []string{api.ZoneNone}, Between: api.ZoneDeny}
	}
	return z
}

const optionICC = "com.docker.network.bridge.enable_icc"

// between tells whether containers of the network reach each other.
func (n *net) between() bool {
	if z := n.zone(); z.Between != "" {
		return z.Between != api.ZoneDeny
	}
	on, err := strconv.ParseBool(n.Options[optionICC])
	return on || err != nil
}

// checkZone refuses a zone that the network cannot have.
func checkZone(n *net) error {
	z, err := policy.FromOptions(n.Options)
	if err == nil {
		err = policy.Check(z, n.Driver, n.Internal)
	}
	if err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("zone of network %s: %v", n.Name, err))
	}
	return nil
}

// Zone gives what a network may do.
func (s *Service) Zone(ref string) (api.Zone, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, err := s.findLocked(ref)
	if err != nil {
		return api.Zone{}, err
	}
	return n.zone(), nil
}

// publisher is the endpoint that published ports lead to: the one with the default
// route, unless its zone publishes nothing, then the first in the same order whose zone
// says that it does.
func (sb *sandbox) publisher() *endpoint { return publisherOf(sb.endpoints, sb.way()) }

func publisherOf(endpoints []*endpoint, way *endpoint) *endpoint {
	if way != nil && way.net.zone().Publish != api.ZoneNone {
		return way
	}
	var open []*endpoint
	for _, e := range endpoints {
		z := e.net.zone().Publish
		if e.net.Driver == predefinedBridge && len(e.net.IPAM.Config) > 0 && z != api.ZoneNone && (!e.net.Internal || z == api.ZoneHost) {
			open = append(open, e)
		}
	}
	return first(open)
}

// silenced says why a container publishes nothing although it asks to, where a zone is
// the reason.
func (sb *sandbox) silenced() error {
	for _, e := range sb.endpoints {
		if e.net.zone().Publish == api.ZoneNone {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
				"container %s publishes ports, but every network of it publishes none (%v): allow it on one (x-zone: {publish: host}), or take the ports away", sb.name, sb.networkNames()))
		}
	}
	return nil
}
