package network

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/filter"
)

// find resolves a name, id or unique id prefix; a full name or id wins.
func (s *Service) find(ref string) (*net, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.findLocked(ref)
}

func (s *Service) findLocked(ref string) (*net, error) {
	if n := s.networks[ref]; n != nil {
		return n, nil
	}
	var byPrefix []*net
	for _, n := range s.networks {
		if n.Name == ref || ref == network.NetworkDefault && n.Name == predefinedBridge {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			byPrefix = append(byPrefix, n)
		}
	}
	switch len(byPrefix) {
	case 0:
		return nil, notFound(ref)
	case 1:
		return byPrefix[0], nil
	}
	return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("network %s is ambiguous (%d matches found based on ID prefix)", ref, len(byPrefix)))
}

// Get resolves a name, id or unique id prefix.
func (s *Service) Get(ref string) (network.Summary, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, err := s.findLocked(ref)
	if err != nil {
		return network.Summary{}, err
	}
	return network.Summary{Network: n.view()}, nil
}

// view is a copy that the caller may keep.
func (n *net) view() network.Network {
	v := n.Network
	v.Options, v.Labels = maps.Clone(n.Options), maps.Clone(n.Labels)
	v.IPAM.Options, v.IPAM.Config = maps.Clone(n.IPAM.Options), slices.Clone(n.IPAM.Config)
	if v.IPAM.Config == nil {
		v.IPAM.Config = []network.IPAMConfig{}
	}
	return v
}

// List gives the networks that pass the filters.
func (s *Service) List(_ context.Context, f filter.Args) ([]network.Summary, error) {
	if err := f.Validate("dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	for _, t := range f.Get("type") {
		if t != "custom" && t != "builtin" {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter: 'type'='%s'", t))
		}
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := []network.Summary{}
	for _, n := range s.networks {
		if f.Has("dangling") && dangling == (predefined(n.Name) || len(n.endpoints) > 0) {
			continue
		}
		kind := "custom"
		if predefined(n.Name) {
			kind = "builtin"
		}
		if f.ExactMatch("driver", n.Driver) && f.Match("id", n.ID) && f.MatchLabels("label", n.Labels) &&
			f.Match("name", n.Name) && f.ExactMatch("scope", n.Scope) && f.ExactMatch("type", kind) {
			list = append(list, network.Summary{Network: n.view()})
		}
	}
	slices.SortFunc(list, func(a, b network.Summary) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// Inspect gives one network with the containers on it; status adds the counts of addresses.
func (s *Service) Inspect(_ context.Context, ref string, status bool) (network.Inspect, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, err := s.findLocked(ref)
	if err != nil {
		return network.Inspect{}, err
	}
	in := network.Inspect{Network: n.view(), Containers: map[string]network.EndpointResource{}}
	for _, e := range n.endpoints {
		r := network.EndpointResource{Name: e.sandbox.name, EndpointID: e.id, MacAddress: e.settings.MacAddress}
		if a := e.settings.IPAddress; a.IsValid() {
			r.IPv4Address = netip.PrefixFrom(a, e.settings.IPPrefixLen)
		}
		if a := e.settings.GlobalIPv6Address; a.IsValid() {
			r.IPv6Address = netip.PrefixFrom(a, e.settings.GlobalIPv6PrefixLen)
		}
		in.Containers[e.sandbox.id] = r
	}
	if status && len(n.subnets) > 0 {
		in.Status = &network.Status{IPAM: network.IPAMStatus{Subnets: network.SubnetStatuses{}}}
		for _, sub := range n.subnets {
			used, free := sub.Usage()
			in.Status.IPAM.Subnets[sub.Prefix()] = network.SubnetStatus{IPsInUse: used, DynamicIPsAvailable: free}
		}
	}
	return in, nil
}

func notFound(ref string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", ref))
}

// Remove removes a network without endpoints, and its bridge.
func (s *Service) Remove(ctx context.Context, ref string) error {
	n, err := s.find(ref)
	if err != nil {
		return err
	}
	return s.remove(ctx, n)
}

func (s *Service) remove(ctx context.Context, n *net) error {
	if predefined(n.Name) {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("%s is a pre-defined network and cannot be removed", n.Name))
	}
	if err := s.unlist(n); err != nil {
		return err
	}
	n.up.Lock()
	defer n.up.Unlock()
	// The record goes first: what a daemon killed in between leaves in the kernel
	// belongs to no network then, and is removed at the next start.
	err := s.records.Delete(n.ID)
	if err == nil {
		err = s.takeDown(ctx, n)
	}
	if err != nil {
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	s.publish(n, events.ActionDestroy, nil)
	return nil
}

func (s *Service) unlist(n *net) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.removed {
		return notFound(n.Name)
	}
	if len(n.endpoints) > 0 || n.pending > 0 {
		var who []string
		for _, e := range n.endpoints {
			who = append(who, fmt.Sprintf("name:%q id:%q", e.sandbox.name, e.id[:12]))
		}
		slices.Sort(who)
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(who, ", ")))
	}
	if s.configures(n) {
		return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("error while removing network: configuration network %q is in use", n.Name))
	}
	n.removed = true
	delete(s.networks, n.ID)
	return nil
}

// Prune removes user-defined networks without endpoints.
func (s *Service) Prune(ctx context.Context, f filter.Args) (network.PruneReport, error) {
	report := network.PruneReport{NetworksDeleted: []string{}}
	if err := f.Validate("label", "label!", "until"); err != nil {
		return report, err
	}
	until, err := parseUntil(f.Get("until"))
	if err != nil {
		return report, err
	}
	s.mu.RLock()
	var unused []*net
	for _, n := range s.networks {
		unwanted := filter.Args{"label": f.Get("label!")}
		if !predefined(n.Name) && !n.ConfigOnly && len(n.endpoints) == 0 && n.pending == 0 && f.MatchLabels("label", n.Labels) &&
			(!f.Has("label!") || !unwanted.MatchLabels("label", n.Labels)) && (until.IsZero() || n.Created.Before(until)) {
			unused = append(unused, n)
		}
	}
	s.mu.RUnlock()
	for _, n := range unused {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		switch err := s.remove(ctx, n); {
		case err == nil:
			report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		case !errdefs.IsPermissionDenied(err) && !errdefs.IsNotFound(err): // taken into use, or removed, meanwhile
			return report, err
		}
	}
	if s.o.Bus != nil {
		s.o.Bus.Publish(events.NetworkEventType, events.ActionPrune, "", map[string]string{"reclaimed": "0"})
	}
	return report, nil
}

// parseUntil reads the filter of that name: a duration back from now, or a time.
func parseUntil(values []string) (time.Time, error) {
	if len(values) == 0 {
		return time.Time{}, nil
	}
	if len(values) > 1 {
		return time.Time{}, errdefs.ErrInvalidArgument.WithMessage("more than one until filter specified")
	}
	if d, err := time.ParseDuration(values[0]); err == nil {
		return time.Now().Add(-d), nil
	}
	var seconds int64
	if _, err := fmt.Sscan(values[0], &seconds); err == nil && !strings.ContainsAny(values[0], "-:T") {
		return time.Unix(seconds, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, values[0]); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("failed to parse value as time or duration: %q", values[0]))
}
