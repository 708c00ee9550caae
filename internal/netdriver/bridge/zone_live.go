package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
	"muelle/internal/netdriver"
	"muelle/internal/policy"
)

// SetZone makes the zone of a network that is up what it is now: for new connections,
// for containers that are on it, and by ending the connections that it forbids.
func (d *Driver) SetZone(_ context.Context, n netdriver.Network) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.bridges[n.ID]
	if st == nil {
		return nil // Up reads it
	}
	o, err := parse(n.Options)
	if err != nil {
		return err
	}
	before, after := st.rules, st.rules
	after.icc, after.zone = between(n, o), zoneOf(n)
	if err := d.fw.setZone(after); err != nil {
		return err
	}
	st.rules = after
	if before.icc != after.icc {
		if err := separate(st.index, !after.icc); err != nil {
			st.rules = before
			return errors.Join(err, d.fw.setZone(before))
		}
	}
	d.fw.cutForbidden(after)
	return nil
}

// between tells whether containers of a network reach each other.
func between(n netdriver.Network, o options) bool {
	if n.Zone.Between != "" {
		return n.Zone.Between != api.ZoneDeny
	}
	return o.icc
}

// separate makes the ports of a bridge exchange no frames, or lets them.
func separate(bridge int, on bool) error {
	all, err := rtnl.Links("")
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.Master != bridge || l.Kind != "veth" {
			continue
		}
		// One that is gone meanwhile needs it no more.
		if err := rtnl.SetIsolated(l.Name, on); err != nil && !rtnl.IsNotFound(err) {
			return fmt.Errorf("separate containers: %w", err)
		}
	}
	return nil
}

func (f *firewall) setZone(b bridgeRules) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, had := f.bridges[b.name]
	if !had {
		return nil
	}
	f.bridges[b.name] = b
	known := f.names[b.name]
	f.keepNames(b)
	if f.recovering || !f.up {
		return nil
	}
	if err := f.replace(); err != nil {
		f.bridges[b.name], f.names[b.name] = old, known
		return err
	}
	return nil
}

// refreshLAN looks again what is on the host's links; true where that changed.
func (f *firewall) refreshLAN() (bool, error) {
	list, err := rtnl.OnLink(func(name string) bool { return !hasOurPrefix(name) && f.bridges[name].name == "" })
	if err != nil {
		return false, err
	}
	slices.SortFunc(list, func(a, b rtnl.Neighbourhood) int {
		return cmp.Or(strings.Compare(a.Interface, b.Interface), strings.Compare(a.Prefix.String(), b.Prefix.String()))
	})
	list = slices.Compact(list)
	if slices.Equal(list, f.lan) {
		return false, nil
	}
	f.lan = list
	return true, nil
}

// moved writes the table again where the host's links have changed what lan means.
func (f *firewall) moved() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up || f.t.zones == nil {
		return
	}
	changed, err := f.refreshLAN()
	if err == nil && changed {
		err = f.replace()
	}
	if err != nil {
		f.log.Error("published ports do not follow the host's addresses", "err", err)
	}
}

// cutForbidden ends the connections that a zone no longer allows: what begins in it, and
// what goes through its published ports.
func (f *firewall) cutForbidden(b bridgeRules) {
	f.mu.Lock()
	filter := &zoneFlows{rules: b.zone, lan: slices.Clone(f.lan), followed: map[netip.Addr]bool{}, local: map[netip.Addr]bool{}, relays: map[relayKey]bool{}}
	for a := range f.names[b.name] {
		filter.followed[a] = true
	}
	for key, p := range f.ports {
		if key.host.Addr().Is6() && len(p.Targets) > 0 && b.zone.has(p.Targets[0].Addr()) {
			filter.relays[relayKey{ruleset.Protocol(p.Protocol), p.Host.Port()}] = true
		}
	}
	f.mu.Unlock()
	if !b.zone.zoned() {
		return
	}
	sctp := false
	for key := range filter.relays {
		sctp = sctp || key.protocol == unix.IPPROTO_SCTP
	}
	all, err := rtnl.Interfaces()
	if err != nil {
		f.log.Error("connections that a zone forbids go on", "bridge", b.name, "err", err)
		return
	}
	for _, i := range all {
		for _, p := range i.Addresses {
			filter.local[p.Addr()] = true
		}
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if err := deleteFlows(family, filter, sctp); err != nil {
			f.log.Error("connections that a zone forbids go on", "bridge", b.name, "err", err)
		}
	}
}

// zoneFlows matches tracked flows that a zone forbids.
type zoneFlows struct {
	rules           zoneRules
	lan             []rtnl.Neighbourhood
	followed, local map[netip.Addr]bool
	relays          map[relayKey]bool
}

// relayKey is a port that a relay may serve.
type relayKey struct {
	protocol uint8
	port     uint16
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (z *zoneFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	from, _ := netip.AddrFromSlice(flow.Forward.SrcIP)
	to, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	answering, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	from, to, answering = from.Unmap(), to.Unmap(), answering.Unmap()
	inside := z.rules.has(from) && !z.local[from]
	switch {
	case inside && z.rules.has(to):
		return false
	case inside:
		return policy.Restricted(z.rules.zone) && !z.asked(to)
	case z.local[answering] && to.Is6() && z.relays[relayKey{flow.Forward.Protocol, flow.Forward.DstPort}]:
		// through a relay
	case !z.rules.has(answering) || z.local[answering]:
		return false
	}
	switch z.rules.zone.Publish {
	case api.ZoneNone:
		return true
	case api.ZoneHost:
		return !z.local[from]
	case api.ZoneLAN:
		return !z.local[from] && !from.IsLinkLocalUnicast() && !slices.ContainsFunc(z.lan, func(n rtnl.Neighbourhood) bool { return n.Prefix.Contains(from) })
	}
	return false
}

func (z *zoneFlows) asked(to netip.Addr) bool {
	static, _ := policy.Destinations(z.rules.zone)
	return z.followed[to] || slices.ContainsFunc(static, func(p netip.Prefix) bool { return p.Contains(to) })
}
