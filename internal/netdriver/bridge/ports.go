package bridge

import (
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
	"muelle/internal/linux/ruleset"
	"muelle/internal/netdriver"
)

// portKey identifies an element of one of the maps.
type portKey struct {
	protocol string
	host     netip.AddrPort
}

func keyOf(m netdriver.Mapping) portKey { return portKey{m.Protocol, m.Host} }

// chunk is how many elements fit a netlink attribute of 64 KiB, with room to spare.
const chunk = 400

// portElements are those of the mappings that have one target, map by map. What is
// relayed only is not translated.
func (t *table) portElements(ports []netdriver.Mapping) (lists []nft.Elements) {
	room := make([]byte, 0, elementSize*len(ports))
	for _, p := range ports {
		if len(p.Targets) != 1 || relayed(p) {
			continue
		}
		set := t.mapOf(p.Host.Addr())
		i := slices.IndexFunc(lists, func(e nft.Elements) bool { return e.Set == set })
		if i < 0 {
			i = len(lists)
			lists = append(lists, nft.Elements{Set: set, Keys: make([][]byte, 0, len(ports)), Values: make([][]byte, 0, len(ports))})
		}
		key := appendKey(room, p)
		value := appendTarget(key, p.Targets[0])
		lists[i].Keys = append(lists[i].Keys, key[len(room):len(key):len(key)])
		lists[i].Values = append(lists[i].Values, value[len(key):len(value):len(value)])
		room = value
	}
	return lists
}

// elementSize is that of the key and the value of a port on all addresses of IPv4.
const elementSize = 8 + 8

// eachPort calls f with the same, in portions.
func (t *table) eachPort(ports []netdriver.Mapping, f func(*nftables.Set, []nftables.SetElement) error) error {
	elements := map[*nftables.Set][]nftables.SetElement{}
	for _, list := range t.portElements(ports) {
		for i, key := range list.Keys {
			elements[list.Set] = append(elements[list.Set], nftables.SetElement{Key: key, Val: list.Values[i]})
		}
	}
	return inPortions(elements, f)
}

// mapOf is the map in which ports of an address of the host are.
func (t *table) mapOf(host netip.Addr) *nftables.Set {
	switch {
	case host.Is4() && host.IsUnspecified():
		return t.ports
	case host.Is4():
		return t.addressPorts
	case host.IsUnspecified():
		return t.ports6
	}
	return t.addressPorts6
}

