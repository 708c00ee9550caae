package exposure

import (
	"net/netip"
	"slices"
	"strings"

	"muelle/internal/linux/ruleset"
	"muelle/internal/network"
)

// Filters are the packet filters of this host and its links, for who asks about single
// ways. They are a copy of one moment.
type Filters struct{ all, others *host }

// ReadFilters looks at rules, addresses and links; with all at the engines' own rules too.
func ReadFilters(snapshot network.Snapshot, all bool) (*Filters, error) {
	var keep func(ruleset.Family, string) bool
	if !all {
		keep = func(_ ruleset.Family, table string) bool { return !ours(table) }
	}
	h, err := readHost(snapshot, keep)
	if err != nil {
		return nil, err
	}
	others := *h
	others.classes = newClasses()
	others.skip = func(c *ruleset.Chain) bool { return !c.Legacy && ours(c.Table) }
	return &Filters{h, &others}, nil
}

func ours(table string) bool { return table == "muelle" || strings.HasPrefix(table, "muelle-") }

// Beside tells whether there is any other firewall than the engines'.
func (f *Filters) Beside() bool {
	return f.all.rules.Programs() || slices.ContainsFunc(f.all.rules.Chains, func(c *ruleset.Chain) bool { return c.Base && !f.others.skip(c) })
}

// Ask sends a packet through the hooks of the other firewalls.
func (f *Filters) Ask(p ruleset.Packet, hooks ...ruleset.Hook) ruleset.Fate {
	return f.others.ask(p, hooks...)
}

// Uplink is an interface with a default route, or ruleset.Somewhere.
func (f *Filters) Uplink() string {
	for _, l := range f.all.links {
		if l.uplink {
			return l.name
		}
	}
	return ruleset.Somewhere
}

// Leads tells whether an interface is a link to other machines, and whether a default
// route goes by it.
func (f *Filters) Leads(name string) (lan, internet bool) {
	for _, l := range f.all.links {
		if l.name == name {
			return len(l.prefixes) > 0, l.uplink
		}
	}
	return false, false
}

// Target is what somebody outside asks for.
type Target struct {
	Protocol string // tcp, udp or sctp
	// Host is an address of this host, perhaps unspecified, and the port; invalid where To
	// is asked for itself.
	Host netip.AddrPort
	// To is the container's address and port that the kernel translates it to, on Bridge;
	// invalid where a socket of the host answers.
	To     netip.AddrPort
	Bridge string
}

// Outside follows packets of the LAN, or of the internet, for a target, through the rules
// of other firewalls, and with all through the engines' own too. A Fate that neither
// passes nor is dropped: there is no such link. Who is on the internet has a public address.
func (f *Filters) Outside(internet, all bool, t Target) ruleset.Fate {
	who, to := Who{LAN: !internet, Internet: internet}, t.inside()
	return alike(f.host(all), who, to, func(h *host) ruleset.Fate {
		s := h.who(to, who, nil)
		fate := ruleset.Fate{Passes: len(s.Pass)+len(s.Open) > 0, Dropped: len(s.Drop)+len(s.Open) > 0, By: s.by}
		if len(s.Drops) > 0 {
			fate.Rule = s.Drops[0]
		}
		return fate
	})
}

// host has the rules that are asked.
func (f *Filters) host(all bool) *host {
	if all {
		return f.all
	}
	return f.others
}

// inside is the target by which packets are made.
func (t Target) inside() target {
	return target{protocol: protocols[t.Protocol], host: t.Host, to: t.To, bridge: t.Bridge, own: !t.Host.IsValid()}
}

// FromHost follows packets of this host's own for one of its addresses through the rules of
// other firewalls.
func (f *Filters) FromHost(t Target) (any ruleset.Fate) {
	to := target{protocol: protocols[t.Protocol], host: t.Host, to: t.To, bridge: t.Bridge}
	for _, a := range f.others.own {
		if !to.hits(a) {
			continue
		}
		fate := f.others.depart(to, a)
		any.Passes, any.Dropped = any.Passes || fate.Passes, any.Dropped || fate.Dropped
		if fate.By != nil {
			any.By, any.Rule = fate.By, fate.Rule
		}
	}
	return any
}

// Protocol gives the number of tcp, udp or sctp; 0 is unknown.
func Protocol(name string) uint8 { return protocols[name] }
