package exposure

import (
	"net/netip"
	"sync"

	"muelle/api"
	"muelle/internal/linux/ruleset"
)

// shape is what is asked, and what is known of the target beside the values that classes
// leave open.
type shape struct {
	who              Who
	protocol         uint8
	host             netip.Addr
	bridge           string
	both, own        bool
	to               int  // bits of its address, 0 where there is none
	hostPort, toPort bool // there is one
}

// class are targets of one shape of which the rules do not tell the difference.
type class struct {
	alike *ruleset.Alike
	// answer for all of them.
	answer any
}

// classes are those that were asked for before. They are of one moment, as the rules are.
type classes struct {
	mu    sync.Mutex
	known map[shape][]class
}

// mostClasses of one shape are remembered.
const mostClasses = 512

func newClasses() *classes { return &classes{known: map[shape][]class{}} }

func (c *classes) find(s shape, v ruleset.Values) (answer any, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.known[s]
	for i := range list {
		if list[i].alike.Holds(v) {
			return list[i].answer, true
		}
	}
	return nil, false
}

func (c *classes) add(s shape, one class) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known[s]) < mostClasses {
		c.known[s] = append(c.known[s], one)
	}
}

// alike gives what was found for another target, where all that the rules asked of that has
// the same answers for this one, or else what find finds. Of a target find may look at
// nothing but what is in its shape, and put the rest into packets.
func alike[T any](h *host, who Who, t target, find func(*host) T) T {
	if h.classes == nil || t.to.Addr().Is4In6() || t.to.Addr().Zone() != "" {
		return find(h)
	}
	v := ruleset.Values{HostPort: t.host.Port(), TargetPort: t.to.Port(), TargetAddress: t.to.Addr()}
	s := shape{who, t.protocol, t.host.Addr(), t.bridge, t.both, t.own, v.TargetAddress.BitLen(), v.HostPort != 0, v.TargetPort != 0}
	if answer, ok := h.classes.find(s, v); ok {
		return answer.(T)
	}
	asking := *h
	asking.alike = ruleset.NewAlike(v)
	answer := find(&asking)
	h.classes.add(s, class{asking.alike, answer})
	return answer
}

// judge fills in who reaches the target.
func (h *host) judge(p *api.ExposedPort, t target) {
	as := alike(h, Who{}, t, func(h *host) (as api.ExposedPort) {
		h.judged(&as, t)
		return as
	})
	p.Reach, p.Partly, p.Sources, p.RouterDecides, p.Because = as.Reach, as.Partly, as.Sources, as.RouterDecides, as.Because
}