func inPortions(elements map[*nftables.Set][]nftables.SetElement, f func(*nftables.Set, []nftables.SetElement) error) error {
	for set, list := range elements {
		for part := range slices.Chunk(list, chunk) {
			if err := f(set, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachTarget calls f with the containers that the mappings lead to.
func (t *table) eachTarget(ports []netdriver.Mapping, f func(*nftables.Set, []nftables.SetElement) error) error {
	seen := map[netip.Addr]bool{}
	elements := map[*nftables.Set][]nftables.SetElement{}
	var last netip.Addr // mostly all lead to one
	for _, p := range ports {
		for _, target := range p.Targets {
			a := target.Addr()
			if a == last || seen[a] {
				continue
			}
			last, seen[a] = a, true
			set := t.self
			if a.Is6() {
				set = t.self6
			}
			elements[set] = append(elements[set], nftables.SetElement{Key: append(a.AsSlice(), a.AsSlice()...)})
		}
	}
	return inPortions(elements, f)
}

func elementKey(m netdriver.Mapping) []byte { return appendKey(make([]byte, 0, 24), m) }

func appendKey(b []byte, m netdriver.Mapping) []byte {
	if !m.Host.Addr().IsUnspecified() {
		b = appendAddr(b, m.Host.Addr())
	}
	b = append(b, ruleset.Protocol(m.Protocol), 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.Host.Port())
	return append(b, 0, 0)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		four := a.As4()
		return append(b, four[:]...)
	}
	sixteen := a.As16()
	return append(b, sixteen[:]...)
}

func appendTarget(b []byte, t netip.AddrPort) []byte {
	return append(binary.BigEndian.AppendUint16(appendAddr(b, t.Addr()), t.Port()), 0, 0)
}

func (f *firewall) publish(ports []netdriver.Mapping) error {
	if len(ports) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.recovering {
		f.remember(ports)
		return nil
	}
	if !f.up {
		return errors.New("no network is up")
	}
	changed := make([]netdriver.Mapping, 0, len(ports))
	var replaced []netdriver.Mapping
	fresh := map[portKey]bool{} // of the flows that forgetFlows looks at
	for _, p := range ports {
		key := keyOf(p)
		old, published := f.ports[key]
		if published && old.Equal(p) {
			continue
		}
		changed = append(changed, p)
		if !published {
			if p.Protocol == "udp" {
				fresh[key] = true
			}
			old, published = f.doomed[key]
		}
		if published {
			replaced = append(replaced, old)
		}
	}
	ports = changed
	before := f.take(ports)
	err := f.writePorts(replaced, ports)
	if changedByOthers(err) || err == nil && f.t.forwards6 != forwards6() {
		err = f.replace()
	}
	if err != nil {
		f.putBack(before)
		return err
	}
	forgetFlows(replaced, ports, fresh)
	return nil
}

// writePorts is change in a transaction. Where only elements come and go, which is so
// unless replicas share a port or a network has a zone, it goes by the line that is open
// anyway: a third of the time for a thousand ports.
func (f *firewall) writePorts(removed, added []netdriver.Mapping) error {
	chained := func(p netdriver.Mapping) bool {
		return shared(p) || len(f.t.chains) > 0 && f.t.chains[shareKey{p.Protocol, p.Host.Port()}] != nil
	}
	if f.t.zones == nil && f.t.relays == nil && !slices.ContainsFunc(removed, chained) && !slices.ContainsFunc(added, chained) {
		var list []nft.Change
		collect := func(remove bool) func(*nftables.Set, []nftables.SetElement) error {
			return func(set *nftables.Set, elements []nftables.SetElement) error {
				c := nft.Change{Elements: nft.Elements{Set: set, Keys: make([][]byte, len(elements))}, Delete: remove}
				for i, e := range elements {
					c.Keys[i] = e.Key
				}
				list = append(list, c)
				return nil
			}
		}
		for _, e := range f.t.portElements(removed) {
			list = append(list, nft.Change{Elements: e, Delete: true})
		}
		err := f.t.eachTarget(f.ended(removed), collect(true))
		for _, e := range f.t.portElements(added) {
			list = append(list, nft.Change{Elements: e})
		}
		err = errors.Join(err, f.t.eachTarget(added, collect(false)))
		if err == nil {
			err = f.spoof.apply(list)
		}
		if !errors.Is(err, unix.EBADF) { // the line is closed while the daemon ends
			return err
		}
	}
	return f.transaction(func(c *nftables.Conn) error { return f.change(c, removed, added) })
}

// change writes what became of the maps, f.ports and f.doomed being what shall be.
func (f *firewall) change(c *nftables.Conn, removed, added []netdriver.Mapping) error {
	return errors.Join(
		f.t.eachPort(removed, c.SetDeleteElements), f.t.eachTarget(f.ended(removed), c.SetDeleteElements),
		f.t.eachPort(added, c.SetAddElements), f.t.eachTarget(added, c.SetAddElements),
		f.t.share(c, f.ports, append(slices.Clone(removed), added...)),
		f.changeAdmitted(c, removed, added), f.changeRelays(c, removed, added))
}

// ended are those of the removed mappings with the targets only that have no port
// left, nor any that is still to be deleted.
func (f *firewall) ended(removed []netdriver.Mapping) []netdriver.Mapping {
	if len(removed) == 0 {
		return nil
	}
	alive := map[netip.Addr]bool{}
	for _, list := range []map[portKey]netdriver.Mapping{f.ports, f.doomed} {
		for _, p := range list {
			for _, t := range p.Targets {
				alive[t.Addr()] = true
			}
		}
	}
	if len(alive) == 0 {
		return removed
	}
	living := func(t netip.AddrPort) bool { return alive[t.Addr()] }
	dead := make([]netdriver.Mapping, 0, len(removed))
	for _, p := range removed {
		if slices.ContainsFunc(p.Targets, living) {
			p.Targets = slices.DeleteFunc(slices.Clone(p.Targets), living)
		}
		if len(p.Targets) > 0 {
			dead = append(dead, p)
		}
	}
	return dead
}

// memory is what was known of ports before a change: most were not known at all.
type memory struct {
	changed       []netdriver.Mapping
	ports, doomed map[portKey]netdriver.Mapping
	chains        map[shareKey][]string
}

// take remembers the ports as published, and gives what putBack needs.
func (f *firewall) take(ports []netdriver.Mapping) memory {
	before := memory{ports, map[portKey]netdriver.Mapping{}, map[portKey]netdriver.Mapping{}, maps.Clone(f.t.chains)}
	for _, p := range ports {
		key := keyOf(p)
		if old, ok := f.ports[key]; ok {
			before.ports[key] = old
		}
		if old, ok := f.doomed[key]; ok {
			before.doomed[key] = old
		}
	}
	f.remember(ports)
	return before
}

func (f *firewall) putBack(before memory) {
	for _, p := range before.changed {
		delete(f.ports, keyOf(p))
	}
	maps.Copy(f.ports, before.ports)
	maps.Copy(f.doomed, before.doomed)
	f.t.chains = before.chains
}

func (f *firewall) remember(ports []netdriver.Mapping) {
	for _, p := range ports {
		key := keyOf(p)
		f.ports[key] = p
		delete(f.doomed, key)
	}
}

// unpublish deletes the elements in the background, together with those of other
// containers that end at the same time.
func (f *firewall) unpublish(ports []netdriver.Mapping) {
	if len(ports) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	first := len(f.doomed) == 0
	if first {
		f.doomed = make(map[portKey]netdriver.Mapping, len(ports))
	}
	for _, p := range ports {
		key := keyOf(p)
		if old, ok := f.ports[key]; ok && old.Equal(p) {
			delete(f.ports, key)
			f.doomed[key] = p
		}
	}
	if first && len(f.doomed) > 0 && !f.recovering {
		f.wg.Go(func() {
			time.Sleep(5 * time.Millisecond) // to gather what ends together
			f.bury()
		})
	}
}

func (f *firewall) bury() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up || len(f.doomed) == 0 {
		return
	}
	ports := make([]netdriver.Mapping, 0, len(f.doomed))
	for _, p := range f.doomed {
		ports = append(ports, p)
	}
	clear(f.doomed)
	err := f.writePorts(ports, nil)
	if changedByOthers(err) {
		err = f.replace()
	}
	if err != nil {
		f.log.Error("published ports stay behind", "table", f.name, "err", err)
		return
	}
	forgetFlows(ports, nil, nil)
}

// forgetFlows makes UDP clients that go on sending follow a changed mapping: their
// flow is still tracked with the old one, or, where the port is fresh, with none. Flows
// to targets that stay are left alone. TCP notices by itself.
func forgetFlows(removed, added []netdriver.Mapping, fresh map[portKey]bool) {
	filter := udpFlows{ports: map[uint16]bool{}, targets: map[netip.AddrPort]bool{}, local: map[netip.Addr]bool{}, fresh: map[uint16]bool{}}
	for _, p := range removed {
		if p.Protocol == "udp" {
			filter.ports[p.Host.Port()] = true
			for _, t := range p.Targets {
				filter.targets[t] = true
			}
		}
	}
	for _, p := range added {
		if p.Protocol == "udp" {
			filter.ports[p.Host.Port()] = true
			filter.fresh[p.Host.Port()] = filter.fresh[p.Host.Port()] || fresh[keyOf(p)]
			for _, t := range p.Targets {
				if fresh[keyOf(p)] {
					filter.targets[t] = true
				} else {
					delete(filter.targets, t)
				}
			}
		}
	}
	if len(filter.ports) == 0 {
		return
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return // a flow that stays ends by its own timeout
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			filter.local[p.Addr()] = true
		}
	}
	forget(append(slices.Clone(removed), added...), filter)
}

// forget deletes tracked flows of the families of the ports. A flow that stays ends by
// its own timeout.
func forget(ports []netdriver.Mapping, filter netlink.CustomConntrackFilter) {
	sctp := slices.ContainsFunc(ports, func(p netdriver.Mapping) bool { return p.Protocol == "sctp" })
	for family, is := range map[netlink.InetFamily]func(netip.Addr) bool{unix.AF_INET: netip.Addr.Is4, unix.AF_INET6: netip.Addr.Is6} {
		if slices.ContainsFunc(ports, func(p netdriver.Mapping) bool { return is(p.Host.Addr()) }) {
			_ = deleteFlows(family, filter, sctp)
		}
	}
}

// udpFlows matches flows to the ports that were translated to the targets, or, to
// fresh ones, not translated at all although they are for this host.
type udpFlows struct {
	ports, fresh map[uint16]bool
	targets      map[netip.AddrPort]bool
	local        map[netip.Addr]bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (u udpFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP || !u.ports[flow.Forward.DstPort] {
		return false
	}
	asked, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	answering, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	asked, answering = asked.Unmap(), answering.Unmap()
	return u.targets[netip.AddrPortFrom(answering, flow.Reverse.SrcPort)] ||
		u.fresh[flow.Forward.DstPort] && u.local[asked] && asked == answering
}
