package bridge

import (
	"fmt"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"
	"net"

	"muelle/internal/linux/nft"
	"muelle/internal/policy"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// following is an address that a name stands for.
type following struct {
	// entries of the zone's list by which it is open.
	entries []string
	until   time.Time
}

// keepNames forgets addresses whose names a zone no longer lists.
func (f *firewall) keepNames(b bridgeRules) {
	_, asked := policy.Destinations(b.zone.zone)
	kept := map[netip.Addr]following{}
	for a, n := range f.names[b.name] {
		n.entries = slices.DeleteFunc(slices.Clone(n.entries), func(e string) bool { return !slices.Contains(asked, e) })
		if len(n.entries) > 0 {
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

// mostFollowed is how many addresses of names one network has open: who answers for a
// name may give as many as he likes.
const mostFollowed = 16384

// Admit lets the containers of a network send to what a name of its zone's list
// stands for, for as long as the answer may be kept. It refuses addresses that no name
// opens: the host's own, other networks', and those that are never far.
func (d *Driver) Admit(bridge, name string, addrs []netip.Addr, ttl time.Duration) error {
	ttl = min(max(ttl, shortestFollow), longestFollow)
	f := d.fw
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.names[bridge] == nil {
		f.names[bridge] = map[netip.Addr]following{}
	}
	known, now := f.names[bridge], time.Now()
	var wanted []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		// What is known for long enough needs no transaction.
		if k, ok := known[a]; ok && k.until.Sub(now) > ttl/2 {
			known[a] = f.also(k, bridge, name)
			continue
		}
		if !a.IsLoopback() && !a.IsUnspecified() { // the container's own
			wanted = append(wanted, a)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if err := f.mayFollow(bridge, name, wanted); err != nil {
		return err
	}
	for a, k := range known {
		if k.until.Before(now) {
			delete(known, a)
		}
	}
	if len(known)+len(wanted) > mostFollowed {
		return fmt.Errorf("the names of its zone stand for more than %d addresses", mostFollowed)
	}
	fresh := wanted[:0]
	for _, a := range wanted {
		if k := f.also(known[a], bridge, name); k.until.Before(now.Add(ttl)) {
			k.until = now.Add(ttl)
			known[a], fresh = k, append(fresh, a)
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

// also notes the entry of the list that a name is meant by.
func (f *firewall) also(k following, bridge, name string) following {
	_, asked := policy.Destinations(f.bridges[bridge].zone.zone)
	for _, e := range asked {
		if policy.Names(e, name) && !slices.Contains(k.entries, e) {
			k.entries = append(slices.Clone(k.entries), e)
		}
	}
	return k
}

// metadata are clouds' addresses for machines' credentials that are not link-local:
// AWS's by IPv6, Alibaba's, Oracle's.
var metadata = [...]netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"),
}

// mayFollow refuses answers by which somebody else's name would open what is not his to
// open (DNS rebinding). A zone may still list such an address itself.
func (f *firewall) mayFollow(bridge, name string, addrs []netip.Addr) error {
	own := f.bridges[bridge].zone
	static, _ := policy.Destinations(own.zone)
	local := map[netip.Addr]bool{}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			local[p.Addr()] = true
		}
	}
	for _, a := range addrs {
		what := ""
		switch {
		case own.has(a) || slices.ContainsFunc(static, func(p netip.Prefix) bool { return p.Contains(a) }):
		case a.IsLinkLocalUnicast():
			what = "is on the link only"
		case a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			what = "is a group"
		case local[a]:
			what = "is this host's"
		case slices.Contains(metadata[:], a):
			what = "is a cloud's for machines' credentials"
		default:
			for _, b := range f.bridges {
				if b.zone.has(a) {
					what = "is on another network of this host"
				}
			}
		}
		if what != "" {
			return fmt.Errorf("%s stands for %s, which %s and not opened by a name: list the address itself in egress, if you mean it", name, a, what)
		}
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
		elements, err := nft.SetElements(c, set)
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
