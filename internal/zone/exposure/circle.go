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

// judge fills in who reaches the target.
func (h *host) judge(p *api.ExposedPort, t target) {
	host := h.fromHost(t)
	lan, lanRule := h.fromLAN(t)
	world, router, worldRule := h.fromWorld(t)
	switch {
	case world > none:
		p.Reach, p.Partly = api.ReachEveryone, world == some
	case lan > none:
		p.Reach, p.Partly = api.ReachLAN, lan == some
	case host > none:
		p.Reach = api.ReachHost
	default:
		p.Reach = api.ReachNobody
	}
	p.RouterDecides = p.Reach == api.ReachLAN && router
	add := func(text string) {
		if !slices.Contains(p.Because, text) {
			p.Because = append(p.Because, text)
		}
	}
	if lan < all && lanRule != "" {
		add(lanRule)
	}
	if world < all && worldRule != "" {
		add(worldRule)
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

func (h *host) fromLAN(t target) (circle, string) {
	best, rule := none, ""
	for _, l := range h.links {
		for _, p := range l.prefixes {
			if !t.hits(p.Addr()) || p.IsSingleIP() {
				continue
			}
			f := h.arrive(t, l.name, p.Masked(), p.Addr())
			if c := circleOf(f); c > best {
				best = c
			}
			if f.Dropped {
				rule = f.Rule
			}
		}
	}
	return best, rule
}

// fromWorld asks for the rest of the internet, by public addresses; router tells
// whether it would get through to a private one.
func (h *host) fromWorld(t target) (world circle, router bool, rule string) {
	for _, l := range h.links {
		if !l.uplink {
			continue
		}
		for _, p := range l.prefixes {
			if !t.hits(p.Addr()) || p.Addr().IsLinkLocalUnicast() {
				continue
			}
			passed, dropped := 0, false
			samples := ruleset.Sample(p.Addr().Is6())
			for _, from := range samples {
				f := h.arrive(t, l.name, from, p.Addr())
				if f.Passes {
					passed++
				}
				if f.Dropped {
					dropped, rule = true, f.Rule
				}
			}
			c := none
			if passed > 0 {
				c = some
				if !dropped {
					c = all
				}
			}
			if public(p.Addr()) {
				world = max(world, c)
			} else {
				router = router || c > none
			}
		}
	}
	return world, router, rule
}
