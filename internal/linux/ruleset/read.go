package ruleset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"muelle/internal/linux/nft"

	"github.com/containerd/errdefs"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Read copies the rules of the calling thread's network namespace; of nftables those
// tables that want, which may be nil, does not leave out. All of nftables is of one moment;
// errdefs.ErrUnavailable: others change it without a pause.
func Read(want func(f Family, table string) bool) (*Ruleset, error) { return read(want, true) }

// Glance is as Read, but where others change rules without a pause it gives what it saw
// last, of which one table may be older than another, or the middle of a change: for those
// who look again.
func Glance(want func(f Family, table string) bool) (*Ruleset, error) { return read(want, false) }

// tries is how often rules are read that others keep changing: half of them are not told.
// After glances what was read is taken as it is, by who asked for that.
const (
	tries   = 20
	glances = 4
)

func read(want func(f Family, table string) bool, exact bool) (*Ruleset, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("read nftables: %w", err)
	}
	defer conn.Close()
	d := dump{conn, want}
	// Somebody may change the rules meanwhile; then it is read again.
	for try := 1; try <= tries; try++ {
		before, err := nft.Generation(d.conn)
		if err != nil {
			return nil, fmt.Errorf("read nftables: %w", err)
		}
		r, err := d.read()
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINTR) {
			return nil, err
		}
		after, gerr := nft.Generation(d.conn)
		if gerr != nil {
			return nil, fmt.Errorf("read nftables: %w", gerr)
		}
		if after == before || !exact && err == nil && try >= glances {
			return r, err
		}
	}
	return nil, fmt.Errorf("read nftables: somebody changes the rules faster than they can be read (%d times in a row): %w", tries, errdefs.ErrUnavailable)
}

// dump asks the kernel's nftables.
type dump struct {
	conn *netlink.Conn
	want func(Family, string) bool
}

func (d dump) ask(kind uint16, flags netlink.HeaderFlags, family byte, attrs []byte) ([]netlink.Message, error) {
	return d.conn.Execute(nft.Message(kind, flags, family, attrs))
}

var families = map[byte]Family{
	unix.NFPROTO_IPV4: IP, unix.NFPROTO_IPV6: IP6, unix.NFPROTO_INET: Inet,
	unix.NFPROTO_BRIDGE: Bridge, unix.NFPROTO_NETDEV: Netdev,
}

var protocols = map[Family]byte{
	IP: unix.NFPROTO_IPV4, IP6: unix.NFPROTO_IPV6, Inet: unix.NFPROTO_INET, Bridge: unix.NFPROTO_BRIDGE, Netdev: unix.NFPROTO_NETDEV,
}

func familyOf(m netlink.Message) Family {
	if len(m.Data) == 0 {
		return ""
	}
	return families[m.Data[0]]
}

type tableKey struct {
	family Family
	name   string
}

// content is a table while it is read.
type content struct {
	chains map[string]*Chain
	sets   map[string]*set
	// asked are the sets that rules look up.
	asked map[string]bool
}

func (d dump) read() (*Ruleset, error) {
	r := &Ruleset{index: map[string]uint32{}, names: map[uint32]string{}}
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range ifs {
		r.index[i.Name], r.names[uint32(i.Index)] = uint32(i.Index), i.Name
	}
	tables := map[tableKey]*content{}
	if err := d.chains(tables, r); err != nil {
		return nil, err
	}
	// Without chains there is nothing to read of rules and sets.
	if len(tables) > 0 {
		if err := d.rules(tables); err != nil {
			return nil, err
		}
		if err := d.sets(tables); err != nil {
			return nil, err
		}
	}
	if err := r.readLegacy(); err != nil {
		return nil, err
	}
	if err := r.readBelow(); err != nil {
		return nil, err
	}
	r.order()
	for _, c := range r.Chains {
		r.marks = r.marks || slices.ContainsFunc(c.rules, func(one rule) bool { return one.marking() })
	}
	return r, nil
}

func text(b []byte) string { return strings.TrimRight(string(b), "\x00") }

func big32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func (d dump) chains(tables map[tableKey]*content, r *Ruleset) error {
	list, err := d.ask(unix.NFT_MSG_GETCHAIN, netlink.Dump, unix.AF_UNSPEC, nil)
	if err != nil {
		return fmt.Errorf("list nftables chains: %w", err)
	}
	for _, m := range list {
		attrs := nft.Body(m)
		c := &Chain{Family: familyOf(m), Table: text(attrs[unix.NFTA_CHAIN_TABLE]), Name: text(attrs[unix.NFTA_CHAIN_NAME])}
		if c.Family == "" || d.want != nil && !d.want(c.Family, c.Table) {
			continue // arp, for one
		}
		t := tables[tableKey{c.Family, c.Table}]
		if t == nil {
			t = &content{map[string]*Chain{}, map[string]*set{}, map[string]bool{}}
			tables[tableKey{c.Family, c.Table}] = t
		}
		c.byName, c.sets = t.chains, t.sets
		t.chains[c.Name] = c
		r.Chains = append(r.Chains, c)
		if attrs[unix.NFTA_CHAIN_HOOK] != nil {
			c.hook(nft.Attributes(attrs[unix.NFTA_CHAIN_HOOK]))
			c.Type = text(attrs[unix.NFTA_CHAIN_TYPE])
			policy := attrs[unix.NFTA_CHAIN_POLICY]
			c.Drops = len(policy) == 4 && big32(policy) == 0 // NF_DROP
		}
	}
	return nil
}

// From linux/netfilter/nf_tables.h: a list of devices, where there are several.
const hookDevs = 4

