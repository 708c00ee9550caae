package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"

	"muelle/internal/linux/ruleset"
)

// Translations are the ports of this host that somebody else's rules send on: they are
// taken, although no socket is bound to them. The nil value knows of none.
type Translations struct {
	rules *ruleset.Ruleset
	links []string
	local []netip.Addr
}

// Translations reads others' rules, if any of them changes destinations.
func (d *Driver) Translations() (*Translations, error) {
	if d.fw.translators.none() && !legacyNAT() {
		return nil, nil
	}
	at := d.fw.translators.now()
	rules, err := readForeign()
	if err != nil {
		return nil, err
	}
	if !d.fw.translators.note(at, rules) {
		return nil, nil
	}
	t := &Translations{rules: rules}
	for _, link := range uplinks() {
		if link == ruleset.Somewhere {
			// A name that no rule knows: what matters is that it is none of an engine's bridges.
			link = "elsewhere"
		}
		t.links = append(t.links, link)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			t.local = append(t.local, p.Addr())
		}
	}
	return t, nil
}

// translators is whether any of others' rules changes destinations, as far as that is
// known: while their changes are followed, and until the next one.
type translators struct {
	followed atomic.Bool
	// changes counts them; unused is the count from before a reading that found no such
	// rule, and one more.
	changes, unused atomic.Int64
}

// none tells that there is nothing to look at when a port is published.
func (t *translators) none() bool { return t.followed.Load() && t.unused.Load() == t.now()+1 }

// now is to be asked before rules are read: what changes meanwhile is not in them.
func (t *translators) now() int64 { return t.changes.Load() }

// note keeps what was read, and tells whether any rule changes destinations.
func (t *translators) note(at int64, rules *ruleset.Ruleset) bool {
	if rules.Translates() {
		t.unused.Store(0)
		return true
	}
	t.unused.Store(at + 1)
	return false
}

// follow says whether changes are heard of from now on.
func (t *translators) follow(on bool) {
	t.changed()
	t.followed.Store(on)
}

// changed makes what is known out of date.
func (t *translators) changed() { t.changes.Add(1) }

// legacyNAT: the old iptables tells nobody of its changes, but which tables are in use.
func legacyNAT() bool {
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		names, err := os.ReadFile("/proc/thread-self/net/" + name)
		if err == nil && strings.Contains(string(names), "nat") {
			return true
		}
	}
	return false
}

// Of says who has a port at an address of the host, or at any of them where that is
// unspecified: "" where it goes to nobody else for certain.
func (t *Translations) Of(protocol string, host netip.AddrPort) string {
	if t == nil {
		return ""
	}
	at := []netip.Addr{host.Addr()}
	if host.Addr().IsUnspecified() {
		at = t.local
	}
	for _, addr := range at {
		if addr.Is6() != host.Addr().Is6() {
			continue
		}
		for _, link := range t.links {
			by := t.rules.Translated(ruleset.Packet{
				In: link, V6: addr.Is6(), Destination: netip.PrefixFrom(addr, addr.BitLen()),
				Protocol: ruleset.Protocol(protocol), DestinationPort: host.Port(), ToLocal: true,
			}, nil)
			if by != nil {
				return translator(by)
			}
		}
	}
	return ""
}

func translator(by *ruleset.Translation) string {
	to := ""
	if by.To.Addr().IsValid() {
		to = by.To.String()
		if by.To.Port() == 0 {
			to = by.To.Addr().String()
		}
	}
	switch {
	case to != "" && by.By.Sibling("DOCKER") != nil && strings.Contains(by.Rule, " DOCKER"):
		return "Docker's container at " + to
	case to != "":
		return by.Rule + ", which sends it to " + to
	}
	return by.Rule + ", which sends it elsewhere"
}
