package bridge

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"muelle/internal/linux/nft"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tableID names a table of nftables.
type tableID struct {
	family byte
	name   string
}

// written is what is in tables: made of the messages that write them, or of the
// kernel's answers, which have the same form.
type written map[tableID]*writtenTable

type writtenTable struct {
	// chains are the rules of each, in order, and before them what hook it has.
	chains map[string][]string
	// sets have the elements of each, and what they are mapped to.
	sets map[string]map[string]string
}

// errRecorded ends a transaction that is only looked at.
var errRecorded = unix.ECANCELED

// record gives what a transaction would leave, without doing it.
func record(fill func(*nftables.Conn) error) (written, error) {
	w := written{}
	c, err := nftables.New(nftables.WithTestDial(func(list []netlink.Message) ([]netlink.Message, error) {
		for _, m := range list {
			w.add(m)
		}
		return nil, errRecorded
	}))
	if err != nil {
		return nil, err
	}
	if err := fill(c); err != nil {
		return nil, err
	}
	if err := c.Flush(); err != nil && !errors.Is(err, errRecorded) {
		return nil, err
	}
	return w, nil
}

// readTables gives what the kernel has in the tables of want; one that is not there is left out.
func readTables(want written) (written, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	have := written{}
	ask := func(kind uint16, family byte, attrs ...[]byte) error {
		list, err := conn.Execute(nft.Message(kind, netlink.Dump, family, bytes.Join(attrs, nil)))
		for _, m := range list {
			if want[idOf(m)] != nil {
				have.add(m)
			}
		}
		return err
	}
	if err := ask(unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC); err != nil {
		return nil, err
	}
	for id := range have {
		for _, kind := range []uint16{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETSET} {
			if err := ask(kind, id.family); err != nil {
				return nil, err
			}
		}
		if err := ask(unix.NFT_MSG_GETRULE, id.family, nft.TextAttribute(unix.NFTA_RULE_TABLE, id.name)); err != nil {
			return nil, err
		}
		for set := range have[id].sets {
			list, err := nft.ListElements(conn, id.family, id.name, set)
			if err != nil {
				return nil, err
			}
			for _, m := range list {
				have.add(m)
			}
		}
	}
	return have, nil
}

// generation is the number of the last transaction of the network namespace.
func generation() (uint32, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return nft.Generation(conn)
}