func (c *Chain) hook(attrs map[uint16][]byte) {
	c.Base = true
	c.Hook, c.Priority = Hook(big32(attrs[unix.NFTA_HOOK_HOOKNUM])), int32(big32(attrs[unix.NFTA_HOOK_PRIORITY]))
	if c.Family == Netdev {
		c.Hook = Ingress + c.Hook // 0 is ingress, 1 egress
	}
	if d := attrs[unix.NFTA_HOOK_DEV]; d != nil {
		c.Devices = append(c.Devices, text(d))
	}
	nft.EachAttribute(attrs[hookDevs], func(_ uint16, name []byte) {
		if !slices.Contains(c.Devices, text(name)) {
			c.Devices = append(c.Devices, text(name))
		}
	})
}

// rules asks table by table: what is not wanted may be large.
func (d dump) rules(tables map[tableKey]*content) error {
	for key, t := range tables {
		list, err := d.ask(unix.NFT_MSG_GETRULE, netlink.Dump, protocols[key.family], nft.TextAttribute(unix.NFTA_RULE_TABLE, key.name))
		if err != nil {
			return fmt.Errorf("list nftables rules: %w", err)
		}
		for _, m := range list {
			if len(m.Data) >= 4 && familyOf(m) == key.family {
				t.rule(m.Data[4:])
			}
		}
	}
	return nil
}

// rule adds one to its chain.
func (t *content) rule(attrs []byte) {
	var table, chain, exprs []byte
	var r rule
	nft.EachAttribute(attrs, func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_RULE_TABLE:
			table = value
		case unix.NFTA_RULE_CHAIN:
			chain = value
		case unix.NFTA_RULE_HANDLE:
			if len(value) == 8 {
				r.handle = binary.BigEndian.Uint64(value)
			}
		case unix.NFTA_RULE_USERDATA:
			r.comment = comment(value)
		case unix.NFTA_RULE_EXPRESSIONS:
			exprs = value
		}
	})
	c := t.chains[text(chain)]
	if c == nil || c.Table != text(table) {
		return
	}
	nft.EachAttribute(exprs, func(_ uint16, b []byte) { r.exprs = append(r.exprs, expressionOf(b)) })
	for i := range r.exprs {
		switch e := &r.exprs[i]; e.name {
		case "match":
			if r.comment == "" && e.text(unix.NFTA_MATCH_NAME) == "comment" {
				r.comment = cString(e.attr(unix.NFTA_MATCH_INFO))
			}
		case "lookup":
			t.asked[e.text(unix.NFTA_LOOKUP_SET)] = true
		}
	}
	c.rules = append(c.rules, r)
}

// comment reads what nft and iptables-nft keep as a rule's comment.
func comment(data []byte) string {
	for len(data) >= 2 {
		kind, size := userdata.Type(data[0]), int(data[1])
		if len(data) < 2+size {
			return ""
		}
		if kind == userdata.TypeComment {
			return text(data[2 : 2+size])
		}
		data = data[2+size:]
	}
	return ""
}

// sets reads those that rules look up.
func (d dump) sets(tables map[tableKey]*content) error {
	list, err := d.ask(unix.NFT_MSG_GETSET, netlink.Dump, unix.AF_UNSPEC, nil)
	if err != nil {
		return fmt.Errorf("list nftables sets: %w", err)
	}
	for _, m := range list {
		attrs := nft.Body(m)
		t := tables[tableKey{familyOf(m), text(attrs[unix.NFTA_SET_TABLE])}]
		if t == nil || !t.asked[text(attrs[unix.NFTA_SET_NAME])] {
			continue // nobody looks it up
		}
		s := &set{flags: big32(attrs[unix.NFTA_SET_FLAGS]), keyLen: int(big32(attrs[unix.NFTA_SET_KEY_LEN])), dataLen: int(big32(attrs[unix.NFTA_SET_DATA_LEN]))}
		nft.EachAttribute(nft.Attributes(attrs[unix.NFTA_SET_DESC])[setDescConcat], func(_ uint16, field []byte) {
			s.fields = append(s.fields, int(big32(nft.Attributes(field)[setFieldLen])))
		})
		name := attrs[unix.NFTA_SET_NAME]
		t.sets[text(name)] = s
		if err := d.elements(s, m.Data[0], text(attrs[unix.NFTA_SET_TABLE]), text(name)); err != nil {
			return fmt.Errorf("list elements of nftables set %s: %w", text(name), err)
		}
	}
	return nil
}

func (d dump) elements(s *set, family byte, table, name string) error {
	list, err := nft.ListElements(d.conn, family, table, name)
	if err != nil {
		return err
	}
	for _, m := range list {
		nft.EachAttribute(nft.Body(m)[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, b []byte) { s.add(nft.Attributes(b)) })
	}
	s.ranges()
	return nil
}

func (s *set) add(attrs map[uint16][]byte) {
	flags := big32(attrs[unix.NFTA_SET_ELEM_FLAGS])
	e := element{
		key: dataValue(attrs[unix.NFTA_SET_ELEM_KEY]), closes: flags&elemEnd != 0, catchall: flags&elemCatchall != 0,
		value: dataValue(attrs[unix.NFTA_SET_ELEM_DATA]),
	}
	if end := attrs[elemKeyEnd]; end != nil {
		e.ranged, e.end = true, dataValue(end)
	}
	if v, ok := decodeVerdict(attrs[unix.NFTA_SET_ELEM_DATA]); ok {
		e.verdict = &v
	}
	s.elements = append(s.elements, e)
}
