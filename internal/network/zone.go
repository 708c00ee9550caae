package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"muelle/api"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/rtnl"
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
func checkZone(n *net, options map[string]string) error {
	z, err := policy.FromOptions(options)
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

// SetZone changes what a network may do, at once and for the containers on it too;
// connections that it no longer allows end. errdefs.ErrInvalidArgument: it cannot have
// such a zone.
func (s *Service) SetZone(ctx context.Context, ref string, z api.Zone) error {
	n, err := s.find(ref)
	if err != nil {
		return err
	}
	if predefined(n.Name) {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("network %s is predefined: it has no zone", n.Name))
	}
	n.up.Lock()
	defer n.up.Unlock()
	s.mu.Lock()
	options := policy.ToOptions(n.Options, z)
	err = checkZone(n, options)
	if n.removed { // meanwhile: its record must not come back
		err = notFound(n.Name)
	}
	if err != nil {
		s.mu.Unlock()
		return err
	}
	before, unfollowed, apart := n.Options, n.Unfollowed, !n.between()
	n.Options, n.Unfollowed = options, true
	view, together := n.driverView(), apart && n.between()
	s.mu.Unlock()
	err = s.save(n, true)
	if err == nil {
		err = s.bridge.SetZone(ctx, view)
	}
	if err == nil {
		if together {
			s.introduce(n)
		}
		return nil
	}
	s.mu.Lock()
	n.Options, n.Unfollowed = before, unfollowed
	s.mu.Unlock()
	if undo := s.save(n, true); undo != nil {
		err = fmt.Errorf("%w; %w", err, undo)
	}
	return fmt.Errorf("change zone of network %s: %w", n.Name, err)
}

// Unfollowed are the containers that ask to publish ports and are on a network whose zone
// was changed without ZonesFollowed: their ports may lead where they led before.
func (s *Service) Unfollowed() (ids []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, sb := range s.sandboxes {
		if sb.ns != nil && sb.asks() && slices.ContainsFunc(sb.endpoints, func(e *endpoint) bool { return e.net.Unfollowed }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// ZonesFollowed takes note that all published ports are where the zones have them.
func (s *Service) ZonesFollowed() error {
	s.mu.RLock()
	var list []*net
	for _, n := range s.networks {
		if n.Unfollowed {
			list = append(list, n)
		}
	}
	s.mu.RUnlock()
	var errs []error
	for _, n := range list {
		errs = append(errs, s.followed(n))
	}
	return errors.Join(errs...)
}

func (s *Service) followed(n *net) error {
	n.up.Lock()
	defer n.up.Unlock()
	s.mu.Lock()
	n.Unfollowed = false
	removed := n.removed
	s.mu.Unlock()
	if removed {
		return nil
	}
	return s.save(n, true)
}

// Answered implements resolver.Directory: what a zone of the asker lists by name is open
// before the asker knows the address.
func (d directory) Answered(asker, name string, addrs []netip.Addr, ttl time.Duration) error {
	if bridge := d.following(asker, name); bridge != "" {
		return d.bridge.Admit(bridge, name, addrs, ttl)
	}
	return nil
}

// unlisted says why a name is not asked outside: the zone that the sandbox's way out
// lies in lets out to others only. (A name is a way to carry data out, too.)
func (sb *sandbox) unlisted(name string) string {
	way := sb.way()
	if way == nil {
		return ""
	}
	_, names := policy.Destinations(way.net.zone())
	if !policy.Restricted(way.net.zone()) || way.net.zone().Egress[0] == api.ZoneNone ||
		slices.ContainsFunc(names, func(entry string) bool { return policy.Names(entry, name) }) {
		return ""
	}
	return fmt.Sprintf("the zone of network %s does not list it (egress: %s)", way.net.Name, strings.Join(way.net.zone().Egress, ", "))
}

// following is the bridge of the asker's way out, if its zone lists the name. No other
// zone that it is on is opened: by its own way it may be answered by whomever it likes.
func (d directory) following(asker, name string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	sb := d.sandboxes[asker]
	if sb == nil {
		return ""
	}
	if way := sb.way(); way != nil {
		_, names := policy.Destinations(way.net.zone())
		if slices.ContainsFunc(names, func(entry string) bool { return policy.Names(entry, name) }) {
			return way.net.Interface
		}
	}
	return ""
}

// publisher is the endpoint that published ports lead to: the one with the default
// route, unless its zone publishes nothing, then the first in the same order whose zone
// says that it does.
func (sb *sandbox) publisher() *endpoint { return publisherOf(sb.endpoints, sb.way()) }

func publisherOf(endpoints []*endpoint, way *endpoint) *endpoint {
	if way != nil && way.net.Driver == predefinedBridge && way.net.zone().Publish != api.ZoneNone {
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

// answerBy lets answers leave by the endpoint that published ports lead to where the
// default route leads elsewhere. From an internal network only this host is answered,
// which asks with an address of the network's.
func (s *Service) answerBy(sb *sandbox, e, way *endpoint) error {
	if e == nil || e == way || e.net.Internal {
		return nil
	}
	d := e.driverView()
	var gateways []netip.Addr
	for _, c := range e.net.IPAM.Config {
		if gw := wayOut(c); gw.IsValid() {
			gateways = append(gateways, gw)
		}
	}
	return netns.Do(sb.ns, func() error { return rtnl.AnswerBy(d.MAC.String(), d.Addresses, gateways) })
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
