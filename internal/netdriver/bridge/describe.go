package bridge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
)

// Description is what our tables in the kernel say of somebody.
type Description struct {
	// Table is their name; empty while no network is up.
	Table string
	// Rules and Frames are all rules, as "chain: rule", of the table of the family inet and
	// of that of the family bridge, which sees the frames before.
	Rules, Frames []string
	// Elements are those of sets and maps that name one of the interfaces or addresses, as
	// "set: element".
	Elements []string
}

// Rules reads our tables out of the kernel: all rules, and what the sets say of the
// interfaces and addresses.
func (d *Driver) Rules(interfaces []string, addresses []netip.Addr) (*Description, error) {
	d.fw.mu.Lock()
	defer d.fw.mu.Unlock()
	out := &Description{}
	if !d.fw.up {
		return out, nil
	}
	c, err := nft.New()
	if err != nil {
		return nil, fmt.Errorf("read nftables: %w", err)
	}
	out.Table = d.fw.name
	w := wanted{interfaces: interfaces, addresses: addresses}
	for _, f := range []struct {
		family nftables.TableFamily
		rules  *[]string
	}{{nftables.TableFamilyINet, &out.Rules}, {nftables.TableFamilyBridge, &out.Frames}} {
		if *f.rules, err = nft.TableText(c, d.fw.name, f.family); err != nil {
			return nil, err
		}
		elements, err := w.of(c, &nftables.Table{Name: d.fw.name, Family: f.family})
		if err != nil {
			return nil, err
		}
		out.Elements = append(out.Elements, elements...)
	}
	slices.Sort(out.Elements)
	return out, nil
}

// wanted is whom elements are looked for of.
type wanted struct {
	interfaces []string
	addresses  []netip.Addr
}

// of gives the elements of a table's sets; there may be no such table.
func (w wanted) of(c *nftables.Conn, t *nftables.Table) (elements []string, err error) {
	tables, err := c.ListTablesOfFamily(t.Family)
	if err != nil || !slices.ContainsFunc(tables, func(o *nftables.Table) bool { return o.Name == t.Name }) {
		return nil, err
	}
	sets, err := c.GetSets(t)
	if err != nil {
		return nil, fmt.Errorf("list nftables sets: %w", err)
	}
	for _, s := range sets {
		key, val := parts(s.KeyType), parts(s.DataType)
		if key == nil || s.Anonymous {
			continue
		}
		list, err := nft.SetElements(c, s)
		if err != nil {
			return nil, fmt.Errorf("read elements of %s: %w", s.Name, err)
		}
		for _, e := range list {
			if !e.IntervalEnd && (w.has(e.Key, key) || w.has(e.Val, val)) {
				elements = append(elements, s.Name+": "+nft.Element(e, key, val))
			}
		}
	}
	return elements, nil
}

// kinds are the parts of keys and values, as nft.Element names them.
var kinds = map[string]string{
	nftables.TypeIFName.Name: "name", nftables.TypeIPAddr.Name: "address", nftables.TypeIP6Addr.Name: "address6", nftables.TypeEtherAddr.Name: "mac",
	nftables.TypeInetProto.Name: "protocol", nftables.TypeInetService.Name: "port",
}

// parts splits a type; nil: it is of another kind, as a verdict.
func parts(t nftables.SetDatatype) (list []string) {
	for name := range strings.SplitSeq(t.Name, " . ") {
		kind, ok := kinds[name]
		if !ok {
			return nil
		}
		list = append(list, kind)
	}
	return list
}

// has tells whether a part of the data is an interface or address that is looked for.
func (w wanted) has(data []byte, kinds []string) bool {
	for _, kind := range kinds {
		size := nft.Size(kind)
		if len(data) < size {
			return false
		}
		part := data[:size]
		switch kind {
		case "name":
			if slices.Contains(w.interfaces, unix.ByteSliceToString(part)) {
				return true
			}
		case "address", "address6":
			if a, ok := netip.AddrFromSlice(part); ok && slices.Contains(w.addresses, a) {
				return true
			}
		}
		data = data[min(len(data), (size+3)/4*4):]
	}
	return false
}