// idOf: the table's name is the first attribute of all messages.
func idOf(m netlink.Message) tableID {
	if len(m.Data) < 4 {
		return tableID{}
	}
	return tableID{m.Data[0], cString(nft.Body(m)[1])}
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

func (w written) add(m netlink.Message) {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < 4 {
		return
	}
	id, a := idOf(m), nft.Body(m)
	t := w[id]
	if t == nil {
		t = &writtenTable{map[string][]string{}, map[string]map[string]string{}}
	}
	switch uint16(m.Header.Type & 0xff) {
	case unix.NFT_MSG_NEWTABLE:
		w[id] = t
	case unix.NFT_MSG_DELTABLE:
		delete(w, id)
	case unix.NFT_MSG_NEWCHAIN:
		w[id] = t
		t.chains[cString(a[unix.NFTA_CHAIN_NAME])] = []string{hookText(a)}
	case unix.NFT_MSG_NEWRULE:
		name := cString(a[unix.NFTA_RULE_CHAIN])
		if t.chains[name] != nil {
			t.chains[name] = append(t.chains[name], ruleText(a[unix.NFTA_RULE_EXPRESSIONS]))
		}
	case unix.NFT_MSG_NEWSET:
		w[id] = t
		t.sets[cString(a[unix.NFTA_SET_NAME])] = map[string]string{}
	case unix.NFT_MSG_NEWSETELEM:
		set := t.sets[cString(a[unix.NFTA_SET_ELEM_LIST_SET])]
		if set == nil {
			return
		}
		nft.EachAttribute(a[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, b []byte) {
			e := nft.Attributes(b)
			// The key, a range's end, and whether it ends an interval.
			key := valueText(e[unix.NFTA_SET_ELEM_KEY]) + "-" + valueText(e[elemKeyEnd]) + "-" + hex.EncodeToString(notZero(e[unix.NFTA_SET_ELEM_FLAGS]))
			set[key] = valueText(e[unix.NFTA_SET_ELEM_DATA])
		})
	}
}

// NFTA_SET_ELEM_KEY_END of linux/netfilter/nf_tables.h.
const elemKeyEnd = 10

// valueText writes an attribute of type nft_data: bytes, or a verdict.
func valueText(b []byte) string {
	a := nft.Attributes(b)
	if v := a[unix.NFTA_DATA_VERDICT]; v != nil {
		v := nft.Attributes(v)
		return fmt.Sprintf("%x %s", v[unix.NFTA_VERDICT_CODE], cString(v[unix.NFTA_VERDICT_CHAIN]))
	}
	return hex.EncodeToString(a[unix.NFTA_DATA_VALUE])
}

func notZero(b []byte) []byte {
	if len(bytes.Trim(b, "\x00")) == 0 {
		return nil
	}
	return b
}

func hookText(a map[uint16][]byte) string {
	if a[unix.NFTA_CHAIN_HOOK] == nil {
		return ""
	}
	h := nft.Attributes(a[unix.NFTA_CHAIN_HOOK])
	return fmt.Sprintf("%x %x %x", h[unix.NFTA_HOOK_HOOKNUM], h[unix.NFTA_HOOK_PRIORITY], a[unix.NFTA_CHAIN_POLICY])
}

// passing are expressions' attributes that say what has passed, or that the kernel
// fills in by itself.
var passing = map[string][]uint16{
	"counter": {1, 2},
	"lookup":  {unix.NFTA_LOOKUP_SET_ID},
	"nat":     {4, 6, 7}, // the ends of ranges, flags
	"dynset":  {unix.NFTA_DYNSET_SET_ID},
}

// registers are the attributes that name one: the wide ones of old have two numbers.
var registers = map[string][]uint16{
	"meta": {1, 3}, "cmp": {1}, "lookup": {2, 3}, "bitwise": {1, 2}, "payload": {1, 5}, "ct": {1, 4}, "fib": {1}, "immediate": {1},
	"nat": {3, 5}, "masq": {2, 3}, "redir": {1, 2}, "dynset": {4, 5}, "numgen": {1}, "hash": {1, 2}, "range": {1}, "exthdr": {1, 7}, "byteorder": {1, 2},
}

// datas are the attributes of type nft_data.
var datas = map[string][]uint16{"immediate": {2}, "cmp": {3}, "bitwise": {4, 5, 7}, "range": {3, 4}}

// ruleText writes a rule's expressions so that the kernel's and ours are the same.
func ruleText(exprs []byte) string {
	var text strings.Builder
	nft.EachAttribute(exprs, func(_ uint16, b []byte) {
		e := nft.Attributes(b)
		name, a := cString(e[unix.NFTA_EXPR_NAME]), nft.Attributes(e[unix.NFTA_EXPR_DATA])
		fmt.Fprintf(&text, "%s(", name)
		for _, kind := range slices.Sorted(maps.Keys(a)) {
			value := a[kind]
			if slices.Contains(passing[name], kind) || len(value) <= 4 && notZero(value) == nil {
				continue // an attribute that is zero may be left out
			}
			if slices.Contains(registers[name], kind) && len(value) == 4 {
				if n := binary.BigEndian.Uint32(value); n >= unix.NFT_REG32_00 && n%4 == 0 {
					value = binary.BigEndian.AppendUint32(nil, n/4-1)
				}
			}
			// Sets without a name get one of their table's.
			if name == "lookup" && kind == unix.NFTA_LOOKUP_SET && bytes.HasPrefix(value, []byte("__")) {
				value = value[:5]
			}
			if slices.Contains(datas[name], kind) {
				fmt.Fprintf(&text, "%d:%s ", kind, valueText(value))
				continue
			}
			fmt.Fprintf(&text, "%d:%x ", kind, value)
		}
		text.WriteString(") ")
	})
	return text.String()
}

// missing says what of w is not in have, or otherwise; empty where all is there.
// What have has beside it may be on its way out.
func (w written) missing(have written) string {
	for id, t := range w {
		h := have[id]
		if h == nil {
			return "table " + id.name + " is missing"
		}
		for name, rules := range t.chains {
			switch {
			case h.chains[name] == nil:
				return "chain " + name + " is missing"
			case len(h.chains[name]) < len(rules):
				return "rules of " + name + " are missing"
			case !slices.Equal(h.chains[name], rules):
				return "rules of " + name + " are others"
			}
		}
		for name, elements := range t.sets {
			if strings.HasPrefix(name, "__") {
				continue // of a rule, which cannot lose it
			}
			if h.sets[name] == nil {
				return "set " + name + " is missing"
			}
			for key, value := range elements {
				if got, ok := h.sets[name][key]; !ok || got != value {
					return "elements of " + name + " are missing"
				}
			}
		}
	}
	return ""
}
