package ruleset

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// layout is where things are in the tables of ip_tables.h and ip6_tables.h.
type layout struct {
	family            Family
	names             string // the file that lists the tables in use
	domain, level     int
	match             int // size of ipt_ip, ip6t_ip6
	size              int // of ipt_entry, ip6t_entry
	address           int
	in, out           int // offsets of the interfaces
	proto, flags, inv int
}

var layouts = []layout{
	{family: IP, names: "ip_tables_names", domain: unix.AF_INET, level: unix.IPPROTO_IP,
		match: 84, size: 112, address: 4, in: 16, out: 32, proto: 80, flags: 82, inv: 83},
	{family: IP6, names: "ip6_tables_names", domain: unix.AF_INET6, level: unix.IPPROTO_IPV6,
		match: 136, size: 168, address: 16, in: 64, out: 80, proto: 128, flags: 131, inv: 132},
}

// From linux/netfilter_ipv4/ip_tables.h and linux/netfilter/x_tables.h.
const (
	getInfo     = 64 // IPT_SO_GET_INFO, IP6T_SO_GET_INFO
	getEntries  = 65
	tableName   = 32
	hookCount   = 5
	infoBytes   = tableName + 4 + 2*4*hookCount + 4 + 4
	entriesAt   = tableName + 4 + 4 // padded to eight bytes
	xtHeader    = 32
	xtName      = 29
	xtReturn    = -5 // XT_RETURN: -NF_REPEAT - 1
	errorTarget = "ERROR"
)

// eachLegacy calls f with the tables of the old iptables that are in use: one that nobody
// has loaded is not asked for, since that would load it.
func eachLegacy(f func(l layout, table string, info, entries []byte) error) error {
	for _, l := range layouts {
		names, err := os.ReadFile("/proc/thread-self/net/" + l.names)
		if err != nil {
			continue // without the file there are no tables
		}
		for name := range strings.FieldsSeq(string(names)) {
			info, entries, err := l.read(name)
			if err == nil {
				err = f(l, name, info, entries)
			}
			if err != nil {
				return fmt.Errorf("read table %s of iptables (legacy): %w", name, err)
			}
		}
	}
	return nil
}

func (r *Ruleset) readLegacy() error {
	return eachLegacy(func(l layout, table string, info, entries []byte) error {
		chains, err := l.decode(table, info, entries)
		r.Chains = append(r.Chains, chains...)
		return err
	})
}

// LegacyDigest is a number that changes with the rules of the old iptables in the calling
// thread's network namespace, of which the kernel gives no news: zero where there are
// none. What has been counted makes no difference.
func LegacyDigest() (uint64, error) {
	sum := fnv.New64a()
	found := false
	err := eachLegacy(func(l layout, table string, info, entries []byte) error {
		found = true
		for from := uint32(0); int(from) < len(entries); {
			_, next, err := l.entry(entries, from)
			if err != nil {
				return err
			}
			clear(entries[int(from)+l.match+8 : int(from)+l.size]) // comefrom and the counters
			from = next
		}
		fmt.Fprintln(sum, l.family, table, len(entries))
		_, _ = sum.Write(info)
		_, err := sum.Write(entries)
		return err
	})
	if err != nil || !found {
		return 0, err
	}
	return sum.Sum64(), nil
}

