package exposure

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"muelle/internal/linux/rtnl"
	"muelle/internal/linux/ruleset"
	"muelle/internal/network"
)

// host is what decides who reaches it.
type host struct {
	rules *ruleset.Ruleset
	// forwards6: IPv6 of others is sent on.
	forwards6 bool
	// own are all addresses of the host.
	own   []netip.Addr
	links []link
	// skip leaves chains out.
	skip func(*ruleset.Chain) bool
	// alike notes what is asked of the target that is being judged; classes are those that
	// were judged before. Both may be nil.
	alike   *ruleset.Alike
	classes *classes
}

func (h *host) ask(p ruleset.Packet, hooks ...ruleset.Hook) ruleset.Fate {
	return h.rules.AskAlike(h.alike, p, h.skip, hooks...)
}

// link is an interface to others.
type link struct {
	name string
	// prefixes are its addresses with the networks that they are in.
	prefixes []netip.Prefix
	// uplink: a default route goes through it.
	uplink bool
}

// virtual begins the names of interfaces behind which is nothing but this host:
// bridges of container engines and of virtual machines.
var virtual = []string{"docker0", "br-", "virbr", "cni", "podman", "lxcbr", "lxdbr", "incusbr", "nerdctl", "veth", "mue"}

func (h *host) readLinks(ours map[string]bool) error {
	uplinks, err := rtnl.DefaultInterfaces()
	if err != nil {
		return err
	}
	list, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	of, err := rtnl.Addresses() // net.Interface would ask for all of them for each
	if err != nil {
		return err
	}
	for _, i := range list {
		l := link{name: i.Name, uplink: slices.Contains(uplinks, i.Name), prefixes: of[i.Index]}
		for _, p := range l.prefixes {
			h.own = append(h.own, p.Addr())
		}
		behind := slices.ContainsFunc(virtual, func(prefix string) bool { return strings.HasPrefix(i.Name, prefix) })
		if i.Flags&net.FlagLoopback != 0 || i.Flags&net.FlagUp == 0 || ours[i.Name] || behind && !l.uplink {
			continue
		}
		h.links = append(h.links, l)
	}
	return nil
}

// reserved are the prefixes that look global and are not: RFC 6890.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("3fff::/20"), netip.MustParsePrefix("100::/64"),
}

// public tells addresses that the whole internet can send to.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(a) })
}

// readHost looks at addresses and at the rules of the tables that keep, which may be nil,
// lets through.
func readHost(snapshot network.Snapshot, keep func(ruleset.Family, string) bool) (*host, error) {
	rules, err := ruleset.Read(keep)
	if err != nil {
		return nil, err
	}
	h := &host{rules: rules, classes: newClasses(), forwards6: rtnl.SysctlIs("ipv6/conf/all/forwarding", 1)}
	ours := map[string]bool{}
	for _, n := range snapshot.Networks {
		ours[n.Interface] = n.Interface != ""
	}
	return h, h.readLinks(ours)
}
