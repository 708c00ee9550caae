package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"muelle/internal/linux/nft"
)

// Rules reads our table out of the kernel: its name, all rules as "chain: rule", and
// those elements of its sets and maps that name one of the bridges or addresses, as
// "set: element". Everything is empty while no network is up.
func (d *Driver) Rules(bridges []string, addresses []netip.Addr) (table string, rules, elements []string, err error) {
	d.fw.mu.Lock()
	defer d.fw.mu.Unlock()
	if !d.fw.up {
		return "", nil, nil, nil
	}
	c, err := nft.New()
	if err != nil {
		return "", nil, nil, fmt.Errorf("read nftables: %w", err)
	}
	if rules, err = nft.TableText(c, d.fw.name, nftables.TableFamilyINet); err != nil {
		return "", nil, nil, err
	}
	wanted := wanted{bridges: bridges}
	for _, a := range addresses {
		wanted.addresses = append(wanted.addresses, string(a.AsSlice()))
	}
	for _, s := range d.fw.t.shapes() {
		list, err := c.GetSetElements(s.set)
		if err != nil {
			return "", nil, nil, fmt.Errorf("read elements of %s: %w", s.set.Name, err)
		}
		for _, e := range list {
			if wanted.has(e, s) {
				elements = append(elements, s.set.Name+": "+nft.Element(e, s.key, s.val))
			}
		}
	}
	slices.Sort(elements)
	return d.fw.name, rules, elements, nil
}

// shape says what the bytes of a set's elements are.
type shape struct {
	set      *nftables.Set
	key, val []string
}

func (t *table) shapes() []shape {
	name, target, target6 := []string{"name"}, []string{"address", "port"}, []string{"address6", "port"}
	return append([]shape{
		{t.bridges, name, nil}, {t.internal, name, nil}, {t.separate, name, nil}, {t.masquerading, name, nil},
		{t.same, []string{"name", "name"}, nil},
		{t.ports, []string{"protocol", "port"}, target},
		{t.addressPorts, []string{"address", "protocol", "port"}, target},
		{t.self, []string{"address", "address"}, nil},
		{t.ports6, []string{"protocol", "port"}, target6},
		{t.addressPorts6, []string{"address6", "protocol", "port"}, target6},
		{t.self6, []string{"address6", "address6"}, nil},
	}, t.zones.shapes()...)
}

type wanted struct {
	bridges   []string
	addresses []string
}

// has tells whether an element is one of the bridges', or leads to one of the
// addresses.
func (w wanted) has(e nftables.SetElement, s shape) bool {
	if s.key[0] == "name" {
		return slices.ContainsFunc(w.bridges, func(b string) bool {
			return len(e.Key) >= 16 && string(e.Key[:16]) == string(nft.Name(b))
		})
	}
	data := e.Val
	if s.val == nil {
		data = e.Key
	}
	size := net.IPv4len
	if s.key[0] == "address6" || s.val != nil && s.val[0] == "address6" {
		size = net.IPv6len
	}
	return len(data) >= size && slices.Contains(w.addresses, string(data[:size]))
}