func (l layout) read(table string) (info, entries []byte, err error) {
	fd, err := unix.Socket(l.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, nil, fmt.Errorf("open raw socket: %w", err)
	}
	defer unix.Close(fd)
	if len(table) >= tableName {
		return nil, nil, unix.ENAMETOOLONG
	}
	// Between the two questions the table may grow.
	for try := 0; ; try++ {
		info := make([]byte, infoBytes)
		copy(info, table)
		if err := getsockopt(fd, l.level, getInfo, info); err != nil {
			return nil, nil, err
		}
		size := n32(info[infoBytes-4:])
		entries := make([]byte, entriesAt+int(size))
		copy(entries, table)
		copy(entries[tableName:], native32(size))
		err := getsockopt(fd, l.level, getEntries, entries)
		if errors.Is(err, unix.EAGAIN) && try < 3 {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		return info, entries[entriesAt:], nil
	}
}

func getsockopt(fd, level, option int, buf []byte) error {
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

var errMalformed = errors.New("malformed table")

// hookNames are the built-in chains, in the order of their hooks.
var hookNames = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// priorities of the tables, where none is told: linux/netfilter_ipv4.h.
var priorities = map[string]int32{"raw": -300, "mangle": -150, "nat": 100, "filter": 0, "security": 50}

// decode cuts a table into chains. Entries follow one another: those of the hooks
// first, each ending in its policy, and then the user's, each begun by an entry whose
// target ERROR carries its name.
func (l layout) decode(table string, info, entries []byte) ([]*Chain, error) {
	valid := n32(info[tableName:])
	starts, policies := map[uint32]*Chain{}, map[uint32]*Chain{}
	byName := map[string]*Chain{}
	var chains []*Chain
	add := func(c *Chain) *Chain {
		c.Family, c.Table, c.Legacy, c.byName = l.family, table, true, byName
		byName[c.Name] = c
		chains = append(chains, c)
		return c
	}
	for h, name := range hookNames {
		if valid&(1<<h) == 0 {
			continue
		}
		c := add(&Chain{Name: name, Base: true, Hook: Hook(h), Priority: priorities[table], Type: "filter"})
		if table == "nat" && (h == int(Prerouting) || h == int(Output)) {
			c.Priority = -100
		}
		starts[n32(info[tableName+4+4*h:])] = c
		policies[n32(info[tableName+4+4*hookCount+4*h:])] = c
	}
	places := map[uint32]string{} // of the chains' first rules, for jumps
	var current *Chain
	type jump struct {
		rule *legacyRule
		to   uint32
	}
	var jumps []jump
	for from := uint32(0); int64(from) < int64(len(entries)); {
		e, next, err := l.entry(entries, from)
		if err != nil {
			return nil, err
		}
		if c := starts[from]; c != nil {
			current = c
			places[from] = c.Name
		}
		switch {
		case policies[from] != nil:
			policies[from].Drops = e.verdict.kind == verdictDrop
			current = nil
		case e.target == errorTarget && int(next) == len(entries): // the table's end
			current = nil
		case e.target == errorTarget:
			name := cString(e.info)
			current = add(&Chain{Name: name})
			places[next] = name
		case current != nil:
			// The last entry of a chain of the user's returns.
			r := e.legacyRule
			current.rules = append(current.rules, rule{legacy: &r, comment: e.comment()})
			if e.jumps {
				jumps = append(jumps, jump{&r, e.to})
			}
		}
		from = next
	}
	for _, j := range jumps {
		j.rule.verdict.chain = places[j.to]
	}
	return chains, nil
}

// entry is what one entry of a table says.
type entry struct {
	legacyRule
	// jumps: the verdict leads to the entry at to.
	jumps bool
	to    uint32
}

func (e *entry) comment() string {
	for _, m := range e.matches {
		if m.name == "comment" {
			return cString(m.info)
		}
	}
	return ""
}

func cString(b []byte) string {
	text, _, _ := strings.Cut(string(b), "\x00")
	return text
}

func (l layout) entry(entries []byte, from uint32) (entry, uint32, error) {
	var none entry
	if int64(from)+int64(l.size) > int64(len(entries)) {
		return none, 0, errMalformed
	}
	b := entries[from:]
	// After the packet's match come nfcache, target_offset, next_offset.
	at := l.match + 4
	target, next := int(n16(b[at:])), int(n16(b[at+2:]))
	if target < l.size || next < target+xtHeader || next > len(b) {
		return none, 0, errMalformed
	}
	a := l.address
	e := entry{legacyRule: legacyRule{
		v6:     l.family == IP6,
		source: netMatch{address: b[0:a], mask: b[2*a : 3*a]}, dest: netMatch{address: b[a : 2*a], mask: b[3*a : 4*a]},
		in: ifMatch{name: b[l.in : l.in+16], mask: b[l.out+16 : l.out+32]}, out: ifMatch{name: b[l.out : l.out+16], mask: b[l.out+32 : l.out+48]},
		protocol: b[l.proto], flags: b[l.flags], inverts: b[l.inv],
	}}
	if l.family == IP6 && e.flags&1 == 0 {
		e.protocol = 0 // IP6T_F_PROTO says whether it is compared
	}
	for at := l.size; at < target; {
		name, revision, info, size, err := extension(b[at:target])
		if err != nil {
			return none, 0, err
		}
		e.matches = append(e.matches, legacyMatch{name, revision, info})
		at += size
	}
	name, _, info, _, err := extension(b[target:next])
	if err != nil {
		return none, 0, err
	}
	if name != "" {
		e.target, e.info = name, info
		return e, from + uint32(next), nil
	}
	if len(info) < 4 {
		return none, 0, errMalformed
	}
	e.standard(int32(n32(info)), from+uint32(next))
	return e, from + uint32(next), nil
}

// standard reads the verdict of a standard target: a chain to jump to, where it is
// not negative; the next entry is none.
func (e *entry) standard(code int32, next uint32) {
	isGoto := e.flags&0x02 != 0 // IPT_F_GOTO
	if e.v6 {
		isGoto = e.flags&0x04 != 0 // IP6T_F_GOTO
	}
	switch {
	case code >= 0 && uint32(code) == next:
	case code >= 0:
		e.jumps, e.to, e.verdict.kind = true, uint32(code), verdictJump
		if isGoto {
			e.verdict.kind = verdictGoto
		}
	case code == -1: // NF_DROP
		e.verdict.kind = verdictDrop
	case code == xtReturn:
		e.verdict.kind = verdictReturn
	default:
		e.verdict.kind = verdictAccept
	}
}

// extension reads a match or target: its length, name, revision and data.
func extension(b []byte) (name string, revision uint32, info []byte, size int, err error) {
	if len(b) < xtHeader {
		return "", 0, nil, 0, errMalformed
	}
	size = int(n16(b))
	if size < xtHeader || size > len(b) {
		return "", 0, nil, 0, errMalformed
	}
	return cString(b[2 : 2+xtName]), uint32(b[xtHeader-1]), b[xtHeader:size], size, nil
}
