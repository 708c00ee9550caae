package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/linux/nft"
	"muelle/internal/linux/rtnl"
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

// keepNames forgets addresses whose names a zone no longer lists.
func (f *firewall) keepNames(b bridgeRules) {
	_, asked := policy.Destinations(b.zone.zone)
	kept := map[netip.Addr]following{}
	for a, n := range f.names[b.name] {
		if slices.ContainsFunc(asked, func(e string) bool { return policy.Names(e, n.name) }) {
			kept[a] = n
		}
	}
	f.names[b.name] = kept
}

// Bounds of how long a name's address stays open without being asked for again.
// Programs keep what they looked up for longer than they were told.
const (
	shortestFollow = 2 * time.Minute
	longestFollow  = 24 * time.Hour
)

// Admit lets the containers of a network send to what a name of its zone's list
// stands for, for as long as the answer may be kept.
func (d *Driver) Admit(bridge, name string, addrs []netip.Addr, ttl time.Duration) error {
	ttl = min(max(ttl, shortestFollow), longestFollow)
	f := d.fw
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[bridge] == nil {
		f.names[bridge] = map[netip.Addr]following{}
	}
	known, now := f.names[bridge], time.Now()
	var fresh []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		// What is known for long enough needs no transaction.
		if k, ok := known[a]; ok && k.name == name && k.until.Sub(now) > ttl/2 {
			continue
		}
		if k := known[a]; k.until.Before(now.Add(ttl)) {
			known[a] = following{name, now.Add(ttl)}
			fresh = append(fresh, a)
		}
	}
	for a, k := range known {
		if k.until.Before(now) {
			delete(known, a)
		}
	}
	if len(fresh) == 0 || f.recovering || !f.up {
		return nil
	}
	if f.t.zones == nil {
		return fmt.Errorf("follow %s: network %s has no zone", name, bridge)
	}
	err := f.transaction(func(c *nftables.Conn) error { return f.t.zones.follow(c, bridge, fresh, ttl) })
	if changedByOthers(err) {
		err = f.replace()
	}
	if err != nil {
		return fmt.Errorf("follow %s: %w", name, err)
	}
	return nil
}

// follow adds addresses, those that are there too: deleting what was added a moment
// before never fails, and adding after it begins the time anew, which adding alone
// does on kernels from 6.12 on only.
func (z *zoneTable) follow(c *nftables.Conn, bridge string, addrs []netip.Addr, ttl time.Duration) error {
	for i := range 2 {
		var elements []nftables.SetElement
		for _, a := range addrs {
			if a.Is6() == (i == 1) {
				elements = append(elements, nftables.SetElement{Key: slices.Concat(nft.Name(bridge), a.AsSlice()), Timeout: ttl})
			}
		}
		for part := range slices.Chunk(elements, chunk) {
			for _, do := range []func(*nftables.Set, []nftables.SetElement) error{c.SetAddElements, c.SetDeleteElements, c.SetAddElements} {
				if err := do(z.following[i], part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// writeNames adds what is left of the followed addresses to a new table.
func (f *firewall) writeNames(c *nftables.Conn, z *zoneTable) error {
	now := time.Now()
	for bridge, known := range f.names {
		if !policy.Restricted(f.bridges[bridge].zone.zone) {
			continue
		}
		for a, k := range known {
			if left := k.until.Sub(now); left > time.Second {
				i := 0
				if a.Is6() {
					i = 1
				}
				element := nftables.SetElement{Key: slices.Concat(nft.Name(bridge), a.AsSlice()), Timeout: left}
				if err := c.SetAddElements(z.following[i], []nftables.SetElement{element}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// recallNames reads the followed addresses of a former daemon's table. Which name each
// stands for is not in the kernel: they stay open until their time is over.
func (f *firewall) recallNames() {
	c, err := nft.New()
	if err != nil {
		return
	}
	z := newZoneTable(&nftables.Table{Name: f.name, Family: nftables.TableFamilyINet})
	for _, set := range z.following {
		elements, err := c.GetSetElements(set)
		if err != nil {
			return // no zones then
		}
		for _, e := range elements {
			a, ok := netip.AddrFromSlice(e.Key[min(len(e.Key), unix.IFNAMSIZ):])
			if !ok || e.Expires <= 0 {
				continue
			}
			bridge := strings.TrimRight(string(e.Key[:unix.IFNAMSIZ]), "\x00")
			if f.names[bridge] == nil {
				f.names[bridge] = map[netip.Addr]following{}
			}
			f.names[bridge][a] = following{until: time.Now().Add(e.Expires)}
		}
	}
}

// refreshLAN looks again what is on the host's links; true where that changed.
func (f *firewall) refreshLAN() (bool, error) {
	list, err := rtnl.OnLink(func(name string) bool { return !hasOurPrefix(name) && f.bridges[name].name == "" })
	if err != nil {
		return false, err
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
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
			filter.relays[relayKey{protocolNumber(p.Protocol), p.Host.Port()}] = true
		}
	}
	f.mu.Unlock()
	if !b.zone.zoned() {
		return
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
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter); err != nil {
			f.log.Error("connections that a zone forbids go on", "bridge", b.name, "err", err)
		}
	}
}

// zoneFlows matches tracked flows that a zone forbids.
type zoneFlows struct {
	rules           zoneRules
	lan             []netip.Prefix
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
		return !z.local[from] && !from.IsLinkLocalUnicast() && !slices.ContainsFunc(z.lan, func(p netip.Prefix) bool { return p.Contains(from) })
	}
	return false
}

func (z *zoneFlows) asked(to netip.Addr) bool {
	static, _ := policy.Destinations(z.rules.zone)
	return z.followed[to] || slices.ContainsFunc(static, func(p netip.Prefix) bool { return p.Contains(to) })
}
