package bridge

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

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

// eachPort calls f with the elements of the mappings, map by map, in portions.
func (t *table) eachPort(ports []netdriver.Mapping, f func(*nftables.Set, []nftables.SetElement) error) error {
	var all, single []nftables.SetElement
	for _, p := range ports {
		e := nftables.SetElement{Key: elementKey(p), Val: elementTarget(p.Targets[0])}
		if p.Host.Addr().IsUnspecified() {
			all = append(all, e)
		} else {
			single = append(single, e)
		}
	}
	for _, m := range []struct {
		set      *nftables.Set
		elements []nftables.SetElement
	}{{t.ports, all}, {t.addressPorts, single}} {
		for part := range slices.Chunk(m.elements, chunk) {
			if err := f(m.set, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachTarget calls f with the containers that the mappings lead to.
func (t *table) eachTarget(ports []netdriver.Mapping, f func(*nftables.Set, []nftables.SetElement) error) error {
	seen := map[netip.Addr]bool{}
	var elements []nftables.SetElement
	for _, p := range ports {
		for _, t := range p.Targets {
			if a := t.Addr(); !seen[a] {
				seen[a] = true
				elements = append(elements, nftables.SetElement{Key: append(a.AsSlice(), a.AsSlice()...)})
			}
		}
	}
	for part := range slices.Chunk(elements, chunk) {
		if err := f(t.self, part); err != nil {
			return err
		}
	}
	return nil
}

func elementKey(m netdriver.Mapping) []byte {
	var key []byte
	if !m.Host.Addr().IsUnspecified() {
		key = append(key, m.Host.Addr().AsSlice()...)
	}
	key = append(key, protocolNumber(m.Protocol), 0, 0, 0)
	key = binary.BigEndian.AppendUint16(key, m.Host.Port())
	return append(key, 0, 0)
}

func protocolNumber(name string) byte {
	switch name {
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return unix.IPPROTO_TCP
}

func elementTarget(t netip.AddrPort) []byte {
	return append(binary.BigEndian.AppendUint16(t.Addr().AsSlice(), t.Port()), 0, 0)
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
	var replaced []netdriver.Mapping
	for _, p := range ports {
		if old, ok := f.doomed[keyOf(p)]; ok {
			replaced = append(replaced, old)
		}
	}
	ended := f.ended(replaced, ports)
	err := f.transaction(func(c *nftables.Conn) error {
		if err := errors.Join(f.t.eachPort(replaced, c.SetDeleteElements), f.t.eachTarget(ended, c.SetDeleteElements)); err != nil {
			return err
		}
		return errors.Join(f.t.eachPort(ports, c.SetAddElements), f.t.eachTarget(ports, c.SetAddElements))
	})
	if changedByOthers(err) {
		f.remember(ports)
		if err = f.replace(); err != nil {
			for _, p := range ports {
				delete(f.ports, keyOf(p))
			}
		}
	}
	if err != nil {
		return err
	}
	f.remember(ports)
	forgetFlows(append(replaced, ports...))
	return nil
}

// ended are those of the removed mappings whose containers have none left, nor any
// that is still to be deleted, nor one among those to be added.
func (f *firewall) ended(removed, added []netdriver.Mapping) []netdriver.Mapping {
	going := map[portKey]bool{}
	for _, p := range removed {
		going[keyOf(p)] = true
	}
	alive := map[netip.Addr]bool{}
	live := func(p netdriver.Mapping) {
		for _, t := range p.Targets {
			alive[t.Addr()] = true
		}
	}
	for _, p := range added {
		live(p)
	}
	for _, p := range f.ports {
		live(p)
	}
	for key, p := range f.doomed {
		if !going[key] {
			live(p)
		}
	}
	removed = slices.Clone(removed)
	for i, p := range removed {
		removed[i].Targets = slices.DeleteFunc(slices.Clone(p.Targets), func(t netip.AddrPort) bool { return alive[t.Addr()] })
	}
	return removed
}

func (f *firewall) remember(ports []netdriver.Mapping) {
	for _, p := range ports {
		f.ports[keyOf(p)] = p
		delete(f.doomed, keyOf(p))
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
	for _, p := range ports {
		if f.ports[keyOf(p)].Equal(p) {
			delete(f.ports, keyOf(p))
			f.doomed[keyOf(p)] = p
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
	ended := f.ended(ports, nil)
	err := f.transaction(func(c *nftables.Conn) error {
		return errors.Join(f.t.eachPort(ports, c.SetDeleteElements), f.t.eachTarget(ended, c.SetDeleteElements))
	})
	if changedByOthers(err) {
		err = f.replace()
	}
	if err != nil {
		f.log.Error("published ports stay behind", "table", f.name, "err", err)
		return
	}
	forgetFlows(ports)
}

// forgetFlows makes UDP clients that go on sending follow a changed mapping: their
// flow is still tracked with the old one. TCP notices by itself.
func forgetFlows(ports []netdriver.Mapping) {
	filter := udpFlows{ports: map[uint16]bool{}, targets: map[netip.Addr]bool{}, local: map[netip.Addr]bool{}}
	for _, p := range ports {
		if p.Protocol == "udp" {
			filter.ports[p.Host.Port()] = true
			for _, t := range p.Targets {
				filter.targets[t.Addr()] = true
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
	_, _ = netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
}

// udpFlows matches flows to the ports that were translated to the targets, or not
// translated at all although they are for this host.
type udpFlows struct {
	ports          map[uint16]bool
	targets, local map[netip.Addr]bool
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (u udpFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP || !u.ports[flow.Forward.DstPort] {
		return false
	}
	asked, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	answering, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	asked, answering = asked.Unmap(), answering.Unmap()
	return u.targets[answering] || u.local[asked] && asked == answering
}
