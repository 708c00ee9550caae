package exposure

import (
	"fmt"
	"net/netip"
	"slices"

	"muelle/api"
	"muelle/internal/linux/ruleset"
)

// circle is how many of those in a circle get through.
type circle int

const (
	none circle = iota
	some
	all
)

func circleOf(f ruleset.Fate) circle {
	switch {
	case f.Certain():
		return none
	case f.Dropped:
		return some
	}
	return all
}

// judged fills in who reaches the target, by what is asked of the rules.
func (h *host) judged(p *api.ExposedPort, t target) {
	host := h.fromHost(t)
	lan := h.who(t, Who{LAN: true}, nil)
	world := h.who(t, Who{Internet: true}, public)
	router := h.who(t, Who{Internet: true}, func(a netip.Addr) bool { return !public(a) })
	reached := func(reach string, by *parting) {
		p.Reach, p.Partly, p.Sources = reach, by.circle() == some, nil
		if p.Partly {
			p.Sources = &by.Sources
		}
	}
	switch {
	case world.circle() > none:
		reached(api.ReachEveryone, world)
	case lan.circle() > none:
		reached(api.ReachLAN, lan)
	case host > none:
		p.Reach = api.ReachHost
	default:
		p.Reach = api.ReachNobody
	}
	p.RouterDecides = p.Reach == api.ReachLAN && router.circle() > none
	add := func(text string) {
		if !slices.Contains(p.Because, text) {
			p.Because = append(p.Because, text)
		}
	}
	for _, by := range []*parting{lan, world} {
		if by.circle() < all && len(by.Drops) > 0 {
			add(by.Drops[len(by.Drops)-1])
		}
		for _, rate := range by.Limits {
			add("not more than the limit of " + rate)
		}
	}
	if a := t.host.Addr(); a.IsLoopback() {
		add(fmt.Sprintf("%s is this host's own", a))
	}
}

// hits tells whether the target is behind an address of the host.
func (t target) hits(a netip.Addr) bool {
	if t.own {
		return t.to.Addr().Is4() == a.Is4()
	}
	if t.host.Addr().IsUnspecified() {
		return t.both || t.host.Addr().Is4() == a.Is4()
	}
	return t.host.Addr().WithZone("") == a
}

func (h *host) fromHost(t target) circle {
	best := none
	if t.own {
		return circleOf(h.toContainer(t))
	}
	for _, a := range h.own {
		if !t.hits(a) {
			continue
		}
		best = max(best, circleOf(h.depart(t, a)))
	}
	return best
}
