package bridge

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"muelle/internal/linux/ruleset"
)

// Translations are the ports of this host that somebody else's rules send on: they are
// taken, although no socket is bound to them. The nil value knows of none.
type Translations struct {
	rules *ruleset.Ruleset
	links []string
	local []netip.Addr
}

// What is known of others' rules that change destinations.
const (
	translateUnknown int32 = iota
	translateNothing
	translateSome
)

// Translations reads others' rules, if any of them changes destinations.
func (d *Driver) Translations() (*Translations, error) {
	if d.fw.translate.Load() == translateNothing && !legacyNAT() {
		return nil, nil
	}
	rules, err := readForeign()
	if err != nil {
		return nil, err
	}
	if !d.fw.noteTranslations(rules) {
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

// noteTranslations keeps whether there is anything to look at when a port is published.
func (f *firewall) noteTranslations(rules *ruleset.Ruleset) bool {
	if rules.Translates() {
		f.translate.Store(translateSome)
		return true
	}
	f.translate.Store(translateNothing)
	return false
}

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
				Protocol: protocolNumber(protocol), DestinationPort: host.Port(), ToLocal: true,
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
