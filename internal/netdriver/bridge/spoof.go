package bridge

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"

	"muelle/internal/linux/nft"
	"muelle/internal/netdriver"
)

// spoof is the ingress guard: a table of the bridge family, beside the one of the
// firewall, that drops a frame before its bridge sees it, unless it comes from the
// hardware address and the addresses that its container was given. Ports of others
// and of networks without guard are not looked at; the rules never grow.
//
//	set guarded  interface
//	set macs     interface . hardware address
//	set ipv4     interface . hardware address . address
//	set ipv6     interface . hardware address . address, the link-local one of the hardware address too
type spoof struct {
	name, prefix string
	log          *slog.Logger

	mu    sync.Mutex
	up    bool
	t     *spoofTable
	line  *nft.Line // opened with the first use
	ports map[string]guardedPort
	// doomed are ports that are gone; their elements go with a later transaction.
	doomed map[string]guardedPort
}

// guardedPort is the host's end of a container's interface.
type guardedPort struct {
	name      string
	mac       net.HardwareAddr
	addresses []netip.Addr
}

func newSpoof(table, prefix string, log *slog.Logger) *spoof {
	return &spoof{name: table, prefix: prefix, log: log, t: newSpoofTable(table), ports: map[string]guardedPort{}, doomed: map[string]guardedPort{}}
}

// portOf says what the container behind an interface may send as.
func portOf(name string, e netdriver.Endpoint) guardedPort {
	p := guardedPort{name: name, mac: e.MAC}
	for _, a := range e.Addresses {
		p.addresses = append(p.addresses, a.Addr())
	}
	if len(e.MAC) == 6 {
		p.addresses = append(p.addresses, linkLocal(e.MAC))
	}
	return p
}

// linkLocal is the address that an interface gives itself (RFC 4291, appendix A).
func linkLocal(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

type spoofTable struct {
	table                     *nftables.Table
	guarded, macs, ipv4, ipv6 *nftables.Set
}

func newSpoofTable(name string) *spoofTable {
	t := &spoofTable{table: &nftables.Table{Name: name, Family: nftables.TableFamilyBridge}}
	set := func(name string, types ...nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t.table, Name: name, Concatenation: true, KeyType: nftables.MustConcatSetType(types...)}
	}
	t.guarded = &nftables.Set{Table: t.table, Name: "guarded", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	t.macs = set("macs", nftables.TypeIFName, nftables.TypeEtherAddr)
	t.ipv4 = set("ipv4", nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIPAddr)
	t.ipv6 = set("ipv6", nftables.TypeIFName, nftables.TypeEtherAddr, nftables.TypeIP6Addr)
	return t
}

// elements are those of the ports, set by set.
func (t *spoofTable) elements(ports map[string]guardedPort) []nft.Elements {
	lists := []nft.Elements{{Set: t.guarded}, {Set: t.macs}, {Set: t.ipv4}, {Set: t.ipv6}}
	add := func(i int, key []byte) { lists[i].Keys = append(lists[i].Keys, key) }
	for _, p := range ports {
		name := nft.Name(p.name)
		add(0, name)
		if len(p.mac) != 6 {
			continue
		}
		own := append(append(append(make([]byte, 0, 24), name...), p.mac...), 0, 0)
		add(1, own)
		for _, a := range p.addresses {
			i := 2
			if a.Is6() {
				i = 3
			}
			add(i, append(own[:24:24], a.AsSlice()...))
		}
	}
	return lists
}

// fill adds the whole table to a transaction. mu is held.
func (s *spoof) fill(c *nftables.Conn) error {
	t := newSpoofTable(s.name)
	c.AddTable(t.table)
	for _, set := range []*nftables.Set{t.guarded, t.macs, t.ipv4, t.ipv6} {
		if err := c.AddSet(set, nil); err != nil {
			return err
		}
	}
	t.rules(c, s.prefix)
	for _, list := range t.elements(s.ports) {
		for keys := range slices.Chunk(list.Keys, chunk) {
			elements := make([]nftables.SetElement, len(keys))
			for i, key := range keys {
				elements[i].Key = key
			}
			if err := c.SetAddElements(list.Set, elements); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop takes away the table, if it is there.
func (s *spoof) drop(c *nftables.Conn) {
	t := newSpoofTable(s.name)
	c.AddTable(t.table)
	c.DelTable(t.table)
}

// written tells that the table is in the kernel as fill wrote it, or not any more. mu is held.
func (s *spoof) written(up bool) {
	s.up = up
	clear(s.doomed)
}

// note remembers a port of a running container, until the table is written.
func (s *spoof) note(p guardedPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[p.name] = p
}

// guard looks at a port from now on. A table that somebody flushed is written again
// by the firewall's watch, with this port.
func (s *spoof) guard(p guardedPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[p.name] = p
	delete(s.doomed, p.name)
	if !s.up {
		return nil
	}
	err := s.change(map[string]guardedPort{p.name: p}, (*nft.Line).Add)
	if err != nil && !changedByOthers(err) {
		delete(s.ports, p.name)
		return fmt.Errorf("guard interface %s: %w", p.name, err)
	}
	return nil
}

func (s *spoof) change(ports map[string]guardedPort, how func(*nft.Line, []nft.Elements) error) error {
	if err := s.openLine(); err != nil {
		return err
	}
	return how(s.line, s.t.elements(ports))
}

// apply carries out changes of the firewall's table by the same line.
func (s *spoof) apply(list []nft.Change) error {
	s.mu.Lock()
	err := s.openLine()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.line.Apply(list)
}

// openLine opens the line if it is not. mu is held.
func (s *spoof) openLine() (err error) {
	if s.line == nil {
		s.line, err = nft.OpenLine()
	}
	return err
}

// sender is the port of the line, of whose changes the watch needs no news.
func (s *spoof) sender() (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.openLine(); err != nil {
		return 0, err
	}
	return s.line.Port(), nil
}

// gather is how long elements of ports that are gone wait for others: they harm
// nobody, for no other interface will have the name.
const gather = 2 * time.Second

// forget takes a port out, some time after its interface is gone.
func (s *spoof) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.ports[name]
	if !ok {
		return
	}
	delete(s.ports, name)
	if !s.up {
		return
	}
	s.doomed[name] = p
	if len(s.doomed) == 1 {
		time.AfterFunc(gather, func() { s.bury() })
	}
}

func (s *spoof) bury() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up || len(s.doomed) == 0 {
		return
	}
	// One that is not there fails the transaction: then the watch writes the table again.
	if err := s.change(s.doomed, (*nft.Line).Delete); err != nil && !changedByOthers(err) {
		s.log.Error("interfaces stay in the ingress guard's sets", "table", s.name, "err", err)
	}
	clear(s.doomed)
}

// close ends background work; the table stays.
func (s *spoof) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.doomed)
	if s.line != nil {
		s.line.Close()
	}
}
