// Package ruleset reads every packet filter of a network namespace (nftables of all
// families, and the old iptables, which nftables does not show) and tells what becomes
// of a packet that is only partly known: what it certainly meets, and what it may
// meet. It reads and never changes anything.
package ruleset

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Hook is a place on a packet's way: the number that the kernel gives it in the
// families ip, ip6, inet and bridge.
type Hook uint32

// Hooks, from linux/netfilter.h. Ingress is that of inet and netdev, per device.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
	Ingress
	// Egress is that of netdev.
	Egress
)

// Family is a table's family, as nft writes it.
type Family string

// The families that see packets.
const (
	IP     Family = "ip"
	IP6    Family = "ip6"
	Inet   Family = "inet"
	Bridge Family = "bridge"
	Netdev Family = "netdev"
)

// Ruleset is a copy of all rules of a network namespace. It is not changed after
// Read and may be used by several goroutines.
type Ruleset struct {
	// Chains in the order in which a hook asks them: by priority.
	Chains []*Chain
	index  map[string]uint32 // of interfaces, by name
	names  map[uint32]string // by index
	below  below
	// marks: some rule gives packets or connections a mark.
	marks bool
}

// markAt is what is known of a packet's mark at the first of these hooks.
func (r *Ruleset) markAt(hooks []Hook) data {
	begins := len(hooks) > 0 && (hooks[0] == Ingress || hooks[0] == Prerouting || hooks[0] == Output)
	if r.marks && !begins {
		return unknown(4)
	}
	return known(native32(0))
}

// marking tells whether a rule gives packets or connections a mark.
func (r *rule) marking() bool {
	if r.legacy != nil {
		return marking[r.legacy.target]
	}
	return slices.ContainsFunc(r.exprs, func(e expression) bool {
		return e.name == "meta" && e.has(unix.NFTA_META_SREG) && e.u32(unix.NFTA_META_KEY) == unix.NFT_META_MARK ||
			e.name == "ct" && e.has(unix.NFTA_CT_SREG) && e.u32(unix.NFTA_CT_KEY) == unix.NFT_CT_MARK ||
			e.name == "target" && marking[e.text(unix.NFTA_TARGET_NAME)]
	})
}

// marking are the targets of iptables that do.
var marking = map[string]bool{"MARK": true, "CONNMARK": true}

// Chain is a list of rules; a base chain hangs at a hook.
type Chain struct {
	Family Family
	Table  string
	Name   string
	// Base: Hook, Priority, Type ("filter", "nat", "route") and Drops, the policy, have a meaning.
	Base     bool
	Hook     Hook
	Priority int32
	Type     string
	Drops    bool
	// Devices of a chain at the ingress hook.
	Devices []string
	// Legacy: of the old iptables, whose table nft does not show.
	Legacy bool
	rules  []rule
	byName map[string]*Chain // all of its table
	sets   map[string]*set   // all of its table
}

// rule is one line of a chain.
type rule struct {
	exprs  []expression
	legacy *legacyRule
	handle uint64
	// comment that its author gave it.
	comment string
}

// String is the chain as nft would name it, "ip filter FORWARD".
func (c *Chain) String() string {
	if c.Legacy {
		program := "iptables-legacy"
		if c.Family == IP6 {
			program = "ip6tables-legacy"
		}
		return program + " -t " + c.Table + " " + c.Name
	}
	return fmt.Sprintf("%s %s %s", c.Family, c.Table, c.Name)
}

// Rules is how many rules the chain has.
func (c *Chain) Rules() int { return len(c.rules) }

// Chain finds a chain of nftables, nil where there is none.
func (r *Ruleset) Chain(f Family, table, name string) *Chain {
	return r.find(func(c *Chain) bool { return !c.Legacy && c.Family == f && c.Table == table && c.Name == name })
}

// LegacyChain finds a chain of the old iptables.
func (r *Ruleset) LegacyChain(f Family, table, name string) *Chain {
	return r.find(func(c *Chain) bool { return c.Legacy && c.Family == f && c.Table == table && c.Name == name })
}

func (r *Ruleset) find(is func(*Chain) bool) *Chain {
	if i := slices.IndexFunc(r.Chains, is); i >= 0 {
		return r.Chains[i]
	}
	return nil
}

// Sibling is another chain of the same table, nil where there is none.
func (c *Chain) Sibling(name string) *Chain { return c.byName[name] }

// HasPrefix tells whether the chain's table has a chain whose name begins so.
func (c *Chain) HasPrefix(prefix string) bool {
	for name := range c.byName {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// at gives the base chains that a packet of a family meets at a hook, in order.
func (r *Ruleset) at(h Hook, f Family, device string) []*Chain {
	var list []*Chain
	for _, c := range r.Chains {
		if !c.Base || c.Hook != h {
			continue
		}
		switch {
		case h >= Ingress && f != Netdev: // of another device than the packet's
		case h >= Ingress:
			if slices.Contains(c.Devices, device) {
				list = append(list, c)
			}
		case c.Family == f, c.Family == Inet && (f == IP || f == IP6):
			list = append(list, c)
		}
	}
	return list
}

// order sorts by priority; among equals the older table goes first, as in the kernel.
func (r *Ruleset) order() {
	slices.SortStableFunc(r.Chains, func(a, b *Chain) int { return int(a.Priority) - int(b.Priority) })
}

// Programs tells whether any is attached to an interface, which may drop what comes by it.
func (r *Ruleset) Programs() bool { return len(r.below.programs) > 0 }

// Filters tells whether there is any base chain or program at all.
func (r *Ruleset) Filters() bool {
	return r.Programs() || slices.ContainsFunc(r.Chains, func(c *Chain) bool { return c.Base })
}

// JumpsTo tells whether a rule of the chain leads to another of its table.
func (c *Chain) JumpsTo(name string) bool {
	return slices.ContainsFunc(c.rules, func(r rule) bool {
		if r.legacy != nil {
			return r.legacy.verdict.chain == name
		}
		return slices.ContainsFunc(r.exprs, func(e expression) bool {
			v, ok := decodeVerdict(e.attr(unix.NFTA_IMMEDIATE_DATA))
			return ok && e.name == "immediate" && v.chain == name
		})
	})
}
